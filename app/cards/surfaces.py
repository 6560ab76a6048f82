"""The surface card, shown on the overview and on the surface page."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar

import numpy as np
from dash import Patch

from landscape import records
from landscape.readings import shares

from .. import facts
from ..common import Scene
from ..numbers import number
from ..plots import line, relief
from ..plots import surface as flat
from ..view import Card, Missing
from . import guests

Grid = TypeVar("Grid", records.Surface, records.Volume)
TITLES = {"eigen": "eigenvector", "pca": "principal-component"}


def title(plane: str) -> str:
    """What a plane is called: 'eigenvector', or 'eigenvector (1, low1)' for a variant."""
    kind, _, variant = plane.partition(".")
    name = TITLES.get(kind, kind)
    parts = [re.sub(r"^low(\d+)$", "\N{MINUS SIGN}\\1", part) for part in variant.split(".")]
    return f"{name} ({', '.join(parts)})" if variant else name


def is_line(surface: records.Surface) -> bool:
    return len(surface.v) == 1


def first(scene: Scene) -> tuple[str, int | None]:
    """The plane that the overview shows: principal components if computed, else whatever is there; newest origin."""
    planes = [(plane, step) for plane, step in scene.planes() if ".line" not in plane]
    for wanted in ("pca", "eigen"):
        steps = [s for p, s in planes if p == wanted]
        if steps:
            return wanted, steps[-1]
    return (planes[-1][0], planes[-1][1]) if planes else ("eigen", None)


def read(scene: Scene, plane: str, origin: int | None) -> records.Surface:
    """The surface, or what an empty card says."""
    if origin is None:
        name = title(plane)
        article = "an" if name[0] in "aeiou" else "a"
        if not scene.steps:
            raise Missing("This run has no checkpoints yet; a surface can be computed once there is one.")
        raise Missing(
            f"No loss surface on {article} {name} plane yet. Compute it, and the trajectory on it, with",
            "\n".join(scene.command(job, f"--plane {plane.partition('.')[0]}") for job in ("surface", "trajectory")),
        )
    found: records.Surface = scene.reader.record(scene.run, records.surface_key(plane, origin))
    return found


def quantities(surface: records.Surface | records.Volume) -> dict[str, tuple[str, np.ndarray]]:
    """What can be shown, by its name in the URL: words, and the array (row, column) or (slab, row, column)."""
    named = {
        "loss": ("train loss", surface.loss), "accuracy": ("train accuracy", surface.accuracy),
        "test_loss": ("test loss", surface.test_loss), "test_accuracy": ("test accuracy", surface.test_accuracy),
    }  # fmt: skip
    found = {name: (words, array) for name, (words, array) in named.items() if array is not None}
    for name, array in zip(surface.metric_names, () if surface.metrics is None else surface.metrics, strict=False):
        found[name] = (("test " if name.startswith("test_") else "train ") + name.removeprefix("test_"), array)
    return found


def showing(surface: Grid, name: str) -> Grid:
    """The surface or volume with another of its quantities in place of the loss; itself where it lacks that one."""
    words, array = quantities(surface).get(name, ("train loss", surface.loss))
    return dataclasses.replace(surface, loss=array, meta={**surface.meta, "shown": words})


def selected(trajectory: records.Trajectory | None, step: int) -> int:
    """Place of a step in the trajectory, or of the nearest step that it has; -1 without a trajectory."""
    if trajectory is None or not len(trajectory.steps):
        return -1
    return int(np.abs(trajectory.steps - step).argmin())


def labelled(surface: records.Surface) -> records.Surface:
    """Short axis labels, with each principal component's share of the path where it is known."""
    labels = [label.replace("principal component", "PC") for label in surface.labels]
    shares = axis_shares(surface)
    if surface.plane == "pca" and len(shares) == len(labels) and not any("%" in label for label in labels):
        labels = [f"{label}, {100 * share:.3g} % of the path" for label, share in zip(labels, shares, strict=True)]
    return dataclasses.replace(surface, labels=labels)


def axis_shares(surface: records.Surface) -> list[float]:
    explained = surface.meta.get("explained_variance")
    if isinstance(explained, dict):
        explained = explained.get("axes") or [explained[k] for k in ("u", "v") if k in explained]
    return [float(s) for s in explained if isinstance(s, (int, float))] if isinstance(explained, list) else []


