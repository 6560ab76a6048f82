"""The spectrum cards, shown on the overview and on the spectrum page."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.readings import quadrature

from .. import facts
from ..axes import step_position
from ..common import Scene
from ..plots import density as density_plot
from ..plots import ridge, spectrum_over
from ..style import move_cursor
from ..view import Card, Missing

Array = NDArray[np.float64]


def nearest_text(scene: Scene, step: int) -> str:
    """Why there is no spectrum at a step, and where the nearest ones are."""
    damaged = scene.series.damaged.get(step)
    if damaged:
        return "<br>".join(_wrap(damaged, 70))
    have = scene.series.steps
    below = [s for s in have if s < step][-1:]
    above = [s for s in have if s > step][:1]
    near = " and ".join(f"{s:,}" for s in below + above)
    return f"No spectrum at step {step:,}" + (f"; nearest: {near}" if near else "")


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width)[:6]


def need_spectra(scene: Scene) -> None:
    """Raise what an empty spectrum card says."""
    if scene.series.spectra:
        return
    if scene.series.damaged:
        raise Missing(
            f"None of the spectra can be read: {next(iter(scene.series.damaged.values()))}", scene.command("spectrum")
        )
    if not scene.steps:
        raise Missing("This run has no checkpoints yet; its spectra can be computed once there is one.")
    raise Missing(
        "No spectra of this run yet. Compute them with the line below; each one appears here when it is finished.",
        scene.command("spectrum"),
    )


def operator_name(operator: str) -> str:
    """The operator as people write it."""
    whole, bracket, block = operator.partition("[")
    if bracket:
        return f"{operator_name(whole)} block of {block.removesuffix(']')}"
    return {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix", "fisher": "Fisher matrix",
            "preconditioned": "preconditioned Hessian"}.get(
        operator, operator.replace("_", " ")
    )


def heat_card(scene: Scene, *, span: str = "", height: int = 300) -> Card:
    limit = scene.threshold.value
    ridges = ridge.chosen(scene.series.steps) if scene.place.query.get("as") == "ridge" else None

    def draw(i: int) -> Any:
        need_spectra(scene)
        if ridges is not None:
            densities = [scene.series.density(s, scene.width) for s in ridges]
            return ridge.figure(
                ridges, scene.series.grid, densities, selected=scene.step(i), theme=scene.theme, height=height
            )
        found = {c.step: c.sharpness for c in scene.curvature}
        sharpness = np.array([found.get(s, np.nan) for s in scene.series.steps])
        steps, heat, sharpness = spectrum_over.columns(
            np.array(scene.series.steps, dtype=np.float64), scene.series.heat(scene.width), sharpness
        )
        return spectrum_over.figure(
            steps,
            scene.series.grid,
            heat,
            sharpness=sharpness,
            threshold=limit,
            label=facts.threshold_text(scene.threshold),
            selected=scene.step(i),
            log=scene.log,
            theme=scene.theme,
            height=height,
        )

    def move(i: int) -> Any:
        if ridges is not None:
            return ridge.move(ridges, scene.step(i), scene.theme)
        return move_cursor(float(step_position([scene.step(i)], scene.log)[0]))

    def caption(_i: int) -> str:
        if ridges is not None:
            text = f"Density of the {operator_name(scene.operator)} at {len(ridges)} steps, log heights; "
            return f"{text}each from 10⁻⁴ to 10; orange: the one nearest to the selected step.{damage_text(scene)}"
        text = (
            f"Density of the {operator_name(scene.operator)} at {len(scene.series.steps)} checkpoints; "
            "asinh axis, linear inside ±λ₀ = ±10⁻³; white: λmax."
        )
        if (stride := spectrum_over.stride(len(scene.series.steps))) > 1:
            text += f" A column is the largest density, and the largest λmax, of {stride} checkpoints."
        return text + damage_text(scene)

    def table(_i: int) -> dict[str, Any]:
        need_spectra(scene)
        columns: dict[str, Any] = {
            "eigenvalue [loss per squared unit of weight]": quadrature.from_asinh(scene.series.grid)
        }
        for s in scene.series.steps:
            columns[f"density per unit asinh(eigenvalue/1e-3) at step {s}"] = scene.series.density(s, scene.width)
        return columns

    return Card(
        "spectrum-over",
        "Spectrum over training",
        draw,
        caption,
        table,
        move=move,
        span=span,
        about="Heatmap of the eigenvalue density against the optimizer step",
    )


def _kernels(scene: Scene) -> str:
    if scene.width.sharp is None:
        return "wider where Lanczos resolves no single eigenvalue"
    return f"{scene.width.sharp:g} for single eigenvalues, wider where Lanczos resolves none"


def damage_text(scene: Scene) -> str:
    damaged = scene.series.damaged
    if not damaged:
        return ""
    count = len(damaged) + len(scene.series.spectra)
    return f" Left out, because damaged: {len(damaged)} of {count} spectra; {damaged[min(damaged)]}."


def density_card(scene: Scene, *, height: int = 300) -> Card:
    def ticks(step: int) -> Array:
        pairs = scene.pairs.get(step)
        return np.empty(0) if pairs is None else np.concatenate([pairs.values, pairs.lowest_values])

    def parts(i: int) -> dict[str, Any]:
        step = scene.step(i)
        here = step in scene.series.spectra
        return {
            "density": scene.series.density(step, scene.width) if here else None,
            "eigenvalues": ticks(step) if here else np.empty(0),
            "message": "" if here else nearest_text(scene, step),
        }

    def pinned() -> Array | None:
        step = None if scene.pin is None else scene.step(scene.pin)
        return scene.series.density(step, scene.width) if step in scene.series.spectra else None

    def draw(i: int) -> Any:
        need_spectra(scene)
        return density_plot.figure(
            scene.series.grid,
            **parts(i),
            pinned=pinned(),
            threshold=scene.threshold.value,
            theme=scene.theme,
            label=scene.threshold.formula,
            height=height,
        )

    def caption(i: int) -> str:
        spectrum = scene.series.spectra.get(scene.step(i))
        if spectrum is None:
            command = scene.command("spectrum", f"--checkpoints {scene.step(i)}")
            return f"Other steps are shown. Compute this one: {command}"
        count = len(ticks(scene.step(i)))
        text = (
            f"{facts.evidence(spectrum)}; kernels of width {scene.width.text} in asinh(λ/10⁻³), "
            f"{_kernels(scene)}; integrates to 1"
        )
        errors = scene.sampling_at(spectrum.step)
        if errors is not None and np.isfinite(errors.distance):
            text += f"; half the samples against the other half: Wasserstein distance {errors.distance:.2g}"
        text += (f"; ticks: {count} extreme eigenvalues" if count else "") + "; shaded: negative curvature."
        if scene.pin is None:
            return text
        lacking = "" if pinned() is not None else ", which has no spectrum"
        return f"{text} Grey: step {scene.step(scene.pin):,}{lacking}."

    def table(i: int) -> dict[str, Any]:
        need_spectra(scene)
        spectrum = scene.series.spectra.get(scene.step(i))
        if spectrum is None:
            raise Missing(nearest_text(scene, scene.step(i)))
        other = pinned()
        extra = {} if other is None or scene.pin is None else {f"the same at step {scene.step(scene.pin)}": other}
        return {
            "eigenvalue [loss per squared unit of weight]": quadrature.from_asinh(scene.series.grid),
            "density per unit asinh(eigenvalue/1e-3)": scene.series.density(spectrum.step, scene.width),
            **extra,
        }

    return Card(
        "density",
        lambda i: f"Spectrum at step {scene.step(i):,}",
        draw,
        caption,
        table,
        move=lambda i: density_plot.move(scene.series.grid, **parts(i)),
        about="Eigenvalue density at the selected step",
    )
