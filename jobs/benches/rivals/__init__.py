"""Other people's engines, one adapter a file; they are run side by side when installed, never copied from.

A file has `MODULE` and `DISTRIBUTION` (what is imported, what pip calls it) and as many of these as the engine offers:

- `product(case) -> (block (size, b) -> (size, b))`, with `BLOCKS = True` where it multiplies vectors at once;
- `top(case, count, seed, **effort) -> Pairs` with `EFFORTS`, settings of growing effort, the first its default;
- `slq(case, probes, iterations, seed) -> Estimate`, with `COMPILES = True` where the first call compiles.

Whatever an engine raises becomes a row of the table.
"""