def card(
    scene: Scene,
    plane: str,
    origin: int | None,
    *,
    view: str = "2d",
    show: str = "loss",
    points: bool = False,
    square: bool = False,
    height: int = 300,
    heading: str = "Loss surface and trajectory",
) -> Card:
    """Surface, trajectory and marker; `view` '3d' raises it, `show` is one of its quantities."""

    def trajectory() -> records.Trajectory | None:
        return scene.trajectory(plane, origin)

    def draw(i: int) -> Any:
        surface, path = showing(labelled(read(scene, plane, origin)), show), trajectory()
        if is_line(surface):
            return line.figure(surface, theme=scene.theme, height=height)
        place, others = selected(path, scene.step(i)), scene.guests(plane, origin)
        if view == "3d":
            fig = relief.figure(surface, path, selected=place, theme=scene.theme, height=height)
            guests.add_raised(fig, surface, others if path is not None else [], scene.info.name)
            return fig
        looks: dict[str, Any] = {"square": square, "points": points, "theme": scene.theme, "height": height}
        fig = flat.figure(surface, path, selected=place, tip=guests.downhill(surface, path, place), **looks)
        guests.add(fig, surface, others if path is not None else [], scene.info.name, scene.theme)
        return fig

    def move(i: int) -> Any:
        path = trajectory()
        if is_line(read(scene, plane, origin)):
            return Patch()
        if view == "3d":
            return relief.move(showing(read(scene, plane, origin), show), path, selected(path, scene.step(i)))
        place = selected(path, scene.step(i))
        return flat.move(path, place, guests.downhill(read(scene, plane, origin), path, place))

    def caption(_i: int) -> str:
        surface = showing(read(scene, plane, origin), show)
        stretched = square and view == "2d" and not flat.one_scale(surface)
        if is_line(surface):
            return f"Loss along a line of the {title(plane)} plane through step {surface.step:,}{_samples(surface)}."
        text = caption_of(scene, surface, trajectory()) + "".join(map(guest_text, scene.guests(plane, origin)))
        return text + (" The axes have different scales." if stretched else "")

    def table(_i: int) -> dict[str, Any]:
        surface = read(scene, plane, origin)
        u, v = np.meshgrid(surface.u, surface.v)
        found = {"u [unit of weight]": u.ravel(), "v [unit of weight]": v.ravel()}
        found |= {words: array.ravel() for words, array in quantities(surface).values()}
        return found if surface.measured is None else {**found, "measured": surface.measured.ravel()}

    return Card(
        "surface",
        heading,
        draw,
        caption,
        table,
        move=move,
        about=f"Training loss on the {title(plane)} plane with the projected trajectory",
    )


def caption_of(scene: Scene, surface: records.Surface, trajectory: records.Trajectory | None) -> str:
    """What plane this is and how far the picture is from the truth."""
    name = flat.quantity(surface).replace("train", "training")
    text = f"{name.capitalize()} on the {title(surface.plane)} plane through step {surface.step:,}"
    explained = surface.meta.get("explained_variance")
    captured = explained.get("captured") if isinstance(explained, dict) else surface.meta.get("captured")
    if isinstance(captured, (int, float)):
        runs = surface.meta.get("runs")
        whose = f"variance of {runs} runs' paths" if isinstance(runs, int) and runs > 1 else "path's variance"
        text += f", which holds {100 * captured:.0f} % of the {whose}"
        walk = surface.meta.get("random_walk")
        if isinstance(walk, list) and all(isinstance(w, (int, float)) for w in walk):
            walks = "random walks from the same starts" if surface.meta.get("runs", 1) != 1 else "a random walk"
            text += f" ({walks} of as many checkpoints would show {100 * sum(walk):.0f} %)"
    text += f" ({len(surface.u)} × {len(surface.v)} points{_samples(surface)}). {_aligned(surface)}{_evidence(surface)}"
    if trajectory is None:
        return text + f"For the trajectory on it: {scene.command('trajectory', f'--plane {surface.plane}')}"
    low, high = facts.projection_ratio(trajectory)
    off = float(np.nanmax(trajectory.off_plane)) if len(trajectory.off_plane) else float("nan")
    return text + (
        f"The path is projected: the loss read off the plane is {number(low)} to {number(high)} × the true loss; "
        f"up to {number(off)} units of weight off the plane{_seen(trajectory)}."
    )


def _aligned(surface: records.Surface) -> str:
    """Whose units were permuted onto those of the run at the origin, and how much nearer that brought them."""
    told = surface.meta.get("alignment")
    if not isinstance(told, list) or not told:
        return ""
    runs = [f"{one['run']} ({number(one['distance_before'])} → {number(one['distance_after'])})" for one in told]
    return f"Aligned: hidden units of {' and '.join(runs)} permuted towards the origin, which changes no function. "


def _seen(trajectory: records.Trajectory) -> str:
    """Shares of the path's length and of its gradients that lie in the plane, where they are recorded."""
    length, gradient = shares.length_share(trajectory), shares.gradient_share(trajectory)
    text = "" if length is None else f"; {100 * length:.0f} % of its length lies in the plane"
    if gradient is not None and np.isfinite(gradient).any():
        text += f", and {100 * float(np.nanmedian(gradient)):.0f} % of the gradient (median; arrow: its descent there)"
    return text


def guest_text(guest: records.Guest) -> str:
    low, high = facts.projection_ratio(guest)
    off = float(np.nanmax(guest.off_plane)) if len(guest.off_plane) else float("nan")
    return f" {guest.run}: {number(low)} to {number(high)} × the true loss, up to {number(off)} units off the plane."


def _evidence(surface: records.Surface) -> str:
    """What was measured and what was not, and with which BatchNorm statistics."""
    text = ""
    if surface.measured is not None:
        share = float(surface.measured.mean())
        measured = int(surface.measured.sum())
        text = f"{measured:,} points are measured ({shares.in_percent(share)} %), the others interpolated"
        error, count = surface.meta.get("held_out_error"), surface.meta.get("held_out")
        if surface.meta.get("partial"):
            text += ": a first picture of a job that is not finished"
        elif isinstance(error, (int, float)) and count:
            wrong = f"{shares.in_percent(error)} % of its range"
            text += f"; at {count:,} points held out the loss is wrong by at most {wrong}"
        text += ". "
    text += f"{embedded[0].upper()}{embedded[1:]}. " if (embedded := str(surface.meta.get("embedded", ""))) else ""
    policy = surface.meta.get("batch_norm", "none")
    return text if policy == "none" else f"{text}BatchNorm: {policy}. "


def _samples(surface: records.Surface) -> str:
    samples = surface.meta.get("samples")
    return f", {samples:,.0f} samples" if isinstance(samples, (int, float)) else ""
