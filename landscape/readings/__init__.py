"""What is read off stored records: densities, bounds, error bars, stability, following. No torch, no MPI."""
