"""A game of several networks at one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._record import Array, Axes, Meta, Record


def game_key(step: int) -> str:
    return f"game-{step:08d}"


@dataclass(frozen=True)
class Game(Record):
    """Losses, field and Jacobian eigenvalues of a game, and what its generator makes, at one checkpoint.

    The Jacobian J is that of F, every player's gradient of his own loss; descent leaves a point where an eigenvalue has
    a negative real part. There are a few eigenvalues of each end: of largest modulus, of lowest and of largest real
    part; all of them where J is small. Spectra of the players' own blocks are records of the operators
    'hessian[generator.*]' and so on. `meta` holds the shape of samples that are images, and the ends that were missed.
    """

    kind: ClassVar[str] = "game"
    made_by: ClassVar[str] = "game RUN"
    axes: ClassVar[Axes] = {
        "losses": (("player",), "the player's own loss over all samples"),
        "gradients": (("player",), "norm of the player's gradient of his own loss, in loss per unit of weight"),
        "real": (("eigenvalue",), "real part of an eigenvalue of J, largest modulus first"),
        "imaginary": (("eigenvalue",), "imaginary part: the players turn around each other"),
        "residuals": (("eigenvalue",), "norm(J y - lambda y) of unit y"),
        "shares": (("player", "eigenvalue"), "squared length of the eigenvector in the player's weights"),
        "cross": (("cross",), "spectral norm of a cross block of J, in the order of cross_names"),
        "metrics": (("metric",), "of the made samples, in the order of metric_names"),
        "samples": (("sample", "coordinate"), "made, of noise that is the same at every checkpoint"),
        "real_samples": (("real sample", "coordinate"), "of the training data"),
        "mode_shares": (("mode",), "share of the made samples that are good ones of this mode"),
    }
    step: int
    size: int
    players: list[str]
    losses: Array  # (player,)
    gradients: Array  # (player,)
    real: Array  # (eigenvalue,)
    imaginary: Array  # (eigenvalue,)
    residuals: Array  # (eigenvalue,)
    shares: Array  # (player, eigenvalue)
    cross_names: list[str] = field(default_factory=list)  # 'generator|discriminator': d2 L_generator / dG dD
    cross: Array | None = None  # (cross,)
    metric_names: list[str] = field(default_factory=list)
    metrics: Array | None = None  # (metric,)
    samples: NDArray[Any] | None = None  # (sample, coordinate)
    real_samples: NDArray[Any] | None = None  # (real sample, coordinate)
    mode_shares: Array | None = None  # (mode,)
    meta: Meta = field(default_factory=dict)

    @property
    def key(self) -> str:
        return game_key(self.step)

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """Of J, (eigenvalue,) complex, largest modulus first."""
        return self.real + 1j * self.imaginary

    def metric(self, name: str) -> float | None:
        """One of the metrics; None where it was not measured."""
        if self.metrics is None or name not in self.metric_names:
            return None
        return float(self.metrics[self.metric_names.index(name)])
