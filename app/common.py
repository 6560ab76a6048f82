"""What several pages of one run share: its steps, losses, curvature and the commands that would compute more."""

from __future__ import annotations

import contextlib
import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import records
from landscape.errors import LandscapeError
from landscape.readings import sampling, stability
from landscape.readings.following import Following
from landscape.readings.smoothing import Width
from landscape.stores.run_directory import Run

from . import facts
from .notes import note
from .reading import THIS, Reader
from .series import Series
from .view import Place, Slider

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """One run as a page sees it: read lazily, every part cached by the reader."""

    reader: Reader
    place: Place
    run_id: str
    run: Run
    info: records.RunInfo

    @classmethod
    def open(cls, reader: Reader, place: Place, run_id: str) -> Scene:
        run = reader.run(run_id)
        return cls(reader, place, run_id, run, reader.info(run))

    # -- controls

    @property
    def theme(self) -> str:
        return self.place.theme

    @property
    def log(self) -> bool:
        return self.place.choice("x", ("linear", "log")) == "log"

    @property
    def chosen_width(self) -> float | None:
        """The kernel width of the URL; None: automatic."""
        width = self.place.number("width", float("nan"), 0.03, 1.0)
        return None if width != width else width

    @functools.cached_property
    def width(self) -> Width:
        return self.width_of(self.series)

    def width_of(self, series: Series) -> Width:
        """Of the kernels with which these spectra are drawn."""
        return series.automatic if self.chosen_width is None else Width(self.chosen_width)

    @functools.cached_property
    def operators(self) -> list[str]:
        return self.reader.operators(self.run)

    @property
    def operator(self) -> str:
        return self.place.choice("op", self.operators or ["hessian"])

    # -- data

    @functools.cached_property
    def _series(self) -> Series:
        return self.reader.series(self.run, self.operator)

    @property
    def series(self) -> Series:
        note(self._series, self._series.spectra.values())
        return self._series

    @functools.cached_property
    def _pairs(self) -> dict[int, records.Eigenpairs]:
        return self.reader.eigenpairs(self.run, self.operator)

    @property
    def pairs(self) -> dict[int, records.Eigenpairs]:
        note(self._pairs, self._pairs.values())
        return self._pairs

    @property
    def halves(self) -> dict[int, records.Halves]:
        """Sampling errors by step, those that belong to the step's spectrum."""
        note(self._halves, self._halves.values())
        return self._halves

    @functools.cached_property
    def _halves(self) -> dict[int, records.Halves]:
        found = self.reader.halves(self.run, self.operator)
        owners = {s: self._series.spectra.get(s) or self._pairs.get(s) for s in found}
        return {s: h for s, h in found.items() if (owner := owners[s]) is not None and sampling.fits(h, owner)}

    @functools.cached_property
    def vector_bytes(self) -> int:
        """How much `following` has to read; asking costs a call a file, so a page asks once."""
        return self.reader.vector_bytes(self.run, self.operator)

    @functools.cached_property
    def following(self) -> Following:
        """The branches of the eigenpairs.

        Raises:
            ProblemError: no vectors, or a damaged record.
        """
        return self.reader.following(self.run, self.operator)

    @functools.cached_property
    def classes(self) -> int | None:
        """The number of classes in the data, where a record says it."""
        entries = [*self._pairs.values(), *self._series.spectra.values()]
        return next((k for r in reversed(entries) if isinstance(k := r.meta.get("classes"), int) and k > 1), None)

    def sampling_at(self, step: int) -> sampling.Sampling | None:
        halves = self.halves.get(step)
        return None if halves is None else sampling.sampling(halves, self.pairs.get(step))

    @functools.cached_property
    def _curvature(self) -> list[facts.Curvature]:
        found = _curvature(self._series, tuple(self._pairs.values()))
        return [facts.with_sampling(c, self.sampling_at(c.step)) for c in found]

    @property
    def curvature(self) -> list[facts.Curvature]:
        note(self._series, self._series.spectra.values())
        note(self._pairs, self._pairs.values())
        return self._curvature

    @functools.cached_property
    def steps(self) -> list[int]:
        """Every step that can be selected: checkpoints and whatever has a spectrum or eigenpairs."""
        found = {
            *self.run.checkpoint_steps(),
            *self.run.steps("spectrum", self.operator),
            *self.run.steps("eigenpairs", self.operator),
        }
        return sorted(found)

    @property
    def slider(self) -> Slider:
        known = {*self.run.steps("spectrum", self.operator), *self.run.steps("eigenpairs", self.operator)}
        return Slider(
            "step",
            self.steps,
            [f"{s:,}" for s in self.steps],
            "Checkpoint (optimizer step)",
            self.place.nearest("step", self.steps),
            self.log,
            marked=[i for i, s in enumerate(self.steps) if s in known],
            pin=self.pin,
        )

    @property
    def pin(self) -> int | None:
        """Index of the pinned step; None where the URL names none."""
        named = np.isfinite(self.place.number("pin", float("nan"), 0, 1e15))
        return self.place.nearest("pin", self.steps) if named and self.steps else None

    def step(self, index: int) -> int:
        return self.steps[index] if 0 <= index < len(self.steps) else 0

    @functools.cached_property
    def metrics(self) -> dict[str, Array]:
        return self.reader.metrics(self.run)

    @functools.cached_property
    def losses(self) -> tuple[Array, Array]:
        """Steps and losses as the optimizer saw them: of mini-batches, unless it used all data."""
        return self.metric("loss")

    @functools.cached_property
    def measured(self) -> dict[str, tuple[Array, Array]]:
        """Losses over all data, at the checkpoints where they were recorded."""
        found = {name: self.metric(name) for name in ("train_loss", "test_loss") if name in self.metrics}
        return {name.replace("_", " "): pair for name, pair in found.items() if len(pair[0])}

    def metric(self, name: str) -> tuple[Array, Array]:
        """Steps and values of a metric, without the steps that have none; a loss that was lost stays, as NaN."""
        steps = self.metrics.get("step", np.empty(0))
        values = self.metrics.get(name, np.full(len(steps), np.nan))
        known = _between(values) if name == "loss" else np.isfinite(values)
        return steps[known], values[known]

    def at(self, step: int, *names: str) -> float:
        """The first of some metrics that has a value at a step; NaN where none has."""
        here = self.metrics.get("step", np.empty(0)) == step
        for name in names:
            values = self.metrics.get(name, np.empty(0))
            if len(values) == len(here) and np.isfinite(values[here]).any():
                return float(values[here][-1])
        return float("nan")

    def loss_at(self, step: int) -> float:
        """The loss over all data where it was measured, else the recorded one."""
        for plane, origin in self.planes():
            trajectory = self.trajectory(plane, origin)
            if trajectory is not None and step in trajectory.steps:
                return float(trajectory.loss[list(trajectory.steps).index(step)])
        recorded = self.at(step, "train_loss", "loss")
        if np.isfinite(recorded):
            return recorded
        value = self.run.checkpoint_meta(step).get("loss")
        return float(value) if isinstance(value, (int, float)) else float("nan")

    @functools.cached_property
    def full_batch(self) -> bool | None:
        """Whether every step used all samples; None where that was not recorded."""
        batch = self.info.meta.get("batch_size")
        samples = next((s for r in self.series.spectra.values() if (s := _all_samples(r)) is not None), None)
        return batch >= samples if isinstance(batch, (int, float)) and samples is not None else None

    def curvature_at(self, step: int) -> facts.Curvature | None:
        note(self._series, self._series.spectra.values())
        note(self._pairs, self._pairs.values())
        return self._curvature_by_step.get(step)

    @functools.cached_property
    def _curvature_by_step(self) -> dict[int, facts.Curvature]:
        return {c.step: c for c in self._curvature}

    @functools.cached_property
    def threshold(self) -> stability.Threshold:
        return stability.threshold(self.info, self.operator)

    # -- planes

    def planes(self) -> list[tuple[str, int]]:
        """(plane, step of its origin) of every finished surface."""
        return self._planes

    @functools.cached_property
    def _planes(self) -> list[tuple[str, int]]:
        found = []
        for key in self.run.keys("surface"):
            plane, _dash, step = key.removeprefix("surface-").rpartition("-")
            if plane and step.isdigit():
                found.append((plane, int(step)))
        order = ["eigen", "pca", "random"]
        return sorted(found, key=lambda p: (order.index(p[0]) if p[0] in order else 9, p[0], p[1]))

    @functools.cached_property
    def _guests(self) -> list[str]:
        return self.run.keys("guest")

    def guests(self, plane: str, origin: int | None) -> list[records.Guest]:
        """Readable trajectories of other runs on a plane."""
        found = []
        for key in self._guests:
            if origin is not None and key.startswith(records.guest_key(plane, origin, "")):
                with contextlib.suppress(LandscapeError):
                    found.append(self.reader.record(self.run, key))
        return found

    def trajectory(self, plane: str, origin: int | None = None) -> records.Trajectory | None:
        """The newest readable trajectory of a plane, or the one of an origin."""
        if (plane, origin) not in self._trajectories:
            self._trajectories[plane, origin] = self._read_trajectory(plane, origin)
        found = self._trajectories[plane, origin]
        if found is not None:
            note(found, (found,))
        return found

    @functools.cached_property
    def _trajectories(self) -> dict[tuple[str, int | None], records.Trajectory | None]:
        return {}

    def _read_trajectory(self, plane: str, origin: int | None) -> records.Trajectory | None:
        steps = self.run.steps("trajectory", plane)
        for step in reversed(steps if origin is None else [s for s in steps if s == origin]):
            with contextlib.suppress(LandscapeError):
                found: records.Trajectory = self.reader.record(self.run, records.trajectory_key(plane, step))
                return found
        return None

    # -- what to type

    @property
    def place_on_disk(self) -> str:
        root = Path(self.run.root)
        here = Path.cwd()
        return shlex.quote(str(root.relative_to(here) if root.is_relative_to(here) and root != here else root))

    def command(self, job: str, *arguments: str, ranks: int = 2) -> str:
        return " ".join([f"mpirun -n {ranks} landscape {job} {self.place_on_disk}", *arguments])


