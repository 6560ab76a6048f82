"""Cached reading: every file is read once for each time it changes, and nothing before it is asked for."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import records
from landscape.errors import LandscapeError, ProblemError
from landscape.readings.following import Following, followed
from landscape.readings.subspaces import Overlaps, overlaps
from landscape.records import check_key
from landscape.stores import run_directory
from landscape.stores.run_directory import Run

from .confined import Confined
from .notes import note
from .series import Series

Array = NDArray[np.float64]
Stamp = tuple[int, int]
THIS = "~"  # the id of a store that is itself a run: '.' would vanish from a URL
FOLLOW_LIMIT = 1 << 30  # bytes of eigenvectors that are read for a page


PLOTTED = ("run.json", "records", "checkpoints", "metrics.jsonl")  # what the plots of a run are made of
PARTS = (*PLOTTED, "status")
SLOWLY = 10 * 10**9  # nanoseconds: the pace at which pages follow metrics and status, written every second by a job


def _stamp(path: str | os.PathLike[str]) -> Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4096)
def _record(root: str, key: str, stamp: Stamp) -> Any:
    return Confined(root).read(key)


@functools.lru_cache(maxsize=16)
def _following(root: str, operator: str, stamps: tuple[Stamp, ...]) -> Following:
    return followed(Confined(root), operator)


@functools.lru_cache(maxsize=32)
def _overlaps(root: str, operator: str, k: int, stamps: tuple[Stamp, ...]) -> Overlaps:
    return overlaps(Run(root), operator, k)


@functools.lru_cache(maxsize=64)
def _metrics(root: str, stamp: Stamp) -> dict[str, Array]:
    return Confined(root).metrics()


@functools.lru_cache(maxsize=16384)
def _run(root: str, stamp: Stamp) -> tuple[Run, records.RunInfo]:
    run = Confined(root)
    return run, run.info


@functools.lru_cache(maxsize=64)
def _series(root: str, operator: str, stamps: tuple[tuple[int, str, Stamp], ...]) -> Series:
    good: dict[int, records.Spectrum] = {}
    damaged: dict[int, str] = {}
    for step, key, stamp in stamps:
        try:
            good[step] = _record(root, key, stamp)
        except LandscapeError as error:
            damaged[step] = str(error)
    return Series(operator, good, damaged)


def _operator(run: Run, name: str, key: str) -> str:
    """The operator's own name where its key holds only letters and a digest of it, as for a block of weights."""
    if "." not in name:
        return name
    try:
        return str(run.meta(key).get("operator", name))
    except LandscapeError:
        return name


class NotFound(ProblemError):
    """A URL names what does not exist."""


