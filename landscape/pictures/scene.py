"""The records that one video or figure shows, read from a run: a plane's surface with its trajectory, spectra, log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ProblemError
from ..readings.following import Following, followed
from ..readings.smoothing import Width
from ..records import Eigenpairs, RunInfo, Spectrum, Surface, Trajectory

Array = NDArray[np.float64]
PLANES = ("pca", "eigen", "random")  # which plane is shown where none is asked for: the first that is there


@dataclass(frozen=True)
class Scene:
    """The records that one video shows. `metrics` are columns of the training log: 'step', 'loss', ..."""

    info: RunInfo
    surface: Surface
    trajectory: Trajectory
    spectra: list[Spectrum]
    eigenpairs: list[Eigenpairs] = field(default_factory=list)
    metrics: dict[str, Array] = field(default_factory=dict)
    width: Width | None = None  # of the density's kernels; None: the automatic one of these spectra
    branches: Following | None = None  # of the eigenpairs' vectors, where they were stored

    def __post_init__(self) -> None:
        if not self.spectra:
            raise ProblemError("a video needs at least one spectrum, got none")
        if not len(self.trajectory.steps):
            raise ProblemError("a video needs a trajectory of at least one checkpoint, got none")
        object.__setattr__(self, "spectra", sorted(self.spectra, key=lambda s: s.step))
        object.__setattr__(self, "eigenpairs", sorted(self.eigenpairs, key=lambda e: e.step))


class Readable(Protocol):
    """The part of a run that is read here: `landscape.Run` has it."""

    root: Any

    @property
    def info(self) -> RunInfo: ...
    def keys(self, kind: str | None = None) -> list[str]: ...
    def meta(self, key: str) -> dict[str, Any]: ...
    def read(self, key: str) -> Any: ...
    def metrics(self) -> dict[str, Array]: ...
    def events(self) -> list[dict[str, Any]]: ...


def load(run: Readable, *, plane: str | None = None, operator: str = "hessian", origin: int | None = None) -> Scene:
    """Read the records of a run's video: the newest plane (of that name, through that step) with its trajectory.

    Raises:
        ProblemError: a record is missing; the message holds the command that makes it.
    """
    surface, trajectory = on_plane(run, plane, origin)
    found = {
        kind: [run.read(k) for k in run.keys(kind) if run.meta(k).get("operator") == operator]
        for kind in ("spectrum", "eigenpairs")
    }
    if not found["spectrum"]:
        raise ProblemError(
            f"run '{run.info.name}' has no {operator} spectrum. "
            f"Compute it with `landscape spectrum {run.root} --operator {operator}`"
        )
    return Scene(run.info, surface, trajectory, found["spectrum"], found["eigenpairs"], run.metrics(),
                 branches=_branches(run, operator))  # fmt: skip


def _branches(run: Any, operator: str) -> Following | None:
    """The eigenpairs followed by their vectors; None where a run has none, or of another length."""
    try:
        return followed(run, operator)
    except ProblemError:
        return None


def together(runs: Sequence[Readable], scenes: Sequence[Scene]) -> list[Scene]:
    """The same scenes on the first run's newest plane that holds the trajectories of all; without one, as they are."""
    first, guests = runs[0], dict[tuple[str, int], dict[str, str]]()
    for key in first.keys("guest"):
        meta = first.meta(key)
        guests.setdefault((meta["plane"], meta["step"]), {})[meta["run"]] = key
    names = [scene.info.name for scene in scenes[1:]]
    for plane, origin in sorted(guests, key=lambda place: (-place[1], place[0])):
        found = guests[plane, origin]
        if set(names) <= set(found):
            try:
                surface, own = on_plane(first, plane, origin)
            except ProblemError:
                continue  # the surface or the first run's own trajectory was removed
            paths = [own, *(first.read(found[name]) for name in names)]
            return [replace(scene, surface=surface, trajectory=path)
                    for scene, path in zip(scenes, paths, strict=True)]  # fmt: skip
    return list(scenes)


def on_plane(run: Readable, plane: str | None, origin: int | None) -> tuple[Surface, Trajectory]:
    """Surface and trajectory on the same plane, the plane with the latest origin where no origin is asked for.

    Raises:
        ProblemError: there is none; the message holds the command that makes it.
    """
    others = sorted({run.meta(key)["plane"] for key in run.keys("surface")} - set(PLANES))
    wanted = (plane,) if plane else (*PLANES, *(name for name in others if ".line" not in name))
    by_kind: dict[str, dict[tuple[str, int], str]] = {"surface": {}, "trajectory": {}}
    for kind, found in by_kind.items():
        for key in run.keys(kind):
            meta = run.meta(key)
            if meta["plane"] in wanted and origin in (None, meta["step"]):
                found[meta["plane"], meta["step"]] = key
    surfaces, trajectories = by_kind["surface"], by_kind["trajectory"]
    where = (f" of the {plane} plane" if plane else "") + (f" through step {origin}" if origin is not None else "")
    if not surfaces:
        raise ProblemError(
            f"run '{run.info.name}' has no surface{where}. "
            f"Compute it with `landscape surface {run.root} --plane {plane or PLANES[0]}`, then "
            f"`landscape trajectory {run.root}`"
        )
    both = surfaces.keys() & trajectories.keys()
    if not both:
        raise ProblemError(
            f"run '{run.info.name}' has a surface{where} but no trajectory on it. "
            f"Compute it with `landscape trajectory {run.root}`"
        )
    best = min(both, key=lambda name: (wanted.index(name[0]), -name[1]))
    return run.read(surfaces[best]), run.read(trajectories[best])