_known: dict[tuple[int, ...], tuple[Any, list[facts.Curvature]]] = {}


def _curvature(series: Series, pairs: tuple[records.Eigenpairs, ...]) -> list[facts.Curvature]:
    """Cached by identity, which the reader keeps stable while files do not change (records hold arrays: no hash)."""
    key = (id(series), *map(id, pairs))
    if key not in _known:
        if len(_known) >= 64:
            _known.clear()
        # the inputs are kept with the answer, so that no id is given to another object meanwhile
        _known[key] = ((series, pairs), facts.over_training(series, {p.step: p for p in pairs}))
    return _known[key][1]


def _all_samples(record: records.Record) -> float | None:
    """Number of training samples, from a record that used all of them."""
    settings, samples = record.meta.get("settings"), record.meta.get("samples")
    subset = isinstance(settings, dict) and settings.get("samples") is not None
    return float(samples) if isinstance(samples, (int, float)) and not subset else None


def _between(loss: Array) -> NDArray[np.bool_]:
    """True from the first finite loss on: a NaN there is a fact about the training, not a step without a record."""
    finite = np.isfinite(loss)
    first = int(finite.argmax()) if finite.any() else len(loss)
    return np.arange(len(loss)) >= first


def badge(scene: Scene) -> str:
    name = scene.info.name if scene.run_id == THIS else scene.run_id
    return f"{scene.info.problem.rpartition('/')[2]} / {name}"
