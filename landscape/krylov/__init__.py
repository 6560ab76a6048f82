"""Block Lanczos on sharded vectors: products in, Ritz pairs out. It knows no network and no MPI."""
