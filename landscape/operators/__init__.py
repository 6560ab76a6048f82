"""Curvature matrices, one file each: `prepare(problem, vector, batch)` returns the product of that batch's matrix.

`prepare` does the work that one mini-batch needs once; the function it returns multiplies blocks (size, b) as often
as asked. The data loop, the weighting of batches, precision, ranks and checks live in `landscape.curvature`, once.
"""
