"""Run under mpirun: the spectrum of the trained digits MLP, written by rank 0 to the file named first.

Arguments: file, dtype, operator and, where only a block of weights is meant, its pattern."""

from __future__ import annotations

import sys

import numpy as np
import torch
from exact import AdamCheckpoint, mlp_problem

from landscape import findings, parallel
from landscape.spectrum import spectrum_at

target, dtype, operator = sys.argv[1:4]
comm = parallel.world()
parallel.set_threads(None, comm)
problem = mlp_problem(getattr(torch, dtype), hidden=16, epochs=10, samples=1000, batch_size=128)
problem = problem.restricted(*sys.argv[4:]) if sys.argv[4:] else problem
checkpoint = AdamCheckpoint(problem)
findings.gradient = lambda *_: {}  # one more reduce-scatter a checkpoint: here products are counted
before = comm.traffic.copy()
spectrum, pairs = spectrum_at(problem, problem.weights(), comm, operator=operator, checkpoint=checkpoint, check=False)
traffic = comm.traffic.since(before)
a_product = traffic.a_product()
# The last vectors are multiplied one at a time, so bytes are told by the vector.
vectors = traffic.calls.get("reduce_scatter", 0) / spectrum.meta["matvecs"]
sent = comm.gather([a_product["collectives"], a_product["messages"], a_product["bytes"] * vectors, a_product["sums"]])
if comm.rank == 0:
    np.savez(
        target, nodes=spectrum.nodes, weights=spectrum.weights, values=pairs.values,
        lowest=pairs.lowest_values, vectors=pairs.vectors, ranks=comm.size, sent=sent,
        size=spectrum.size,
    )
