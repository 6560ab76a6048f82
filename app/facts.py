"""What the numbers mean: stability thresholds, saddles, traces; plain functions on records, no plots."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import records
from landscape.readings import bounds, quadrature, sampling
from landscape.readings.shares import in_percent
from landscape.readings.stability import Threshold, positive

from .numbers import number
from .series import Series

Array = NDArray[np.float64]


def gradient_text(pairs: records.Eigenpairs) -> str:
    """How much of the gradient lies along the largest eigenvalues' vectors, where that was recorded."""
    found = pairs.meta.get("gradient")
    cosines = found.get("cosines") if isinstance(found, dict) else None
    if not isinstance(cosines, list) or not all(isinstance(c, (int, float)) for c in cosines) or not len(pairs.values):
        return ""
    share = sum(c * c for c in cosines[: len(pairs.values)])
    return f"{100 * share:.0f} % of the gradient's square lies along the {len(pairs.values)} largest. "


def threshold_text(threshold: Threshold) -> str:
    """'2/η = 10', or the reason why there is none."""
    return threshold.formula if threshold.value is None else f"{threshold.formula} = {number(threshold.value)}"


def learning_rate(info: records.RunInfo) -> float | None:
    return positive(info.settings.get("lr"))


def figure(value: object) -> float | None:
    """A number that a file may or may not hold where one belongs."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None


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
    negative_low: float = math.nan  # its 95 % band
    negative_high: float = math.nan
    size: int = 0
    tau: float = 1e-3
    source: str = ""
    sampling: sampling.Sampling | None = None

    @property
    def sharpness_error(self) -> float:
        """The larger of residual and sampling error."""
        return max(self.sharpness_residual, self.sampling.sharpness if self.sampling is not None else 0.0)

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
    def negative_counts(self) -> str:
        """Eigenvalues below -tau as the band allows: '92 to 187'; an eigenpair that is negative counts at least one."""
        if not math.isfinite(self.negative_low):
            return f"at least {1 if self.saddle else 0}"
        low = max(math.ceil(self.negative_low * self.size - 1e-3), int(self.saddle))
        high = max(math.floor(self.negative_high * self.size + 1e-3), low)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    @property
    def negative_percent(self) -> str:
        """The band in per cent, '3.8 to 7.8 %', or one number where both ends read the same."""
        low, high = map(in_percent, (self.negative_low, self.negative_high))
        return f"{low} %" if low == high else f"{low} to {high} %"

    @property
    def saddle_text(self) -> str:
        limit = f"−{number(self.tau, 1)}"
        if not math.isfinite(self.lowest):
            return "not computed"
        if not self.saddle:
            return f"no eigenvalue below {limit}: minimum to this accuracy"
        return f"{self.negative_counts} of {self.size:,} below {limit}: saddle"


def curvature(step: int, spectrum: records.Spectrum | None, pairs: records.Eigenpairs | None) -> Curvature:
    """Join a step's spectrum and eigenpairs; either may be missing."""
    values: dict[str, Any] = {}
    size, source = 0, ""
    if spectrum is not None:
        nodes, _weights = quadrature.measure(spectrum)
        if len(nodes):
            values |= {"sharpness": float(nodes[-1]), "lowest": float(nodes[0])}
            values |= {
                "sharpness_residual": _residual(spectrum, nodes[-1]),
                "lowest_residual": _residual(spectrum, nodes[0]),
            }
        trace = bounds.trace(spectrum)
        values |= {"trace": trace.value, "trace_half": trace.half}
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
    if spectrum is not None:
        tau = max(tau, 3 * bounds.noise_level(spectrum))  # below it the sign is rounding
        share = bounds.share_below(spectrum, -tau)
        values |= {"negative": share.value, "negative_low": share.low, "negative_high": share.high}
    return Curvature(step, size=size, tau=tau, source=source, **values)


def with_sampling(found: Curvature, errors: sampling.Sampling | None) -> Curvature:
    return found if errors is None else dataclasses.replace(found, sampling=errors)


def sampling_text(found: Curvature | None) -> str:
    """What the error bars mean, for a caption; empty where there are none."""
    errors = None if found is None else found.sampling
    if found is None or errors is None or not math.isfinite(errors.sharpness):
        return ""
    rough = " (rough: two halves)" if errors.freedom == 1 else f" ({errors.freedom + 1} parts of the samples)"
    spread = f"λmax ± {number(errors.sharpness, 2)} for other {errors.samples:,} samples"
    text = f"Error bars also show sampling: {spread}{rough}"
    shift = sampling.shift_text(errors.sharpness_shift, found.sharpness)
    return text + (f"; {shift}." if shift else ".")


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
    if described := sampling.described(meta):
        parts.append(described)
    if meta.get("dtype"):
        parts.append(str(meta["dtype"]).removeprefix("torch."))
    if isinstance(meta.get("ranks"), int) and meta["ranks"] > 1:
        parts.append(f"{meta['ranks']} ranks")
    return ", ".join(parts)
