"""The surface card, shown on the overview and on the surface page."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from landscape import records
from landscape.stores import run_directory

from . import facts
from .common import Scene
from .plots import relief
from .plots import surface as flat
from .style import number
from .view import Card, Missing

TITLES = {"eigen": "eigenvector", "pca": "principal-component", "random": "random"}


def first(scene: Scene) -> tuple[str, int | None]:
    """The plane that the overview shows: principal components if computed, else whatever is there; newest origin."""
    planes = scene.planes()
    for wanted in ("pca", "eigen"):
        steps = [s for p, s in planes if p == wanted]
        if steps:
            return wanted, steps[-1]
    return (planes[-1][0], planes[-1][1]) if planes else ("eigen", None)


def read(scene: Scene, plane: str, origin: int | None) -> records.Surface:
    """The surface, or what an empty card says."""
    if origin is None:
        name = TITLES.get(plane, plane)
        article = "an" if name[0] in "aeiou" else "a"
        if not scene.run.checkpoint_steps():
            raise Missing("This run has no checkpoints yet; a surface can be computed once there is one.")
        raise Missing(
            f"No loss surface on {article} {name} plane yet. Compute it, and the trajectory on it, with",
            "\n".join([scene.command("surface", f"--plane {plane}"), scene.command("trajectory", f"--plane {plane}")]),
        )
    found: records.Surface = scene.reader.record(scene.run, run_directory.surface_key(plane, origin))
    return found


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
    square: bool = False,
    height: int = 300,
    title: str = "Loss surface and trajectory",
) -> Card:
    """Surface, trajectory and marker; `view` '3d' raises it."""

    def trajectory() -> records.Trajectory | None:
        return scene.trajectory(plane, origin)

    def draw(i: int) -> Any:
        surface, path = labelled(read(scene, plane, origin)), trajectory()
        place = selected(path, scene.step(i))
        if view == "3d":
            return relief.figure(surface, path, selected=place, theme=scene.theme, height=height)
        return flat.figure(surface, path, selected=place, square=square, theme=scene.theme, height=height)

    def move(i: int) -> Any:
        path = trajectory()
        if view == "3d":
            return relief.move(read(scene, plane, origin), path, selected(path, scene.step(i)))
        return flat.move(path, selected(path, scene.step(i)))

    def caption(_i: int) -> str:
        surface = read(scene, plane, origin)
        stretched = square and view == "2d" and not flat.one_scale(surface)
        return caption_of(scene, surface, trajectory()) + (" The axes have different scales." if stretched else "")

    def table(_i: int) -> dict[str, Any]:
        surface = read(scene, plane, origin)
        u, v = np.meshgrid(surface.u, surface.v)
        return {"u [unit of weight]": u.ravel(), "v [unit of weight]": v.ravel(), "train loss": surface.loss.ravel()}

    return Card(
        "surface",
        title,
        draw,
        caption,
        table,
        move=move,
        about=f"Training loss on the {TITLES.get(plane, plane)} plane with the projected trajectory",
    )


def caption_of(scene: Scene, surface: records.Surface, trajectory: records.Trajectory | None) -> str:
    """What plane this is and how far the picture is from the truth."""
    text = f"Training loss on the {TITLES.get(surface.plane, surface.plane)} plane through step {surface.step:,}"
    explained = surface.meta.get("explained_variance")
    captured = explained.get("captured") if isinstance(explained, dict) else surface.meta.get("captured")
    if isinstance(captured, (int, float)):
        text += f", which holds {100 * captured:.0f} % of the path's variance"
        walk = surface.meta.get("random_walk")
        if isinstance(walk, list) and all(isinstance(w, (int, float)) for w in walk):
            text += f" (a random walk of as many checkpoints would show {100 * sum(walk):.0f} %)"
    text += f" ({len(surface.u)} × {len(surface.v)} points{_samples(surface)}). "
    if trajectory is None:
        return text + f"For the trajectory on it: {scene.command('trajectory', f'--plane {surface.plane}')}"
    low, high = facts.projection_ratio(trajectory)
    off = float(np.nanmax(trajectory.off_plane)) if len(trajectory.off_plane) else float("nan")
    return text + (
        f"The path is projected: the loss read off the plane is {number(low)} to {number(high)} × the true loss; "
        f"up to {number(off)} off the plane."
    )


def _samples(surface: records.Surface) -> str:
    samples = surface.meta.get("samples")
    return f", {samples:,.0f} samples" if isinstance(samples, (int, float)) else ""
