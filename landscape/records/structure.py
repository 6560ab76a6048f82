"""Structure of a network at a checkpoint: zeros by layer, norms of groups; and what single weights are worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record, operator_key


def structure_key(step: int) -> str:
    return f"structure-weights-{step:08d}"


def saliency_key(operator: str, step: int) -> str:
    return f"saliency-{operator_key(operator)}-{step:08d}"


@dataclass(frozen=True)
class Structure(Record):
    """What is zero at a checkpoint. A group is a row of a weight matrix: a neuron's or a filter's incoming weights.

    `zeros` are those of the optimizer's own read-out where it has one. `left` counts the weights of the network
    without its dead units, None where the model cannot be traced.

    Of a low-rank training there are singular values; where eigenvectors of the Hessian were known, the length of
    their part P_T v along which the ranks stay, beside that of a random direction, `tangent_chance`.
    """

    kind: ClassVar[str] = "structure"
    made_by: ClassVar[str] = "structure RUN"
    axes: ClassVar[Axes] = {
        "weights": (("layer",), "weights"),
        "small": (("layer",), "share of the layer's weights within the tolerance"),
        "zeros": (("layer",), "share of the layer's weights that are exactly zero after the read-out"),
        "norms": (("group",), "norm of a group's weights"),
        "group_layers": (("group",), "number of the group's layer"),
        "dead": (("group",), "1 where all of the group's weights lie within the threshold of zero"),
        "sigma": (("value",), "singular value of a low-rank layer's weight, largest first"),
        "sigma_layers": (("value",), "number of the singular value's layer"),
        "tangent": (("vector",), "share of a top eigenvector of the Hessian in the tangent space, |P_T v|"),
        "tangent_values": (("vector",), "its eigenvalue"),
    }
    step: int
    layers: list[str]  # (layer,)
    tolerance: float  # of `small`
    threshold: float  # of `dead`
    weights: NDArray[np.int64]  # (layer,)
    small: Array  # (layer,)
    zeros: Array  # (layer,)
    norms: Array  # (group,)
    group_layers: NDArray[np.int64]  # (group,)
    dead: NDArray[np.int8]  # (group,)
    left: int | None = None
    removed: dict[str, int] = field(default_factory=dict)  # layer -> units that pruning takes out
    meta: Meta = field(default_factory=dict)
    sigma: Array | None = None  # (value,)
    sigma_layers: NDArray[np.int64] | None = None  # (value,)
    tangent: Array | None = None  # (vector,)
    tangent_values: Array | None = None  # (vector,)
    tangent_chance: float | None = None

    @property
    def key(self) -> str:
        return structure_key(self.step)

    @property
    def size(self) -> int:
        return int(self.weights.sum())

    @property
    def ranks(self) -> dict[str, int]:
        """Rank by layer, of those that are trained in factors."""
        if self.sigma_layers is None:
            return {}
        return {name: int(n) for number, name in enumerate(self.layers) if (n := (self.sigma_layers == number).sum())}

    def share(self, values: Array) -> float:
        """Mean of a share by layer (`small` or `zeros`) over all weights."""
        return float(values @ self.weights / max(self.size, 1))


@dataclass(frozen=True)
class Saliency(Record):
    """Weights w and the diagonal H_ii of an operator at them: w^2 H_ii / 2 is what the loss gains without the weight,
    to second order at a minimum (LeCun, Denker & Solla 1990).

    Of large networks it holds a sample of the weights, `index`. With `probes` = 0 the diagonal is exact; else it is
    Hutchinson's mean over so many random signs, with its standard error for every weight.
    """

    kind: ClassVar[str] = "saliency"
    made_by: ClassVar[str] = "structure RUN --saliency last"
    axes: ClassVar[Axes] = {
        "index": (("point",), "number of the weight"),
        "values": (("point",), "weight"),
        "diagonal": (("point",), "H_ii: loss per squared unit of weight"),
        "errors": (("point",), "standard error of H_ii; 0 where it is exact"),
        "pruned": (("point",), "1 for a weight of a dead group or that the read-out sets to zero"),
        "point_layers": (("point",), "number of the weight's layer"),
    }
    step: int
    operator: str
    size: int
    probes: int
    layers: list[str]
    index: NDArray[np.int64]  # (point,)
    values: Array  # (point,)
    diagonal: Array  # (point,)
    errors: Array  # (point,)
    pruned: NDArray[np.int8]  # (point,)
    point_layers: NDArray[np.int64]  # (point,)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return saliency_key(self.operator, self.step)

    @property
    def worth(self) -> NDArray[Any]:
        """w^2 H_ii / 2, (point,)."""
        return self.values**2 * self.diagonal / 2
