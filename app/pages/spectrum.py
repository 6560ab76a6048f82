"""Spectrum: density over training and at the selected step, and the extreme eigenvalues one by one."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from dash import dcc, html
from dash.development.base_component import Component

from landscape.readings.completeness import completeness
from landscape.readings.sampling import Sampling
from landscape.records import Eigenpairs

from .. import facts, pins, shell
from ..cards import alignments, branches, bulk, layers
from ..cards.spectra import density_card, heat_card
from ..common import Scene, badge
from ..numbers import number
from ..plots import scree
from ..plots.scree import padded
from ..reading import Reader
from ..view import Card, Kpi, Missing, Page, Place, href
from . import overview

NAME, ORDER = "Spectrum", 2


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) == 3 and parts[0] == "run" and parts[2] == "spectrum"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run, "spectrum") if run else None


VIEWS = (("", "Spectrum"), ("outliers", "Outliers"), ("alignment", "Alignment"), ("layers", "By layer"))


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    view = place.choice("view", [name for name, _title in VIEWS])
    return Page(
        f"{badge(scene)}: spectrum",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=pins.slider(scene),
        kpis=pins.compared(scene, lambda i: kpis(scene, i)),
        tabs=tabs(scene, view),
        cards=cards(scene, view),
    )


def cards(scene: Scene, view: str) -> list[Card]:
    if view == "outliers":
        return [scree_card(scene), bulk.card(scene)]
    if view == "alignment":
        return [alignments.share_card(scene), alignments.matrix_card(scene)]
    if view == "layers":
        return layers.cards(scene)
    return [heat_card(scene, span="wide", height=360), density_card(scene), scree_card(scene), branches.card(scene)]


def tabs(scene: Scene, view: str) -> list[Any]:
    def url(**changes: str) -> str:
        kept = {name: scene.place.query.get(name, "") for name in ("op", "x", "width", "view", "as")}
        return href("run", scene.run_id, "spectrum", **{**kept, **changes})

    found = [shell.tabs("View", [(title, url(view=name), name == view) for name, title in VIEWS])]
    operators = [o for o in scene.operators if "[" not in o or o == scene.operator]  # blocks: see 'By layer'
    if len(operators) > 1:
        entries = [(o.replace("_", " "), url(op=o), o == scene.operator) for o in operators]
        found.append(shell.tabs("Operator", entries))
    found.append(shell.tabs("Steps", [("linear", url(x=""), not scene.log), ("log", url(x="log"), scene.log)]))
    if not view:
        ridge = scene.place.query.get("as") == "ridge"
        pictures = [("heatmap", url(**{"as": ""}), not ridge), ("ridgeline", url(**{"as": "ridge"}), ridge)]
        found.append(shell.tabs("Picture", pictures))
        found.append(width_control(scene, url(width="")))
    return found


def width_control(scene: Scene, automatic: str) -> Component:
    """A slider of the kernel's width; its default is the automatic one, which a link goes back to."""
    own = f"{scene.series.automatic.value:.2g}"
    chosen = scene.chosen_width
    knob = dcc.Slider(
        id={"type": "control", "name": "width", "default": own}, min=0.03, max=1.0, step=0.01,
        value=float(own) if chosen is None else chosen, marks={v: f"{v:g}" for v in (0.03, 0.25, 0.5, 1.0)},
        updatemode="mouseup", allow_direct_input=False, included=False,
    )  # fmt: skip
    row = shell.tabs("Kernel width in asinh(λ/λ₀)", [(f"automatic: {own}", automatic, chosen is None)])
    return html.Div([row, html.Div(knob, **{"data-name": "Kernel width"})], className="knob")


def kpis(scene: Scene, index: int) -> list[Kpi]:
    step = scene.step(index)
    c = scene.curvature_at(step)
    return [
        overview.step_kpi(scene, index),
        overview.sharpness_kpi(scene, c),
        overview.lowest_kpi(c),
        overview.trace_kpi(c),
        negative_kpi(c),
        bulk.kpi(scene, step),
        effort_kpi(scene, step),
    ]


def negative_kpi(c: facts.Curvature | None) -> Kpi:
    if c is None or not np.isfinite(c.negative):
        return Kpi("Negative share", "–", "no spectrum at this step")
    hint = f"{c.negative_counts} of {c.size:,} < −{number(c.tau, 1)}"
    return Kpi("Negative share", c.negative_percent, hint)


