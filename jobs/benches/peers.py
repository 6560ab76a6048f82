"""Other engines side by side with ours: a product, ten eigenpairs, a density; and our ratio to the best of them.

  pip install -e '.[peers]' -c constraints        # constraints: the torch that is installed, e.g. torch==2.13.0
  landscape bench peers
  landscape bench peers digits_mlp --engines curvlinops matfree

Every engine of jobs/benches/rivals/ that is installed runs in this process on the same data, in one batch; what is
missing or raises is a row that says so. Our strategy is chosen for a job of 800 products; choosing, compiling and the
graphs that stay are in `first call`. `equal accuracy` is the cheapest of an engine's settings that reaches our
residual, which nobody knows beforehand. W1 is the Wasserstein-1 distance to the dense float64 spectrum over its range:
of nodes and weights, and of the density as the engine draws it by default. Attention runs under torch's math backend
for all: without it none of them has second derivatives. CPU seconds of a density include its drawing where the engine
always draws.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from landscape import plugins

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from landscape.loss.problem import Problem
    from landscape.records import Spectrum

    from ._case import Case, Estimate, Pairs
    from ._tables import Row, Table

    Array = NDArray[np.float64]

RIVALS = "landscape.jobs.benches.rivals"
PROBLEMS = ("digits_mlp", "lenet", "resnet20", "gpt")
WIDTH = 10  # vectors at once, for engines that can
RIGHT = 1e-4  # a product further than this from double backward is fast at something else
COUNT, RESIDUAL = 10, 1e-4  # eigenpairs, and their residual over the norm
PROBES, ITERATIONS = 10, 80  # the default density of most engines
JOB = PROBES * ITERATIONS  # products that our strategy is chosen for
OURS = ((4, 25), (4, 50), (4, 100), (10, 80))  # probes, iterations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problems", nargs="*", metavar="PROBLEM",
                        help=f"of the products (default: {' '.join(PROBLEMS)}); the rest is digits_mlp")  # fmt: skip
    parser.add_argument("--engines", nargs="+", metavar="ENGINE", help=f"of {', '.join(plugins.names(RIVALS))}")


def measure(args: argparse.Namespace) -> Iterator[Table]:
    from ._tables import Table

    engines = {name: plugins.load(RIVALS, name) for name in args.engines or plugins.names(RIVALS)}
    columns = {
        "problem": "", "engine": "", "one, ms": ".2f", f"of {WIDTH} at once, ms": ".2f", "one / gradient": ".2f",
        "best / gradient": ".2f", "peer / ours": ".2f", "relative error": ".1e", "first call, s": ".1f",
    }  # fmt: skip
    yield Table("One Hessian product", columns, _products(engines, args))
    case, exact = _known(args)
    columns = {
        "engine": "", "setting": "", "products": "d", "worst residual": ".1e", "worst error": ".1e", "CPU s": ".2f",
        "products / ours": ".1f", "CPU s / ours": ".1f",
    }  # fmt: skip
    yield Table(f"The {COUNT} largest eigenpairs of digits_mlp, relative to the norm; wanted {RESIDUAL:g}", columns,
                _tops(engines, case, exact, args))  # fmt: skip
    columns = {
        "engine": "", "setting": "", "products": "d", "W1, nodes": ".1e", "W1, as drawn": ".1e", "CPU s": ".2f",
        "products / CPU s": ",.0f", "first call, s": ".2f", "CPU s / ours": ".2f",
        "at equal W1": ".1f",
    }  # fmt: skip
    yield Table("The spectral density of digits_mlp", columns, _densities(engines, case, exact, args))


def _known(args: argparse.Namespace) -> tuple[Case, Array]:
    """The digits network after five epochs, and all its eigenvalues."""
    from . import _spectra, _subjects
    from ._case import Case

    problem = _subjects.SUBJECTS["digits_mlp"].build("digits_mlp", quick=args.quick, seed=args.seed, one_batch=True)
    _subjects.descend(problem, 0, 145, args.seed)
    return Case(problem), _spectra.dense_eigenvalues(problem)


def _label(engine: ModuleType) -> str:
    return f"{engine.DISTRIBUTION} {importlib.metadata.version(engine.DISTRIBUTION)}"


def _tried(engine: ModuleType, part: str, work: Callable[[], Any]) -> Any:
    """What a rival's part returns, or the sentence that says why it does not."""
    if importlib.util.find_spec(engine.MODULE) is None:
        return f"{engine.DISTRIBUTION}: not installed"
    if not hasattr(engine, part):
        return f"{_label(engine)}: does not offer this"
    try:
        return work()
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{_label(engine)}: {type(error).__name__}: {first[:160]}"


