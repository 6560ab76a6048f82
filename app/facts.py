"""What the numbers mean: stability thresholds, saddles, traces; plain functions on records, no plots."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape import quadrature, records

from .reading import Series
from .style import number

Array = NDArray[np.float64]
GRADIENT_DESCENT = {"sgd", "gd", "gradientdescent", "heavyball", "momentum", "nesterov"}


@dataclass(frozen=True)
class Threshold:
    """Largest sharpness at which the optimizer is stable on a quadratic; `value` is None where no formula holds."""

    value: float | None
    formula: str  # '2/η', or the reason why there is none

    @property
    def text(self) -> str:
        return f"{self.formula} = {number(self.value)}" if self.value is not None else self.formula


def threshold(info: records.RunInfo, operator: str = "hessian") -> Threshold:
    """Stability limit of plain gradient descent, heavy ball and Nesterov momentum; of Adam's on `preconditioned`.

    On a quadratic with curvature h, heavy ball x+ = x - eta h x + beta (x - x-) has roots inside the unit circle
    exactly for eta h < 2 + 2 beta; Nesterov's look-ahead for eta h < (2 + 2 beta) / (1 + 2 beta).
    """
    name = info.optimizer.rpartition(".")[2].replace("_", "").replace("-", "").lower()
    settings = info.settings
    if operator == "preconditioned":
        return _preconditioned(info, name)
    if name not in GRADIENT_DESCENT:
        return Threshold(None, f"no stability threshold known for {info.optimizer}'s raw Hessian")
    rate = _positive(settings.get("lr"))
    if rate is None:
        return Threshold(None, "no threshold: the learning rate was not recorded")
    beta = _positive(settings.get("momentum", settings.get("beta"))) or 0.0
    damping = _positive(settings.get("dampening")) or 0.0
    decay = _positive(settings.get("weight_decay")) or 0.0
    if damping:
        return Threshold(None, "no threshold: dampened momentum")
    if beta and (settings.get("nesterov") or name == "nesterov"):
        limit, formula = (2 + 2 * beta) / (rate * (1 + 2 * beta)), "(2+2β)/(η(1+2β))"
    elif beta:
        limit, formula = (2 + 2 * beta) / rate, "(2+2β)/η"
    else:
        limit, formula = 2 / rate, "2/η"
    return Threshold(limit - decay, formula + (" − weight decay" if decay else ""))


def _preconditioned(info: records.RunInfo, name: str) -> Threshold:
    """Limit of the preconditioned sharpness: (2 + 2 beta1) / ((1 - beta1) eta) where momentum averages gradients."""
    rate, settings = _positive(info.settings.get("lr")), info.settings
    if rate is None or settings.get("groups"):
        return Threshold(None, "no threshold: one learning rate for all weights was not recorded")
    if name != "adamw" and _positive(settings.get("weight_decay")):
        return Threshold(None, "no threshold: the weight decay is part of the gradient")
    if name in ("adam", "adamw", "adamax") and len(settings.get("betas") or ()) == 2:
        beta = float(settings["betas"][0])
        return Threshold((2 + 2 * beta) / ((1 - beta) * rate), "(2+2β₁)/((1−β₁)η)")
    if name == "rmsprop":
        beta = _positive(settings.get("momentum")) or 0.0
        return Threshold((2 + 2 * beta) / rate, "(2+2β)/η" if beta else "2/η")
    return Threshold(None, f"no stability threshold known for {info.optimizer}")


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value > 0 else None


def learning_rate(info: records.RunInfo) -> float | None:
    return _positive(info.settings.get("lr"))


@dataclass(frozen=True)
class Curvature:
    """Extremes of one operator at one step, from eigenpairs where they exist, else from the spectrum's Ritz values."""

    step: int
    sharpness: float = math.nan
    sharpness_residual: float = math.nan
    lowest: float = math.nan
    lowest_residual: float = math.nan
    trace: float = math.nan
    trace_half: float = math.nan
    negative: float = math.nan  # share of the spectrum below -tau
    size: int = 0
    tau: float = 1e-3
    source: str = ""

    @property
    def saddle(self) -> bool:
        return self.lowest < -self.tau

    @property
    def converged(self) -> bool:
        """Residual below 1 % of the value itself."""
        return not (self.sharpness_residual > 0.01 * abs(self.sharpness))

    @property
    def negative_count(self) -> int:
        return round(self.negative * self.size) if math.isfinite(self.negative) else 0

    @property
    def saddle_text(self) -> str:
        limit = f"−{number(self.tau, 1)}"
        if not math.isfinite(self.lowest):
            return "not computed"
        if not self.saddle:
            return f"none < {limit}: minimum"
        count = max(self.negative_count, 1)
        about = "≈ " if math.isfinite(self.negative) else "at least "
        return f"{about}{count:,} of {self.size:,} < {limit}: saddle"


