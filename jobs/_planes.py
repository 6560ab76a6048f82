"""The plane that a surface is asked for: options, name, and what a kind of plane reads from the run's records."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape import plugins
from landscape.errors import ProblemError, UsageError

KINDS = "landscape.jobs.planes"


@dataclass(frozen=True)
class Request:
    """What a plane is made from: `usable` are the run's checkpoints, `origin` the one that the plane goes through."""

    args: argparse.Namespace
    store: Any
    problem: Any
    usable: list[Any]
    origin: Any
    others: list[tuple[str, list[Any]]]  # of --with: run or run@step, and usable checkpoints up to the one asked for

    @property
    def vector(self) -> Any:
        """The weights at the origin, (size,)."""
        return self.problem.vector_from(self.origin.state())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = plugins.names(KINDS)
    parser.add_argument("--plane", choices=names, default="pca", help="default: pca")
    group = parser.add_argument_group("plane")
    group.add_argument("--pair", type=pair, metavar="I,J",
                       help="eigenvectors or principal components: 1 largest, -1 smallest (default: 1,2)")  # fmt: skip
    group.add_argument("--operator", default="hessian", help="whose eigenvectors span the plane (default: hessian)")
    group.add_argument("--with", dest="others", nargs="+", default=[], metavar="RUN",
                       help="other runs, RUN or RUN@STEP: pca spans all paths, minima goes through three")  # fmt: skip
    group.add_argument("--line", type=int, choices=(1, 2), help="only the line along axis 1 or 2 of the plane")
    for name in names:
        kind = plugins.load(KINDS, name)
        if hasattr(kind, "add_arguments"):
            kind.add_arguments(group)


def pair(text: str) -> tuple[int, int]:
    """'1,3' as (1, 3)."""
    found = re.fullmatch(r"\s*(-?[1-9]\d*)\s*,\s*(-?[1-9]\d*)\s*", text)
    if found is None or found[1] == found[2]:
        raise argparse.ArgumentTypeError(f"'{text}' is no pair of different numbers such as 1,3 or 1,-1")
    return int(found[1]), int(found[2])


def number(text: str) -> int:
    """The number of an eigenvector: 1, 2, ... from the largest, -1, -2, ... from the smallest."""
    if re.fullmatch(r"\s*-?[1-9]\d*\s*", text) is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no eigenvector's number such as 1, 2 or -1")
    return int(text)


def _ask(args: argparse.Namespace, function: str, otherwise: Any) -> Any:
    """What the kind's file says, if it says anything."""
    return getattr(plugins.load(KINDS, args.plane), function, lambda _args: otherwise)(args)


def check(args: argparse.Namespace) -> None:
    """Refuse options that the kind of plane does not read, rather than ignore them.

    Raises:
        UsageError: there is one.
    """
    reads = getattr(plugins.load(KINDS, args.plane), "READS", ())
    given = {"--pair": args.pair is not None, "--with": bool(args.others), "--operator": args.operator != "hessian",
             "--align": getattr(args, "align", False)}
    for option in (name for name, is_given in given.items() if is_given and name not in reads):
        raise UsageError(f"--plane {args.plane} does not read {option}; leave it out or choose another plane")


def name_of(args: argparse.Namespace) -> str:
    """What records call the plane: 'eigen', or 'eigen.1.3' for a variant."""
    line = f"line{args.line}" if args.line else ""
    return ".".join(part for part in (args.plane, _ask(args, "variant", ""), line) if part)


def make(request: Request) -> Any:
    """The plane, on the line's axis first where only a line is asked for."""
    args = request.args
    made = plugins.load(KINDS, args.plane).plane(request, _ask(args, "variant", ""))
    return made.line(args.line - 1) if args.line else made


# ------------------------------------------------------------------ other runs


def letters(name: str) -> str:
    """A run's name as part of a record's name."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "run"


def run_of(word: str) -> tuple[str, str]:
    """'runs/b@120' as ('runs/b', '120'); no step means 'last'. A directory whose name holds an @ is itself."""
    place, at, step = word.rpartition("@")
    if at and step.isdigit() and not Path(word).exists():
        return place, step
    return word, "last"


def other_names(words: Sequence[str]) -> list[str]:
    """What the other runs are called: their directory's name, with the step where one is given."""
    found = []
    for word in words:
        place, step = run_of(word)
        found.append(letters(Path(place).resolve().name) + ("" if step == "last" else f"_{step}"))
    return found


