"""Sampling errors read off `Halves`: how far numbers of other samples from the same source would lie. Numpy only.

Each number x of N samples is compared with the same number on disjoint parts of them. If parts of n_k samples scatter
independently around the truth with the variance s^2 / n_k, the mean has the variance s^2 / N, and

    s^2 = sum_k n_k (x_k - mean)^2 / (parts - 1),   so for two halves the standard error is |x_1 - x_2| / 2.

Two halves give one degree of freedom, a rough error; `pooled` joins those of several checkpoints, whose halves are
drawn anew. Eigenvalues do better: to first order lambda_i of a part is v_i^T A_part v_i, so 16 parts give 15 degrees of
freedom. Second-order terms are the bias: extreme eigenvalues of fewer samples lie further out, by about 1/N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import Eigenpairs, Halves, Spectrum

Array = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True)
class Sampling:
    """Standard errors of one step's numbers (one sigma), and by how much half the samples would shift them."""

    errors: Array = field(default_factory=lambda: np.empty(0))  # (pair,) of the largest eigenvalues
    lowest_errors: Array = field(default_factory=lambda: np.empty(0))  # (low,)
    freedom: int = 0  # degrees of freedom of these two
    trace: float = NAN  # standard error of the trace, one degree of freedom
    distance: float = NAN  # Wasserstein-1 distance between the halves' densities, eigenvalue units
    sharpness_shift: float = NAN  # mean of the halves minus all samples
    lowest_shift: float = NAN
    samples: int = 0

    @property
    def sharpness(self) -> float:
        return float(self.errors[0]) if len(self.errors) else NAN

    @property
    def lowest(self) -> float:
        return float(self.lowest_errors[0]) if len(self.lowest_errors) else NAN


def standard_error(values: ArrayLike, samples: ArrayLike) -> Any:
    """Standard error of the sample-weighted mean of parts: (part, ...) -> (...)."""
    x, n = np.asarray(values, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    n = n.reshape(-1, *([1] * (x.ndim - 1)))
    mean = (n * x).sum(axis=0) / n.sum()
    return np.sqrt((n * np.square(x - mean)).sum(axis=0) / (len(x) - 1) / n.sum())


def pooled(errors: ArrayLike, values: ArrayLike) -> float:
    """Relative standard error of several checkpoints: root of the mean of (error / value)^2."""
    ratio = np.asarray(errors, dtype=np.float64) / np.asarray(values, dtype=np.float64)
    ratio = ratio[np.isfinite(ratio)]
    return float(np.sqrt(np.mean(np.square(ratio)))) if len(ratio) else NAN


def finite_population(error: float, samples: int, of: int) -> float:
    """Standard error against all `of` samples at hand, of which `samples` were drawn without replacement."""
    return error * float(np.sqrt(max(1 - samples / of, 0.0)))


def sampling(halves: Halves, pairs: Eigenpairs | None = None) -> Sampling:
    """All sampling errors of one step; shifts need the eigenpairs of all samples."""
    found: dict[str, Any] = {}
    if halves.quotients is not None and halves.part_samples is not None:
        n = halves.part_samples
        found |= {"errors": standard_error(halves.quotients, n), "freedom": len(n) - 1, "samples": int(n.sum())}
        if halves.lowest_quotients is not None:
            found["lowest_errors"] = standard_error(halves.lowest_quotients, n)
    if halves.samples is not None and halves.values is not None:
        n = halves.samples
        found |= {"samples": int(n.sum()), **_of_halves(halves, n)}
        if "errors" not in found:
            found |= {"errors": standard_error(halves.values, n), "freedom": 1}
            if halves.lowest_values is not None:
                found["lowest_errors"] = standard_error(halves.lowest_values, n)
        if pairs is not None and len(pairs.values) and halves.values.shape[1]:
            found["sharpness_shift"] = float(n @ halves.values[:, 0] / n.sum() - pairs.values[0])
        lowest = halves.lowest_values
        if pairs is not None and len(pairs.lowest_values) and lowest is not None and lowest.shape[1]:
            found["lowest_shift"] = float(n @ lowest[:, 0] / n.sum() - pairs.lowest_values[0])
    return Sampling(**found)


def _of_halves(halves: Halves, samples: Array) -> dict[str, float]:
    if halves.nodes is None or halves.weights is None:
        return {}
    flat = [(n[np.isfinite(n)], w[np.isfinite(n)] / len(n)) for n, w in zip(halves.nodes, halves.weights, strict=True)]
    traces = [halves.size * float(nodes @ weights) for nodes, weights in flat]
    return {"trace": float(standard_error(traces, samples)), "distance": distance(flat[0], flat[1])}


def distance(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    """Wasserstein-1 distance between two discrete measures (nodes, weights), the integral of |F - G|."""
    nodes = np.concatenate([one[0], other[0]])
    signed = np.concatenate([one[1], -other[1]])
    order = np.argsort(nodes, kind="stable")
    gap = np.cumsum(signed[order])[:-1]
    return float(np.abs(gap) @ np.diff(nodes[order]))


def fits(halves: Halves, record: Spectrum | Eigenpairs) -> bool:
    """Whether halves belong to a record: the same settings. A record computed again leaves old halves behind."""
    mine, theirs = halves.meta.get("settings"), record.meta.get("settings")
    return mine == theirs and halves.size == record.size


def shift_text(shift: float, value: float, what: str = "sharpness") -> str:
    """'half the samples give a 12 % larger sharpness: more samples would lower it', or nothing to say."""
    if not (np.isfinite(shift) and value and abs(shift) >= 0.005 * abs(value)):
        return ""
    larger = shift * np.sign(value) > 0
    share = f"{100 * abs(shift / value):.0f} %"
    return (
        f"half the samples give a {what} {share} {'larger' if larger else 'smaller'}: "
        f"more samples would {'lower' if larger else 'raise'} it"
    )


def described(meta: Mapping[str, Any]) -> str:
    """Which samples a record used: '512 of 1,438 training samples (class-balanced, seed 0)', or the plain number."""
    found = meta.get("sampling")
    if not isinstance(found, Mapping) or not found:
        return f"{meta['samples']:,.0f} training samples" if isinstance(meta.get("samples"), (int, float)) else ""
    rule, of, seed = (found.get(k) for k in ("rule", "of", "seed"))
    return f"{found.get('rows', 0):,} of {of or 0:,} training samples ({rule}, seed {seed})"


def joined(rows: Sequence[Array], fill: float) -> Array:
    """Arrays of unequal last axes stacked along a new first axis, padded with `fill`."""
    longest = max(r.shape[-1] for r in rows)
    pad = [[(0, 0)] * (r.ndim - 1) + [(0, longest - r.shape[-1])] for r in rows]
    return np.stack([np.pad(r, p, constant_values=fill) for r, p in zip(rows, pad, strict=True)])
