"""Curvature matrices, one file each: `form(problem, vector, batch)` says what the matrix of one batch is.

It returns `HessianOf(f)`, the Hessian of a function of the weights, or `GaussNewtonOf(values, outer)`, and every
strategy of the engine follows from that. A matrix that is neither offers `prepare(problem, vector, batch)`
instead: it does the work that one mini-batch needs once, and the function that it returns multiplies blocks (size, b).
The data loop, the weighting of batches, precision, strategies, ranks and checks live elsewhere, once.

A file asks for more by naming it:

- `form(..., first, seed)`: the number of the batch's first sample in the problem, and the seed of random draws, so
  that a draw belongs to a sample, whatever the batches and the ranks;
- `scale(problem, checkpoint)`: a positive vector s (size,); the operator is then diag(s) A diag(s), A the mean of the
  batches. The checkpoint offers `step`, `optimizer_state()` and its `run`.
- `difference(problem, vector, batch, v, step, first, seed)`: the unscaled product of one batch with v (size,) from
  first differences only; where it is offered, a job holds the operator against it before it starts.
- `semidefinite(problem)`: whether it is known beforehand that no eigenvalue is negative, which spares a search for one
  and says of a density that nothing lies below zero.

Blocks of weights (`Problem.restricted`) and sums (`landscape.engine.combination`) work for every file by themselves.
"""