def curvature(step: int, spectrum: records.Spectrum | None, pairs: records.Eigenpairs | None) -> Curvature:
    """Join a step's spectrum and eigenpairs; either may be missing."""
    values: dict[str, float] = {}
    size, source = 0, ""
    if spectrum is not None:
        nodes, _weights = quadrature.measure(spectrum)
        if len(nodes):
            values |= {"sharpness": float(nodes[-1]), "lowest": float(nodes[0])}
            values |= {
                "sharpness_residual": _residual(spectrum, nodes[-1]),
                "lowest_residual": _residual(spectrum, nodes[0]),
            }
        values["trace"], values["trace_half"] = quadrature.trace(spectrum)
        size, source = spectrum.size, "spectrum"
    if pairs is not None:
        size, source = pairs.size, "eigenpairs"
        if len(pairs.values):
            values |= {"sharpness": float(pairs.values[0]), "sharpness_residual": float(pairs.residuals[0])}
        if len(pairs.lowest_values):
            values |= {"lowest": float(pairs.lowest_values[0]), "lowest_residual": float(pairs.lowest_residuals[0])}
    largest = max(
        (
            r
            for r in (values.get("sharpness_residual"), values.get("lowest_residual"))
            if r is not None and math.isfinite(r)
        ),
        default=0.0,
    )
    tau = max(1e-3, 3 * largest)
    negative = quadrature.mass_below(spectrum, -tau) if spectrum is not None else math.nan
    return Curvature(step, size=size, tau=tau, negative=negative, source=source, **values)


def _residual(spectrum: records.Spectrum, node: float) -> float:
    return float(spectrum.residuals[spectrum.nodes == node].min(initial=np.inf))


def over_training(series: Series, pairs: dict[int, records.Eigenpairs]) -> list[Curvature]:
    """Curvature at every step that has a spectrum or eigenpairs."""
    steps = sorted({*series.spectra, *pairs})
    return [curvature(s, series.spectra.get(s), pairs.get(s)) for s in steps]


def projection_ratio(trajectory: records.Trajectory) -> tuple[float, float]:
    """Smallest and largest loss read off the plane, divided by the true loss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = trajectory.surface_loss / trajectory.loss
    ratio = ratio[np.isfinite(ratio)]
    return (float(ratio.min()), float(ratio.max())) if len(ratio) else (math.nan, math.nan)


def evidence(record: records.Record) -> str:
    """One line of provenance for a caption: samples, dtype, probes, ranks, time, as far as recorded."""
    meta = record.meta
    found = meta.get("settings")
    settings = found if isinstance(found, dict) else {}
    parts = []
    if isinstance(record, records.Spectrum):
        probes, nodes = record.nodes.shape
        parts.append(f"{probes} probes × {settings.get('iterations', nodes)} Lanczos iterations")
    if isinstance(meta.get("samples"), (int, float)):
        parts.append(f"{meta['samples']:,.0f} training samples")
    if meta.get("dtype"):
        parts.append(str(meta["dtype"]).removeprefix("torch."))
    if isinstance(meta.get("ranks"), int) and meta["ranks"] > 1:
        parts.append(f"{meta['ranks']} ranks")
    return ", ".join(parts)
