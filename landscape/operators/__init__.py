"""Curvature matrices, one file each: `prepare(problem, vector, batch)` returns the product of that batch's matrix.

`prepare` does the work that one mini-batch needs once; the function it returns multiplies blocks (size, b) as often
as asked. The data loop, the weighting of batches, precision, ranks and checks live in `landscape.curvature`, once.

A file asks for more by naming it:

- `prepare(..., first, seed)`: the number of the batch's first sample in the problem, and the seed of random draws, so
  that a draw belongs to a sample, whatever the batches and the ranks;
- `scale(problem, checkpoint)`: a positive vector s (size,); the operator is then diag(s) A diag(s), A the mean of the
  batches. The checkpoint offers `step`, `optimizer_state()` and its `run`.
- `difference(problem, vector, batch, v, step, first, seed)`: the unscaled product of one batch with v (size,) from
  first differences only; where it is offered, a job holds the operator against it before it starts.

Blocks of weights (`Problem.restricted`) and sums (`landscape.combination`) work for every file by themselves.
"""
