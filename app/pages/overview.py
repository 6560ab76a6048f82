"""Run overview: key numbers at the selected step, training, spectra, surface, and where all of it comes from."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.readings import sampling
from landscape.readings.stability import positive

from .. import facts, pins, shell
from ..axes import step_position
from ..cards import surfaces
from ..cards.spectra import density_card, heat_card
from ..common import Scene, badge
from ..numbers import moment, number
from ..plots import training
from ..reading import Reader
from ..style import move_cursor
from ..view import Card, Kpi, Missing, Page, Place, href

NAME, ORDER = "Overview", 1


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) == 2 and parts[0] == "run"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run) if run else None


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    cards = [training_card(scene), heat_card(scene), surfaces.card(scene, *surfaces.first(scene)), density_card(scene)]
    return Page(
        f"{badge(scene)}: overview",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=pins.slider(scene),
        kpis=pins.compared(scene, lambda i: kpis(scene, i)),
        cards=cards,
        after=[provenance(scene)],
    )


# ------------------------------------------------------------------ key numbers


def kpis(scene: Scene, index: int) -> list[Kpi]:
    """Step, loss, sharpness, smallest eigenvalue, trace, off-plane share."""
    step = scene.step(index)
    curvature = scene.curvature_at(step)
    return [
        step_kpi(scene, index),
        loss_kpi(scene, step),
        sharpness_kpi(scene, curvature),
        lowest_kpi(curvature),
        trace_kpi(curvature),
        plane_kpi(scene, step),
    ]


def step_kpi(scene: Scene, index: int) -> Kpi:
    hint = f"checkpoint {index + 1} of {len(scene.steps)}" if scene.steps else "no checkpoint yet"
    return Kpi("Step", f"{scene.step(index):,}", hint)


def loss_kpi(scene: Scene, step: int) -> Kpi:
    train, test = scene.at(step, "train_accuracy", "accuracy"), scene.at(step, "test_accuracy")
    known = [f"{name} {100 * v:.1f} %" for name, v in (("accuracy", train), ("test", test)) if math.isfinite(v)]
    rate = facts.learning_rate(scene.info)
    settings = f"{scene.info.optimizer}, η = {number(rate)}" if rate else scene.info.optimizer
    return Kpi("Train loss", number(scene.loss_at(step)), ", ".join(known) or settings, amount=scene.loss_at(step))


def sharpness_kpi(scene: Scene, c: facts.Curvature | None) -> Kpi:
    label = "Sharpness λmax"
    if c is None or not math.isfinite(c.sharpness):
        return Kpi(label, "–", "no spectrum at this step")
    if not c.converged:
        return Kpi(label, number(c.sharpness, 4), f"± {number(c.sharpness_residual, 2)}: not converged", "warn")
    return dataclasses.replace(_judged(scene, c, label), amount=c.sharpness)


def _judged(scene: Scene, c: facts.Curvature, label: str) -> Kpi:
    limit = scene.threshold.value
    if c.sampling is not None and math.isfinite(c.sampling.sharpness):
        label += f" ± {number(c.sampling.sharpness, 2)}"
    if limit is None or limit <= 0:
        return Kpi(label, number(c.sharpness, 4), scene.threshold.formula)
    share = c.sharpness / limit
    text = f"{100 * share:.0f} % of {scene.threshold.formula} = {number(limit)}"
    if scene.full_batch is False:  # noise keeps the sharpness of mini-batch training below the limit
        return Kpi(label, number(c.sharpness, 4), f"{text} (all data)", "" if share <= 1 else "warn")
    verdict = ("stable", "good") if share <= 1 else ("above it", "warn")
    return Kpi(label, number(c.sharpness, 4), f"{text}, {verdict[0]}", verdict[1])


def lowest_kpi(c: facts.Curvature | None) -> Kpi:
    if c is None or not math.isfinite(c.lowest):
        return Kpi("Lowest eigenvalue λmin", "–", "no spectrum at this step")
    tone = "warn" if c.saddle else "good"
    return Kpi("Lowest eigenvalue λmin", number(c.lowest), c.saddle_text, tone, amount=c.lowest)


def trace_kpi(c: facts.Curvature | None) -> Kpi:
    if c is None or not math.isfinite(c.trace):
        return Kpi("Trace", "–", "no spectrum at this step")
    spread = f"± {number(c.trace_half, 2)} (95 %), " if math.isfinite(c.trace_half) else "one probe, "
    if c.sampling is not None and math.isfinite(c.sampling.trace):
        spread += f"sampling ± {number(c.sampling.trace, 2)} (two halves)"
    else:
        spread += f"{c.size:,} weights"
    return Kpi("Trace", number(c.trace), spread, amount=c.trace)


def plane_kpi(scene: Scene, step: int) -> Kpi:
    plane, origin = surfaces.first(scene)
    trajectory = scene.trajectory(plane, origin)
    if trajectory is None or step not in trajectory.steps:
        return Kpi("Off the plane", "–", "no trajectory at this step")
    k = list(trajectory.steps).index(step)
    if trajectory.distance[k] <= 0:
        return Kpi("Off the plane", "0 %", "this is the plane's origin")
    share = float(trajectory.off_plane[k] / trajectory.distance[k])
    return Kpi(
        "Off the plane",
        f"{100 * share:.0f} %",
        f"{number(float(trajectory.off_plane[k]))} of {number(float(trajectory.distance[k]))} from the origin",
        "warn" if share > 0.5 else "",
    )


# ------------------------------------------------------------------ training


def training_card(scene: Scene) -> Card:
    limit = scene.threshold.value

    def draw(i: int) -> Any:
        steps, loss = scene.losses
        if not len(steps) and not scene.measured:
            raise Missing(
                "No training metrics yet: they appear after the first step of a running training, or record them with",
                "recorder.step(loss=loss)",
            )
        curvature = scene.curvature
        limits = np.full(len(curvature), limit) if limit is not None else None
        return training.figure(
            steps,
            loss,
            curvature,
            measured=scene.measured,
            threshold=limits,
            label=facts.threshold_text(scene.threshold) if limit is not None else "",
            selected=scene.step(i),
            log=scene.log,
            theme=scene.theme,
        )

    def caption(_i: int) -> str:
        loss = "Loss of every step"
        if scene.measured:
            drawn = {"train loss": "solid", "test loss": "dashed"}
            kinds = " and ".join(f"{name} ({drawn[name]})" for name in scene.measured)
            loss = f"Faint: loss of every step's mini-batch; lines: {kinds} over all data"
        if not scene.curvature:
            return f"{loss}. For sharpness and negative curvature: {scene.command('spectrum')}"
        tau = max(c.tau for c in scene.curvature)
        line = "with its threshold" if limit is not None else f"({facts.threshold_text(scene.threshold)})"
        below = " (mini-batches stay below it)" if limit is not None and scene.full_batch is False else ""
        bars = " with its sampling error" if any(c.sampling is not None for c in scene.curvature) else ""
        return f"{loss}; sharpness{bars} {line}{below}; share of eigenvalues < −{number(tau, 1)}. Click selects."

    def table(_i: int) -> dict[str, Any]:
        steps, loss = scene.losses
        c = scene.curvature
        return {
            "step": steps.astype(int),
            "loss of the step": loss,
            **{f"step of {name}": pair[0].astype(int) for name, pair in scene.measured.items()},
            **{name: pair[1] for name, pair in scene.measured.items()},
            "checkpoint step": [x.step for x in c],
            "sharpness [loss per squared unit of weight]": [x.sharpness for x in c],
            "residual of sharpness": [x.sharpness_residual for x in c],
            "sampling error of sharpness (one sigma)": [x.sampling.sharpness if x.sampling else math.nan for x in c],
            "smallest eigenvalue": [x.lowest for x in c],
            "trace": [x.trace for x in c],
            "half width of its 95 % interval": [x.trace_half for x in c],
            "share of spectrum below -tau": [x.negative for x in c],
            "lower end of its 95 % band": [x.negative_low for x in c],
            "upper end of its 95 % band": [x.negative_high for x in c],
        }

    return Card(
        "training",
        "Training",
        draw,
        caption,
        table,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        controls=[events_link(scene)] if scene.steps else [],
        about="Training loss, sharpness and share of negative eigenvalues against the optimizer step",
    )


def events_link(scene: Scene) -> Component:
    """To the events of the training; a range dragged in the plot goes to those of the range."""
    url = href("run", scene.run_id, "events")
    keep = "step pin x op"
    return shell.link("Drag a range: what happened first?", url, keep=keep, **{"data-window": "training"})


# ------------------------------------------------------------------ provenance


def provenance(scene: Scene) -> html.Section:
    """Everything needed to defend or repeat the numbers."""
    info = scene.info
    found = info.meta.get("versions")
    versions = found if isinstance(found, dict) else {}
    entries: list[tuple[str, Any]] = [
        ("Problem", f"{info.problem} {_settings(info.problem_settings)}".strip()),
        ("Optimizer", f"{info.optimizer} {_settings(info.settings)}".strip()),
        ("Weights", f"{info.size:,}"),
        *_measured_on(scene),
        ("Seed", "–" if info.seed is None else str(info.seed)),
        ("Checkpoints", f"{len(scene.run.checkpoint_steps()):,}, every {info.every:,} steps"),
        ("Started", moment(info.created)),
        ("Finished", moment(info.finished or "not yet")),
        ("Versions", ", ".join(f"{k} {v}" for k, v in versions.items()) or "–"),
        ("Commit", str(info.meta.get("commit") or "–")),
        ("Host", str(info.meta.get("host") or "–")),
        ("SLURM job", str(info.meta.get("slurm_job") or "–")),
    ]
    rows: list[Component] = [html.Div([html.Dt(k), html.Dd(v)]) for k, v in entries if v != "–"]
    command = info.meta.get("command")
    if command:
        rows.append(html.Div([html.Dt("Command"), html.Dd(copied(str(command)), className="copied")], className="full"))
    return html.Section(
        [html.Div(html.H2("Where this comes from"), className="head"), html.Dl(rows, className="facts")],
        className="card",
    )


def copied(command: str) -> list[Component]:
    """A command and the button that copies it; the scripts act on `data-copy`."""
    return [html.Code(command), html.Button("Copy", type="button", className="button", **{"data-copy": "1"})]


def _measured_on(scene: Scene) -> list[tuple[str, Any]]:
    """Which loss on which data the curvature is of, and whether weight decay is part of it."""
    records = [*scene.series.spectra.values(), *scene.pairs.values()]
    if not records:
        return []
    meta = records[-1].meta
    given = meta.get("settings")
    digest = given.get("data") if isinstance(given, dict) else None
    decay = positive(scene.info.settings.get("weight_decay"))
    inside = "the optimizer's weight decay is not in the Hessian" + (f": it would add {number(decay)}" if decay else "")
    samples = sampling.described(meta) or "–"
    return [
        ("Loss", f"{meta['loss']}, training data" if isinstance(meta.get("loss"), str) else "–"),
        ("Data", f"{samples}{f', digest {digest}' if isinstance(digest, str) else ''}"),
        ("Weight decay", inside if decay or "weight_decay" in scene.info.settings else "–"),
    ]


def _settings(settings: dict[str, Any]) -> str:
    shown = {k: v for k, v in settings.items() if v not in (None, False, 0, 0.0)}
    return ", ".join(f"{k} = {v if isinstance(v, str) else json.dumps(v)}" for k, v in shown.items())
