"""What recursion does for a neural programmer-interpreter that adds: generalisation, its proof, and the landscapes.

  landscape bench npi
  landscape bench npi --seeds 5 --markdown docs/benchmarks.md

Both networks start from the same weights and train on traces of the same additions of up to three digits. Verified: the
share of the finite set of calls that recursive addition can need at all; all of them right is a proof for every length.
Right: of random additions of every length from 1 to 50 digits, done by the network itself. The barrier is that of the
straight line between the two networks, on either loss.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _common

if TYPE_CHECKING:
    from landscape.loss.problem import Problem

    from ._tables import Row, Table

LONGEST = 50
POINTS = 11  # on the line between two networks
KINDS = {True: "recursive", False: "looping"}

Numbers = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_common.positive, default=3, help="trainings a row (default: 3)")
    parser.add_argument("--steps", type=_common.positive, default=800, help="of Adam (default: 800)")
    parser.add_argument("--count", type=_common.positive, default=3, help="additions of every length (default: 3)")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    if args.quick:
        args.seeds, args.steps, args.count = 1, 2, 1
    rows: list[Numbers] = []
    yield Table(f"Addition, 24,536 weights, 150 traces, Adam 0.01, batches of 256 calls, {args.steps} steps", {
        "seed": "d", "traces": "", "loss": ".4f", "steps right": ".4f", "verified": ".4%", "right, 1-50 digits": ".3f",
        "shortest failure": "", "lambda_max": ".3f", "trace": ".2f", "barrier to the other": ".3f",
    }, _rows(args, rows))  # fmt: skip
    yield Table("Claims", {"claim": "", "value": "", "holds": ""}, _claims(rows))


def _rows(args: argparse.Namespace, found: list[Numbers]) -> Iterator[Row]:
    for seed in range(args.seed, args.seed + args.seeds):
        pair = {kind: _trained(kind, seed, args.steps) for kind in KINDS}
        for kind, problem in pair.items():
            row = _measured(problem, args) | {"kind": kind, "barrier": _barrier(problem, pair[not kind])}
            found.append(row)
            failure = str(row["failure"]) if row["failure"] else "none"
            yield (seed, KINDS[kind], row["loss"], row["accuracy"], row["verified"], row["right"], failure,
                   row["sharpness"], row["trace"], row["barrier"])  # fmt: skip


def _trained(recursive: bool, seed: int, steps: int) -> Problem:
    from landscape.learning.training import MiniBatches, make_optimizer, train_step
    from landscape.loss.loading import build_problem

    problem = build_problem("addition_npi", {"recursive": recursive, "seed": seed})
    optimizer, batches = make_optimizer("adam", problem.model, {"lr": 0.01}), MiniBatches(problem, 256, seed)
    for step in range(steps):
        train_step(problem, optimizer, batches.at(step))
    return problem


def _measured(problem: Problem, args: argparse.Namespace) -> Numbers:
    from landscape.problems.addition_npi import accuracy, verified

    from ._curvature import sharpness_and_trace

    right, total = verified(problem.model)
    lengths = range(1, 4) if args.quick else range(1, LONGEST + 1)
    shares = {n: accuracy(problem.model, n, args.count, args.seed) for n in lengths}
    top, trace = sharpness_and_trace(problem)
    failures = [n for n, share in shares.items() if share < 1]
    return {
        **problem.evaluate(problem.weights()), "verified": right / total, "right": statistics.mean(shares.values()),
        "failure": min(failures, default=None), "sharpness": top, "trace": trace,
    }  # fmt: skip


def _barrier(problem: Problem, other: Problem) -> float:
    """Largest loss above the chord on the straight line from one network to the other, on the first one's loss."""
    here, there = problem.weights(), other.weights()
    t = [i / (POINTS - 1) for i in range(POINTS)]
    losses = [problem.evaluate(here + s * (there - here))["loss"] for s in t]
    return max(loss - (1 - s) * losses[0] - s * losses[-1] for s, loss in zip(t, losses, strict=True))


def _claims(rows: list[Numbers]) -> Iterator[Row]:
    recursive, looping = ([row for row in rows if row["kind"] is kind] for kind in (True, False))
    share = min(row["right"] for row in recursive)
    yield f"With recursion every addition of 1 to {LONGEST} digits is right", f"{share:.3f} at least", share == 1
    proved = sum(row["verified"] == 1 for row in recursive)
    yield ("and the verification set is right as a whole: a proof for all lengths", f"{proved} of {len(recursive)} "
           "networks", proved == len(recursive))  # fmt: skip
    failing = sum(row["failure"] is not None for row in looping)
    yield ("Without recursion some length is not", f"{failing} of {len(looping)} networks", failing == len(looping))
    ratio = statistics.mean(a["sharpness"] / b["sharpness"] for a, b in zip(recursive, looping, strict=True))
    yield "lambda_max, recursive over looping (reported)", f"{ratio:.2f}", None
