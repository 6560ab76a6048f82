"""The event window: what happened first in a range of steps, and whether the data can tell the order."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.readings import events
from landscape.readings.subspaces import gradient_shares

from ..axes import step_position
from ..common import Scene
from ..plots import events as plot
from ..style import move_cursor
from ..view import Card, Missing
from . import edge
from .spectra import operator_name

Array = NDArray[np.float64]
Curve = tuple[Array, Array]
_NORMS = {"gradient norm": ("grad_norm", "gradient_norm"), "update norm": ("update_norm",)}


def window(scene: Scene) -> tuple[float, float]:
    """The range of steps in the URL, 'from:to', else the whole training."""
    everything = [*scene.losses[0], *scene.steps]
    low, high = (min(everything), max(everything)) if everything else (0.0, 1.0)
    found = re.fullmatch(r"(\d{1,12}):(\d{1,12})", scene.place.query.get("window", ""))
    if not found:
        return float(low), float(high)
    ends = sorted(float(np.clip(float(text), low, high)) for text in found.groups())
    return (ends[0], ends[1]) if ends[1] > ends[0] else (float(low), float(high))


def panels(scene: Scene) -> list[plot.Panel]:
    """Loss, norms, sharpness and alignment, each with its first crossing inside the window."""
    where = window(scene)
    loss = scene.losses
    upper = {"": (loss[0], events.band(loss[1]))}
    left = events.first("the loss left its 5σ band", *loss, upper[""][1], where)
    return [
        plot.Panel("loss", {"loss": loss}, event=left, limits=upper, missing="no metrics yet"),
        _norms(scene, where),
        _sharpness(scene, where),
        _alignment(scene, where),
    ]


def _norms(scene: Scene, where: tuple[float, float]) -> plot.Panel:
    curves = {}
    for title, names in _NORMS.items():
        found = next((scene.metric(n) for n in names if n in scene.metrics and len(scene.metric(n)[0])), None)
        if found is not None:
            curves[title] = found
    if not curves:
        curves = _of_checkpoints(scene)
    limits, first = {}, []
    for title, (steps, values) in curves.items():
        limits[title] = (steps, events.band(values))
        first.append(events.first(f"the {title} left its 5σ band", steps, values, limits[title][1], where))
    happened = [e for e in first if e is not None]
    return plot.Panel(
        "norms", curves, event=min(happened, key=lambda e: e.step, default=None), limits=limits,
        missing="no norms recorded: train with --norms, or recorder.step(grad_norm=..., update_norm=...)",
    )  # fmt: skip


def _of_checkpoints(scene: Scene) -> dict[str, Curve]:
    """Norms at the checkpoints alone, from a trajectory."""
    for plane, origin in scene.planes():
        found = scene.trajectory(plane, origin)
        if found is not None and found.gradient_norm is not None:
            curves = {"gradient norm": (found.steps.astype(float), found.gradient_norm)}
            if found.moved is not None:
                gaps = np.diff(found.steps, prepend=np.nan)
                curves["update norm"] = (found.steps.astype(float), found.moved / gaps)
            return curves
    return {}


def _sharpness(scene: Scene, where: tuple[float, float]) -> plot.Panel:
    found = edge.stability_of(scene)
    if len(found.ratio):
        what = f"λmax passed {found.formula}"
        return plot.Panel(
            "λ<sub>max</sub>", {"λmax": (found.steps, found.sharpness)}, limit=float(found.limit[-1]), log=False,
            event=events.first(what, found.steps, found.ratio, 1.0, where),
        )  # fmt: skip
    steps = np.array([c.step for c in scene.curvature], dtype=np.float64)
    values = np.array([c.sharpness for c in scene.curvature], dtype=np.float64)
    return plot.Panel("λ<sub>max</sub>", {"λmax": (steps, values)}, log=False, missing="no eigenvalues yet")


def _alignment(scene: Scene, where: tuple[float, float]) -> plot.Panel:
    k = min((len(p.values) for p in scene.pairs.values()), default=0)
    steps, values = gradient_shares(scene.pairs.values(), k) if k else (np.empty(0), np.empty(0))
    x = steps.astype(np.float64)
    what = f"the gradient's share in the top {k} left its 5σ band"
    return plot.Panel(
        f"|g|² in top {k}" if k else "|g|² in top k", {f"share in the top {k}": (x, values)}, log=False,
        event=events.first(what, x, values, events.band(values, memory=20), where), missing="no gradient shares yet",
    )  # fmt: skip


# ------------------------------------------------------------------ words


def verdict(scene: Scene) -> str:
    """What happened first, in words; where measurements are too sparse to tell, that."""
    where = window(scene)
    found = [p.event for p in panels(scene) if p.event is not None]
    span = f"Steps {int(where[0]):,} to {int(where[1]):,}: "
    if not found:
        return f"{span}no crossing: loss, norms, sharpness and gradient share stayed within their bands."
    text = events.sentence(found)
    if events.ordered(found):
        return f"{span}{text}."
    return f"{span}{text}. {_sparse(scene, where)}"


def _sparse(scene: Scene, where: tuple[float, float]) -> str:
    have = {*scene.series.steps, *scene.pairs}
    inside = [s for s in scene.steps if where[0] <= s <= where[1]]
    lacking = [s for s in inside if s not in have]
    gap = max((b - a for a, b in itertools.pairwise(inside)), default=scene.info.every)
    text = f"Checkpoints every {gap:,} steps: order unknown; "
    if lacking:
        job = scene.command("spectrum", f"--checkpoints {lacking[0]}:{lacking[-1]}:{max(scene.info.every, 1)}")
        return f"{text}run `{job}`."
    return f"{text}train again with `--checkpoint-every {max(gap // 10, 1)} --norms` to tell."


def _whose(scene: Scene) -> str:
    """Whose sharpness is drawn, where it is not the Hessian's."""
    found = edge.stability_of(scene)
    other = len(found.ratio) and found.operator != "hessian"
    return f" λmax: of the {operator_name(found.operator)}." if other else ""


def card(scene: Scene) -> Card:
    def need() -> list[plot.Panel]:
        found = panels(scene)
        if not any(len(x) for p in found for x, _ in p.curves.values()):
            raise Missing("No training metrics yet: they appear after the first step of a running training.")
        return found

    def table(_i: int) -> dict[str, Any]:
        return {
            column: value for p in need() for name, (x, y) in p.curves.items()
            for column, value in ((f"step of {name}", x), (name, y))
        }  # fmt: skip

    return Card(
        "window-over", "Event window",
        lambda i: plot.figure(need(), window(scene), selected=scene.step(i), log=scene.log, theme=scene.theme),
        lambda _i: f"{verdict(scene)} Dotted: median + 5σ (σ from the median absolute deviation) of the values before."
        f"{_whose(scene)}",
        table, move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])), span="wide",
        about="Loss, norms, sharpness and gradient share in a window of the training, with first crossings marked",
    )  # fmt: skip