def effort_kpi(scene: Scene, step: int) -> Kpi:
    spectrum = scene.series.spectra.get(step)
    if spectrum is None:
        return Kpi("Products", "–", "no spectrum at this step")
    matvecs, seconds = spectrum.meta.get("matvecs"), spectrum.meta.get("seconds")
    hint = f"{seconds:.3g} s" if isinstance(seconds, (int, float)) else ""
    ranks = spectrum.meta.get("ranks")
    hint += f" on {ranks} rank{'s' if ranks != 1 else ''}" if isinstance(ranks, int) and hint else ""
    return Kpi(
        "Products", number(float(matvecs)) if isinstance(matvecs, (int, float)) else "–", hint or "with the operator"
    )


def scree_card(scene: Scene) -> Card:
    def need() -> None:
        if not scene.pairs:
            raise Missing(
                "No eigenpairs of this run yet. Compute the ten largest and their residuals with",
                scene.command("spectrum", "--top 10"),
            )

    def message(step: int) -> str:
        return "" if step in scene.pairs else f"No eigenpairs at step {step:,}"

    def draw(i: int) -> Any:
        need()
        ends = [v for p in scene.pairs.values() for v in (*p.values, *p.lowest_values) if np.isfinite(v)]
        return scree.figure(
            scene.pairs.get(scene.step(i)),
            top=top(),
            low=max(len(p.lowest_values) for p in scene.pairs.values()),
            reach=(min(ends, default=-1.0), max(ends, default=1.0)),
            message=message(scene.step(i)),
            sampling=scene.sampling_at(scene.step(i)),
            bulk=bulk.at(scene, scene.step(i)),
            classes=scene.classes,
            theme=scene.theme,
        )

    @functools.cache
    def top() -> int:
        return max((len(p.values) for p in scene.pairs.values()), default=0)

    def caption(i: int) -> str:
        pairs = scene.pairs.get(scene.step(i))
        if pairs is None:
            return f"Compute: {scene.command('spectrum', f'--top 10 --checkpoints {scene.step(i)}')}"
        worst = float(np.max(np.concatenate([pairs.residuals, pairs.lowest_residuals]), initial=0))
        return (
            f"{len(pairs.values)} largest and {len(pairs.lowest_values)} smallest eigenvalues; bars are residual "
            f"bounds (largest {number(worst, 2)}); below, the ratio of neighbours: a tall bar is a gap. "
            f"{completeness(pairs)} {facts.gradient_text(pairs)}{facts.evidence(pairs)}. "
            f"{facts.sampling_text(scene.curvature_at(scene.step(i)))}"
        ).rstrip()

    def table(i: int) -> dict[str, Any]:
        need()
        pairs = scene.pairs.get(scene.step(i))
        if pairs is None:
            raise Missing(message(scene.step(i)))
        low = len(pairs.lowest_values)
        return {
            "index": [*range(1, len(pairs.values) + 1), *range(pairs.size, pairs.size - low, -1)],
            "eigenvalue [loss per squared unit of weight]": [*pairs.values, *pairs.lowest_values],
            "residual": [*pairs.residuals, *pairs.lowest_residuals],
            **sampling_column(pairs, scene.sampling_at(scene.step(i))),
        }

    return Card(
        "scree",
        lambda i: f"Extreme eigenvalues at step {scene.step(i):,}",
        draw,
        caption,
        table,
        move=lambda i: scree.move(
            scene.pairs.get(scene.step(i)),
            top=top(),
            message=message(scene.step(i)),
            sampling=scene.sampling_at(scene.step(i)),
            bulk=bulk.at(scene, scene.step(i)),
        ),
        about="Largest and smallest eigenvalues with residual bounds",
    )


def sampling_column(pairs: Eigenpairs, found: Sampling | None) -> dict[str, Any]:
    """Standard errors of the table's eigenvalues, where they are known."""
    if found is None:
        return {}
    ends = ((pairs.values, found.errors), (pairs.lowest_values, found.lowest_errors))
    return {"sampling error (one sigma)": [e for v, errors in ends for e in padded(errors, len(v))]}
