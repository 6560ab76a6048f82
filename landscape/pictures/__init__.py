"""Videos, paper figures and VTK files from stored records, with matplotlib. No torch, no Dash."""
