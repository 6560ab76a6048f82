"""An operator on disjoint parts of the samples: spectra of two halves, Rayleigh quotients on up to sixteen parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed.parallel import Comm
from ..loss.problem import Problem
from ..readings.sampling import joined
from ..records import Halves
from .combination import named
from .curvature import operator_at
from .spectrum import spectrum_at

Array = NDArray[np.float64]
Half = dict[str, Array]  # samples (), nodes and weights (probe, node), values (pair,), lowest_values (low,)


def split_seed(seed: int, step: int) -> int:
    """Every checkpoint is split anew, so that the errors of several checkpoints can be pooled."""
    return (seed * 1_000_003 + step) % 2**62


def half_spectrum(half: Problem, vector: Tensor, comm: Comm, **options: Any) -> Half:
    """Density and extreme eigenvalues of one half; options of `spectrum_at`."""
    spectrum, pairs = spectrum_at(half, vector, comm, check=False, **options)
    return {
        "samples": np.array(float(half.samples)), "nodes": spectrum.nodes, "weights": spectrum.weights,
        "values": pairs.values, "lowest_values": pairs.lowest_values,
    }  # fmt: skip


def quotients(
    parts: list[Problem], vector: Tensor, comm: Comm, vectors: NDArray[Any], operator: str = "hessian", *,
    checkpoint: Any = None, seed: int = 0, block: int = 4,
) -> Array:  # fmt: skip
    """v^T A_part v for unit vectors (count, size): shape (part, count). Parts are shared over ranks, vectors are not.

    One block product with all samples, in pieces: their sample-weighted mean is v^T A v. To first order an eigenvalue
    of a part is the quotient of the eigenvector of all samples.
    """
    found = np.zeros((len(parts), len(vectors)))
    with comm.together():
        for k in comm.share(range(len(parts))):
            curvature = operator_at(parts[k], vector, Comm(), operator, checkpoint=checkpoint, seed=seed)
            for first in range(0, len(vectors), block):
                some = torch.from_numpy(np.array(vectors[first : first + block])).to(vector).T.contiguous()
                product = (some.double() * curvature.matvec(some).double()).sum(dim=0)
                found[k, first : first + block] = product.cpu().numpy()
    return comm.sum(found)


def halves_at(
    problem: Problem, vector: Tensor, comm: Comm, *,
    spectra: bool = True, vectors: NDArray[Any] | None = None, top: int = 10, seed: int = 0, step: int = 0,
    finished: Mapping[int, Half] | None = None, on_half: Callable[[int, Half], None] = lambda number, half: None,
    **options: Any,
) -> Halves:  # fmt: skip
    """The record of one checkpoint.

    Args:
        spectra: also run Lanczos on both halves: as much work again as the spectrum itself.
        vectors: eigenvectors of all samples (pair + low, size), those of the `top` largest first.
        finished: halves that need not be computed again, by number; `on_half` hears of each one that is.
        options: those of `spectrum_at`.

    Raises:
        ProblemError: batches whose rows cannot be told, or too few samples.
    """
    split = split_seed(seed, step)
    arrays: dict[str, Any] = {}
    meta: dict[str, Any] = {"samples": problem.samples, "seed": seed, "split_seed": split, "ranks": comm.size}
    operator = options.get("operator", "hessian")
    if problem.sampling:
        meta["sampling"] = problem.sampling
    if vectors is not None and len(vectors):
        with comm.together():
            parts = problem.parts(seed=split)
        found = quotients(parts, vector, comm, vectors, operator, checkpoint=options.get("checkpoint"), seed=seed)
        arrays |= {"part_samples": np.array([float(p.samples) for p in parts])}
        arrays |= {"quotients": found[:, :top], "lowest_quotients": found[:, top:]}
        meta["parts"] = [p.sampling for p in parts]
    if spectra:
        with comm.together():
            both = problem.halves(split)
        runs = []
        for number, half in enumerate(both):
            one = dict((finished or {}).get(number) or {})
            if not one:
                one = half_spectrum(half, vector, comm, step=step, top=top, seed=seed, **options)
                on_half(number, one)
            runs.append(one)
        arrays |= {name: joined([r[name] for r in runs], np.nan) for name in ("nodes", "values", "lowest_values")}
        arrays |= {"weights": joined([r["weights"] for r in runs], 0.0)}
        arrays |= {"samples": np.array([float(r["samples"]) for r in runs])}
        meta["halves"] = [h.sampling for h in both]
    if "values" in arrays and "quotients" in arrays:  # a half may have fewer eigenpairs
        _equal(arrays, "values", "quotients")
        _equal(arrays, "lowest_values", "lowest_quotients")
    return Halves(step, named(operator, problem.block), problem.size, **arrays, meta=meta)


def _equal(arrays: dict[str, Any], one: str, other: str) -> None:
    """Pad two arrays (.., count) to one count."""
    longest = max(arrays[one].shape[1], arrays[other].shape[1])
    for name in (one, other):
        short = longest - arrays[name].shape[1]
        arrays[name] = np.pad(arrays[name], ((0, 0), (0, short)), constant_values=np.nan)
