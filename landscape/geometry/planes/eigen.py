"""Plane of two eigenvectors, of any pair and any operator, never rescaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ProblemError
from ..plane import Float64, Plane, facing, orthonormal

GAP = 1e-2  # relative distance of two eigenvalues below which their eigenvectors are hardly told apart


def eigen_plane(
    origin: Tensor,
    eigenvectors: Tensor | NDArray[Any],
    values: Sequence[float] | Float64,
    residuals: Sequence[float] | Float64,
    *,
    pair: tuple[int, int] = (0, 1),
    numbers: Sequence[int] | None = None,
    operator: str = "hessian",
    scale: Tensor | None = None,
    step: int = 0,
    variant: str = "",
) -> Plane:
    """Plane of two eigenvectors, rows of (k, size), through the checkpoint `origin`; the largest entries are positive.

    Args:
        pair: the two rows.
        numbers: what the rows are called: 1, 2, ... from the largest eigenvalue (the default), -1, -2, ... from the
            smallest.
        scale: s = P^-1/2 (size,) of an operator P^-1/2 H P^-1/2, whose eigenvectors x live in the coordinates
            P^1/2 theta: the axes are s * x, made orthonormal. `info["curvature"]` is d^T H d along each axis.

    Raises:
        ProblemError: fewer vectors than `pair` asks for, or vectors that are far from orthogonal (not converged).
    """
    rows = torch.as_tensor(eigenvectors)
    if pair[0] == pair[1] or not all(0 <= i < len(rows) for i in pair):
        raise ProblemError(
            f"the eigenvector plane needs two different eigenvectors of the {len(rows)} computed, got {pair}; "
            "compute more with --top"
        )
    numbers = list(range(1, len(rows) + 1)) if numbers is None else list(numbers)
    chosen = rows[list(pair)].to(origin.device).double()
    chosen = chosen / torch.linalg.norm(chosen, dim=1, keepdim=True)
    cosine = float(chosen[0] @ chosen[1])
    if not abs(cosine) <= 1e-3:
        raise ProblemError(
            f"eigenvectors {numbers[pair[0]]} and {numbers[pair[1]]} at step {step} are not orthogonal (cosine "
            f"{cosine:.2g}): they have not converged; raise --iterations or use --dtype float64"
        )
    picked_values, picked_residuals = ([float(x[i]) for i in pair] for x in (values, residuals))
    close = [[numbers[j] for j in _close(i, values, residuals)] for i in pair]
    info = {
        "operator": operator, "values": picked_values, "residuals": picked_residuals, "cosine": cosine,
        "pair": [numbers[i] for i in pair], "close": close, "curvature": picked_values,
    }  # fmt: skip
    if scale is not None:
        chosen, info["cosine"], info["curvature"] = _mapped(chosen, scale.to(chosen.device).double(), picked_values)
    directions = facing(orthonormal(chosen))
    labels = [
        _label(numbers[i], value, near, operator if scale is None else f"{operator}, mapped to weights")
        for i, value, near in zip(pair, picked_values, close, strict=True)
    ]
    return Plane("eigen", step, labels, origin.clone(), directions.to(origin.dtype), info, variant)


def _mapped(chosen: Tensor, scale: Tensor, values: list[float]) -> tuple[Tensor, float, list[float]]:
    """Eigenvectors x in weight space, s * x; their cosine there, and the curvature d^T H d of the orthonormal axes.

    With A = S H S and A x = l x, (s * x)^T H (s * y) = x^T A y, so no product with H is needed.
    """
    first, second = chosen * scale
    a, b = torch.linalg.norm(first), torch.linalg.norm(second)
    cosine = float(first @ second / (a * b))
    along = values[0] / float(a) ** 2
    across = (values[1] / float(b) ** 2 + cosine**2 * along) / (1 - cosine**2)
    return torch.stack([first, second]), cosine, [along, across]


def _close(i: int, values: Any, residuals: Any) -> list[int]:
    """Rows whose eigenvalues cannot be told from row i's: nearer than their residuals, or than a hundredth."""
    value, residual = np.asarray(values, dtype=np.float64), np.asarray(residuals, dtype=np.float64)
    near = np.abs(value - value[i]) <= np.maximum(residual + residual[i], GAP * abs(value[i]))
    return [int(j) for j in np.flatnonzero(near) if j != i]


def name_of(number: int) -> str:
    """'eigenvector 3', or 'eigenvector 2 from the smallest' for -2."""
    return f"eigenvector {number}" if number > 0 else f"eigenvector {-number} from the smallest"


def _label(number: int, value: float, close: list[int], operator: str) -> str:
    near = f" (degenerate with {', '.join(map(str, close))})" if close else ""
    of = "" if operator == "hessian" else f" of {operator}"
    return f"{name_of(number)}{near}, eigenvalue {value:.3g}{of}"