def other_runs(args: argparse.Namespace, usable: Callable[[Sequence[Any]], list[Any]]) -> list[tuple[str, list[Any]]]:
    """(name, usable checkpoints up to the one asked for) of every other run.

    Raises:
        ProblemError: no such run or checkpoint.
    """
    from landscape.loss.checkpoints import of_run
    from landscape.stores.run_directory import Run

    found = []
    for word in args.others:
        place, step = run_of(word)
        run = Run(place)
        last = of_run(run, step)[-1].step
        checkpoints = usable([c for c in of_run(run, "all") if c.step <= last])
        if not checkpoints:
            raise ProblemError(f"no checkpoint of '{run.root}' has finite weights")
        found.append((run.name if step == "last" else f"{run.name}@{step}", checkpoints))
    return found


# ------------------------------------------------------------------ stored eigenvectors


@dataclass(frozen=True)
class Eigenvectors:
    """The stored eigenvectors of an operator at a checkpoint, in weight space, with how they are called."""

    vectors: Any  # (k, size)
    values: list[float]
    residuals: list[float]
    numbers: list[int]  # 1, 2, ... from the largest, -1, -2, ... from the smallest
    scale: Any = None  # P^-1/2 (size,) where the vectors live in the coordinates P^1/2 theta

    def row(self, number: int) -> int:
        """The row of an eigenvector.

        Raises:
            UsageError: it was not computed.
        """
        if number not in self.numbers:
            have = f"1 to {max(self.numbers, default=0)}, and from the smallest -1 to {min(*self.numbers, 0)}"
            option = "--top" if number > 0 else "--bottom"
            raise UsageError(f"eigenvector {number} is not among those stored ({have}); compute more with {option}")
        return self.numbers.index(number)

    def in_weights(self, number: int) -> Any:
        """One eigenvector in weight space, (size,); not of unit length where it was mapped."""
        import torch

        vector = torch.as_tensor(self.vectors[self.row(number)])
        return vector if self.scale is None else vector.double() * self.scale


def eigenvectors(request: Request) -> Eigenvectors:
    """The stored eigenvectors of the operator at the origin.

    Raises:
        ProblemError: there are none.
    """
    from landscape.records import eigenpairs_key

    args, step = request.args, request.origin.step
    key = eigenpairs_key(args.operator, step)
    pairs = request.store.read(key, large=True) if request.store.has(key) else None
    if pairs is None or pairs.vectors is None:
        operator = "" if args.operator == "hessian" else f" --operator '{args.operator}'"
        raise ProblemError(
            f"'{request.store.root}' has no {args.operator} eigenvectors at step {step}; compute them first: "
            f"landscape spectrum {request.store.root} --checkpoints {step}{operator}"
        )
    top, low = len(pairs.values), len(pairs.lowest_values)
    return Eigenvectors(
        _embedded(pairs.vectors, request.problem, pairs.meta.get("weights")),
        [*map(float, pairs.values), *map(float, pairs.lowest_values)],
        [*map(float, pairs.residuals), *map(float, pairs.lowest_residuals)],
        [*range(1, top + 1), *range(-1, -low - 1, -1)],
        _metric(args.operator, request.problem, request.origin),
    )


def _metric(operator: str, problem: Any, checkpoint: Any) -> Any:
    """P^-1/2 (size,) of an operator in the metric of the optimizer; None of one in the weights' own.

    Raises:
        ProblemError: a sum of operators of both sorts, whose eigenvectors live in neither.
    """
    from landscape.engine import combination
    from landscape.engine.curvature import scale_of

    words = operator.partition("[")[0].strip("()")
    scales = [scale_of(name, problem, checkpoint) for _, name in combination.read(words)]
    if any(s is None for s in scales) and not all(s is None for s in scales):
        raise ProblemError(f"'{operator}' adds operators in two metrics, so its eigenvectors span no plane of weights")
    return scales[0]


def _embedded(vectors: Any, problem: Any, weights: list[str] | None) -> Any:
    """Vectors of a block of weights with zeros for all others; vectors of all weights as they are."""
    import numpy as np

    if weights is None:
        return vectors
    inside = [np.full(place.stop - place.start, name in weights) for name, _, place in problem.named_slices()]
    full = np.zeros((len(vectors), problem.size), dtype=vectors.dtype)
    full[:, np.concatenate(inside)] = vectors
    return full