# ---------------------------------------------------------------------- products


def _products(engines: dict[str, ModuleType], args: argparse.Namespace) -> Iterator[Row]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from . import _subjects
    from ._case import Case

    for name in args.problems or PROBLEMS:
        problem = _subjects.built(name, args, one_batch=True)
        if isinstance(problem, str):
            yield (f"{name}: {problem}", *[None] * 8)
            continue
        with sdpa_kernel(SDPBackend.MATH):
            yield from _products_of(name, problem, Case(problem), engines, args)


def _products_of(
    name: str, problem: Problem, case: Case, engines: dict[str, ModuleType], args: argparse.Namespace
) -> Iterator[Row]:
    import torch

    from landscape.distributed.parallel import Comm

    from . import _choosing, _subjects, _timing

    theta = problem.weights()
    block = torch.randn(problem.size, WIDTH, generator=torch.Generator().manual_seed(args.seed)).to(theta)
    one = block[:, :1].contiguous()
    exact = _subjects.recomputed(problem, theta)(one)
    ours = {width: _choosing.hessian(problem, theta, Comm(), block=width, expected=JOB) for width in (1, WIDTH)}
    offered: dict[str, tuple[bool, Any]] = {"landscape": (True, lambda v: ours[v.shape[1]].operator.matvec(v))}
    failed: list[str] = []
    for engine in engines.values():
        found = _tried(engine, "product", partial(_working, engine, case, one))
        if isinstance(found, str):
            failed.append(found)
        else:
            offered[_label(engine)] = getattr(engine, "BLOCKS", False), found
    works: dict[str, Callable[[], Any]] = {"gradient": partial(_subjects.gradient, problem, theta)}
    for label, (blocks, product) in offered.items():
        works[label] = partial(product, one)
        if blocks:
            works[f"{label}, block"] = partial(product, block)
    times = _timing.interleaved(works, min(args.repeats, 5))
    unit = times["gradient"].median
    fastest: dict[str, float] = {}
    right: list[str] = []
    for label, (blocks, product) in offered.items():
        alone, many = times[label].median, times[f"{label}, block"].median / WIDTH if blocks else None
        fastest[label] = min(alone, many or alone)
        error = float((product(one) - exact).norm() / exact.norm())
        right += [label] if error < RIGHT else []
        first, shown = times[label].first, label
        if label == "landscape":
            first += ours[1].seconds
            shown = f"landscape: {ours[1].label}; in blocks {ours[WIDTH].label}"
        yield (
            name, shown, 1e3 * alone, None if many is None else 1e3 * many, alone / unit, fastest[label] / unit,
            fastest[label] / fastest["landscape"], error, first,
        )  # fmt: skip
    for sentence in failed:
        yield (name, sentence, *[None] * 7)
    rivals = {label: fastest[label] for label in right if label != "landscape"}
    if rivals:
        best = min(rivals, key=rivals.__getitem__)
        yield (name, f"best that is right: {best}", *[None] * 4, rivals[best] / fastest["landscape"], None, None)


def _working(engine: ModuleType, case: Case, one: Tensor) -> Callable[[Tensor], Tensor]:
    """The engine's product, once it has multiplied."""
    product: Callable[[Tensor], Tensor] = engine.product(case)
    product(one)
    return product


# ---------------------------------------------------------------------- eigenpairs