class Reader:
    """The one door between pages and disk."""

    def __init__(self, store: str | os.PathLike[str]) -> None:
        self.store = Path(store).resolve()
        self._look = threading.local()
        self.queue: Any = None  # of jobs, where the dashboard may start some
        self.token = ""  # that a request to start one must carry

    # -- runs

    def runs(self) -> list[tuple[str, Run]]:
        """Ids and runs, by id; unreadable runs are left out."""
        return [(run_id, run) for run_id, run in self._survey()[0].items()]

    def unreadable(self) -> dict[str, str]:
        """What is wrong with the runs that are left out, by id."""
        return self._survey()[1]

    @contextlib.contextmanager
    def one_look(self) -> Iterator[None]:
        """Inside, and in this thread, the store is listed and dated once, however often it is asked for."""
        before = getattr(self._look, "kept", None)
        self._look.kept = {} if before is None else before
        try:
            yield
        finally:
            self._look.kept = before

    def _survey(self) -> tuple[dict[str, Run], dict[str, str]]:
        """The runs inside the store and what is wrong with the others, both by id; links are not followed."""
        kept: dict[str, Any] | None = getattr(self._look, "kept", None)
        if kept is not None and "survey" in kept:
            found: tuple[dict[str, Run], dict[str, str]] = kept["survey"]
            return found
        readable: dict[str, Run] = {}
        wrong: dict[str, str] = {}
        store = str(self.store)
        for directory, date in run_directory.dated_run_directories(store, links=False):
            run_id = directory[len(store) :].lstrip("/") or THIS
            try:
                run_id.encode("utf-8")
                readable[run_id] = _run(directory, (date.st_mtime_ns, date.st_size))[0]
            except UnicodeEncodeError:  # such a name has no URL
                continue
            except LandscapeError as error:
                wrong[run_id] = str(error)
            if kept is not None:
                kept[f"{directory}/run.json"] = date.st_mtime_ns
        if kept is not None:
            kept["survey"] = (readable, wrong)
        return readable, wrong

    def run(self, run_id: str) -> Run:
        """The run of an id.

        Raises:
            NotFound: no such run, or the id leaves the store.
            ProblemError: it cannot be read.
        """
        parts = run_id.split("/")
        if "\0" in run_id or len(run_id) > 1000 or any(p in ("", ".", "..") or p.startswith(".") for p in parts):
            raise NotFound(f"'{run_id[:80]}' is no run of this store")
        if run_id != THIS and not os.path.isfile(f"{self.store}/{run_id}/run.json"):
            raise NotFound(f"there is no run '{run_id[:80]}' in this store")
        root = (self.store if run_id == THIS else self.store / run_id).resolve()
        if not root.is_relative_to(self.store):
            raise NotFound(f"'{run_id[:80]}' lies outside the store")
        return _run(str(root), _stamp(root / "run.json"))[0]

    def info(self, run: Run) -> records.RunInfo:
        return _run(str(run.root), _stamp(f"{run.root}/run.json"))[1]

    # -- records

    def record(self, run: Run, key: str) -> Any:
        """A record without its vectors.

        Raises:
            ProblemError: no such record, or it is damaged.
        """
        found = _record(str(run.root), key, self._key_stamp(run, key))
        note(found, (found,))
        return found

    def metrics(self, run: Run) -> dict[str, Array]:
        return _metrics(str(run.root), _stamp(run.root / "metrics.jsonl"))

    def operators(self, run: Run) -> list[str]:
        """Operators with a spectrum or eigenpairs, hessian first."""
        keys = {k.split("-", 1)[1].rpartition("-")[0]: k for kind in ("spectrum", "eigenpairs") for k in run.keys(kind)}
        found = {_operator(run, name, key) for name, key in keys.items() if name}
        return sorted(found, key=lambda o: (o != "hessian", o))

    def series(self, run: Run, operator: str) -> Series:
        steps = run.steps("spectrum", operator)
        keys = [records.spectrum_key(operator, step) for step in steps]
        stamps = tuple((s, k, self._key_stamp(run, k)) for s, k in zip(steps, keys, strict=True))
        found = _series(str(run.root), operator, stamps)
        note(found, found.spectra.values())
        return found

    def eigenpairs(self, run: Run, operator: str) -> dict[int, records.Eigenpairs]:
        """Readable eigenpairs by step; the card that shows another step says what is wrong with it."""
        return self._readable(run, "eigenpairs", operator, records.eigenpairs_key)

    def halves(self, run: Run, operator: str) -> dict[int, records.Halves]:
        """Readable records of sampling errors by step; at other steps the numbers stand without error bars."""
        return self._readable(run, "halves", operator, records.halves_key)

    def following(self, run: Run, operator: str) -> Following:
        """The branches of the eigenpairs; their vectors are read once, and again when one of them changes.

        Raises:
            ProblemError: no vectors, or a damaged record.
        """
        keys = [records.eigenpairs_key(operator, step) for step in run.steps("eigenpairs", operator)]
        vectors = [_stamp(file) for file in self._vector_files(run, operator)]
        return _following(str(run.root), operator, (*vectors, *(self._key_stamp(run, key) for key in keys)))

    def overlaps(self, run: Run, operator: str, k: int) -> Overlaps:
        """Overlaps of the spaces of the k largest eigenvectors of all checkpoints, kept like `following`.

        Raises:
            ProblemError: fewer than two checkpoints have k vectors, or a damaged record.
        """
        return _overlaps(str(run.root), operator, k, tuple(_stamp(file) for file in self._vector_files(run, operator)))

    def vector_bytes(self, run: Run, operator: str) -> int:
        """How much `following` has to read."""
        return sum(_stamp(file)[1] for file in self._vector_files(run, operator))

    def _vector_files(self, run: Run, operator: str) -> list[Path]:
        keys = [records.eigenpairs_key(operator, step) for step in run.steps("eigenpairs", operator)]
        return [run.directory(key) / "vectors.safetensors" for key in keys]

    def _readable(self, run: Run, kind: str, operator: str, key: Callable[[str, int], str]) -> dict[int, Any]:
        found = {}
        for step in run.steps(kind, operator):
            with contextlib.suppress(LandscapeError):
                found[step] = self.record(run, key(operator, step))
        return found

    def _key_stamp(self, run: Run, key: str) -> Stamp:
        directory = f"{run.root}/records/{check_key(key)}"
        meta, arrays = _stamp(f"{directory}/meta.json"), _stamp(f"{directory}/arrays.npz")
        return (meta[0] + arrays[0], meta[1] + arrays[1])

    # -- live

    def stamps(self, run: Run) -> tuple[int, ...]:
        """When each of `PARTS` of a run was written last, in nanoseconds; 0: not there."""
        kept: dict[str, Any] | None = getattr(self._look, "kept", None)
        root = str(run.root)
        if kept is not None and root in kept:
            found: tuple[int, ...] = kept[root]
            return found
        own = kept.get(f"{root}/run.json") if kept is not None else None
        dates = [_date(f"{root}/{PARTS[0]}") if own is None else own]
        dates += [_date(f"{root}/{name}") for name in PARTS[1:]]  # most of what a table of 1,000 runs costs
        found = tuple(dates)
        if kept is not None:
            kept[root] = found
        return found

    def signature(self, run_ids: list[str]) -> str:
        """Changes when a page of these runs, or of all, would look different; costs a few directory listings."""
        names, dates = [], array("q")
        if not run_ids:
            for run_id, run in self.runs():
                names.append(run_id)
                dates.extend(_slowly(self.stamps(run)))
        for run_id in run_ids:
            with contextlib.suppress(LandscapeError):
                dates.extend(_slowly(self.stamps(self.run(run_id)))[: len(PLOTTED)])
                names.append(run_id)
        return hashlib.sha256("\0".join(names).encode("utf-8", "replace") + dates.tobytes()).hexdigest()[:16]


def _date(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return 0


def _slowly(dates: tuple[int, ...]) -> tuple[int, ...]:
    """Dates of `PARTS`, the restless ones at the pace at which pages follow them."""
    run, kept, checkpoints, metrics, status = dates
    return run, kept, checkpoints, metrics // SLOWLY, status // SLOWLY