def _tops(engines: dict[str, ModuleType], case: Case, exact: Array, args: argparse.Namespace) -> Iterator[Row]:
    import numpy as np

    from ._case import worst_residual
    from ._spectra import top_pairs
    from ._subjects import recomputed
    from ._timing import timed

    problem, norm = case.problem, float(np.abs(exact).max())
    matvec = recomputed(problem, problem.weights())
    mine, seconds = timed(lambda: top_pairs(problem, COUNT, RESIDUAL, args.seed))
    best: dict[str, tuple[float, float]] = {}

    def row(label: str, setting: str, pairs: Pairs, spent: float) -> Row:
        rest = worst_residual(matvec, pairs) / norm
        if rest <= 1.01 * RESIDUAL and label != "landscape":
            best[label] = pairs.products / mine.products, spent / seconds
        error = float(np.abs(pairs.values - exact[::-1][:COUNT]).max()) / norm
        return label, setting, pairs.products, rest, error, spent, pairs.products / mine.products, spent / seconds

    yield row("landscape", "", mine, seconds)
    for engine in engines.values():
        default = _tried(engine, "top", partial(_timed_top, engine, case, args.seed))
        if isinstance(default, str):
            yield (default, *[None] * 7)
            continue
        yield row(_label(engine), "default", *default)
        for effort in engine.EFFORTS[1:2] if args.quick else engine.EFFORTS[1:]:
            setting = ", ".join(f"{key}={value}" for key, value in effort.items())
            found, spent = timed(partial(engine.top, case, COUNT, args.seed, **effort))
            if worst_residual(matvec, found) <= RESIDUAL * norm:
                yield row(_label(engine), f"equal accuracy: {setting}", found, spent)
                break
        else:
            yield (_label(engine), f"equal accuracy: not reached up to {setting}", found.products,
                   worst_residual(matvec, found) / norm, None, spent, None, None)  # fmt: skip
    if best:
        winner = min(best, key=lambda label: best[label][0])
        yield (f"best of them: {winner}", "", *[None] * 4, *best[winner])


def _timed_top(engine: ModuleType, case: Case, seed: int) -> tuple[Pairs, float]:
    from ._timing import timed

    return timed(lambda: engine.top(case, COUNT, seed))


# ---------------------------------------------------------------------- densities


def _densities(engines: dict[str, ModuleType], case: Case, exact: Array, args: argparse.Namespace) -> Iterator[Row]:
    from landscape.engine.products import Products

    from ._case import curve_distance, measure_distance
    from ._spectra import density
    from ._timing import timed

    width = float(exact[-1] - exact[0])
    probes, iterations = (2, 20) if args.quick else (PROBES, ITERATIONS)
    mine: list[tuple[float, float]] = []  # W1, CPU seconds

    def row(label: str, setting: str, found: Estimate, spent: float, first: float) -> Row:
        raw = measure_distance(found.nodes, found.weights, exact) / width
        drawn = None if found.curve is None else curve_distance(found.curve, exact) / width
        if label == "landscape":
            mine.append((raw, spent))
        enough = [seconds for error, seconds in mine if error <= raw]
        ratio = spent / min(enough) if enough and label != "landscape" else None
        same = None if label == "landscape" else spent / mine[-1][1]  # ours of as many products is the last
        return label, setting, found.products, raw, drawn, spent, found.products / spent, first, same, ratio

    for p, m in OURS[:2] if args.quick else OURS:
        block = min(p, WIDTH)
        products = Products(block=block, expected=p * m)
        work = partial(density, case.problem, args.seed, p, m, block, products)
        _, first = timed(work)  # with the choice of a strategy, which is made once a job
        spectrum, spent = timed(work)
        yield row("landscape", f"{p} x {m}", _estimate(spectrum, p * m), spent, first)
    ratios: dict[str, float] = {}
    for engine in engines.values():
        run = partial(_slq, engine, case, probes, iterations, args.seed)
        found = _tried(engine, "slq", partial(timed, run))
        if isinstance(found, str):
            yield (found, *[None] * 9)
            continue
        first = found[1]
        if getattr(engine, "COMPILES", False):
            found = timed(run)
        estimate, spent = found
        shown = row(_label(engine), f"{probes} x {iterations}", estimate, spent, first)
        yield shown
        if shown[-1] is not None:
            ratios[_label(engine)] = shown[-1]
    if ratios:
        best = min(ratios, key=ratios.__getitem__)
        yield (f"best of them: {best}", "", *[None] * 7, ratios[best])


def _slq(engine: ModuleType, case: Case, probes: int, iterations: int, seed: int) -> Any:
    return engine.slq(case, probes, iterations, seed)


def _estimate(spectrum: Spectrum, products: int) -> Estimate:
    """Ours, and the curve at the width from which on half the iterations draw the same one."""
    import numpy as np

    from landscape.readings import quadrature, smoothing

    from ._case import Estimate

    nodes, weights = quadrature.measure(spectrum)
    width = smoothing.settled_width(spectrum)
    curve = None
    if width is not None:
        grid = np.linspace(nodes[0] - 4 * width, nodes[-1] + 4 * width, 10_000)
        curve = grid, quadrature.density(nodes, weights, grid, width)
    return Estimate(nodes, weights, curve, products)
