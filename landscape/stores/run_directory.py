"""A run on disk: one directory, every part published by an atomic rename, readable while jobs write.

    RUN/run.json                         RunInfo
    RUN/metrics.jsonl                    one JSON object a training step: {"step": .., "loss": .., ...}
    RUN/events.jsonl                     one JSON object a change of structure: {"step": .., "event": .., ...}
    RUN/checkpoints/000100/              weights.safetensors, optimizer.safetensors, meta.json
    RUN/records/<key>/                   meta.json (JSON fields), arrays.npz, vectors.safetensors (large fields)
    RUN/resume/000100/                   the full state to go on training from: state.safetensors, state.json
    RUN/status/<job>.json                progress of a job, rewritten about once a second
    RUN/.parts/<key>/<part>.npz          finished pieces of a record still being computed

Names that start with a dot are work in progress: readers ignore them. No file is ever unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from .. import records
from ..errors import ProblemError
from ..records import check_key, operator_key
from ..records._record import fits
from . import logs
from .files import new_directory, to_json, write_text, writing

FORMAT = 1


# ------------------------------------------------------------------ one run


class Run:
    """One run directory. Reading never locks; writing is atomic, one writer per key.

    Raises:
        ProblemError: the directory holds no readable run.json.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = FilePath(root)
        if not (self.root / "run.json").is_file():
            where = "does not exist" if not self.root.exists() else "has no run.json"
            raise ProblemError(
                f"'{self.root}' is no run: it {where}. Record one with `landscape train PROBLEM --out {self.root}`"
            )
        self.info  # noqa: B018  a damaged run.json should be reported here, not later

    @classmethod
    def create(cls, root: str | os.PathLike[str], info: records.RunInfo) -> Run:
        """Make a new run.

        Raises:
            ProblemError: the directory already holds a run.
        """
        root = FilePath(root)
        if (root / "run.json").exists():
            raise ProblemError(f"'{root}' already holds a run; choose another directory or remove it first")
        write_text(root / "run.json", to_json({"format": FORMAT, **dataclasses.asdict(info)}))
        return cls(root)

    @property
    def info(self) -> records.RunInfo:
        try:
            values = json.loads((self.root / "run.json").read_text(encoding="utf-8"))
            known = {f.name: str(f.type) for f in dataclasses.fields(records.RunInfo)}
            given = {k: v for k, v in values.items() if k in known}
            if wrong := [name for name, value in given.items() if not fits(value, known[name])]:
                raise TypeError(f"{wrong[0]} must be {known[wrong[0]]}")
            return records.RunInfo(**given)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ProblemError(f"'{self.root / 'run.json'}' cannot be read: {error}") from error

    def update_info(self, **changes: Any) -> None:
        info = dataclasses.replace(self.info, **changes)
        write_text(self.root / "run.json", to_json({"format": FORMAT, **dataclasses.asdict(info)}))

    @property
    def name(self) -> str:
        return self.root.resolve().name

    # -- records

    def keys(self, kind: str | None = None) -> list[str]:
        """Keys of the finished records, sorted; `kind` is 'spectrum', 'eigenpairs', 'surface', ..."""
        try:
            found = sorted(e.name for e in os.scandir(self.root / "records") if not e.name.startswith("."))
        except OSError:
            return []
        return [k for k in found if kind is None or k.startswith(f"{kind}-")]

    def directory(self, key: str) -> FilePath:
        return self.root / "records" / check_key(key)

    def has(self, key: str) -> bool:
        return (self.directory(key) / "meta.json").is_file()

    def write(self, record: records.Record) -> str:
        """Publish a record under its key, whole or not at all; returns the key."""
        key = record.key
        values = record.values_dict()
        with new_directory(self.directory(key)) as part:
            arrays = record.arrays()
            large = {k: np.ascontiguousarray(arrays.pop(k)) for k in record.large if k in arrays}
            for name in record.nested:
                group: list[records.Record] = getattr(record, name)
                values[f"{name}_values"] = [r.values_dict() for r in group]
                for i, r in enumerate(group):
                    arrays |= {f"{name}/{i}/{k}": a for k, a in r.arrays().items() if k not in r.large}
            _savez(part / "arrays.npz", arrays)
            if large:
                save_file(large, part / "vectors.safetensors")
            (part / "meta.json").write_text(
                to_json({"format": FORMAT, "kind": record.kind, **values}), encoding="utf-8"
            )
        if not record.meta.get("partial"):  # else its job still goes on from its parts
            shutil.rmtree(self.parts_directory(key), ignore_errors=True)
        return key

    def meta(self, key: str) -> dict[str, Any]:
        """The JSON half of a record: cheap to read.

        Raises:
            ProblemError: no such record, or it is damaged.
        """
        file = self.directory(key) / "meta.json"
        try:
            values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ProblemError(f"run '{self.name}' has no record '{key}'") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ProblemError(f"'{file}' is damaged ({error}); remove its directory and compute it again") from error
        if not isinstance(values, dict) or str(values.get("kind")) not in records.KINDS:
            raise ProblemError(f"'{file}' is no record of this software; remove its directory and compute it again")
        if values.get("format", 0) not in range(FORMAT + 1):
            raise ProblemError(f"'{file}' was written by a newer version (format {values['format']}); update landscape")
        return values

    def read(self, key: str, *, large: bool = False) -> Any:
        """Read a record; `large` also reads fields of weight dimension (eigenvectors, plane directions).

        Raises:
            ProblemError: no such record, or it is damaged.
        """
        values = self.meta(key)
        directory = self.directory(key)
        try:
            with np.load(directory / "arrays.npz", allow_pickle=False) as file:
                arrays: dict[str, NDArray[Any]] = {k: file[k] for k in file.files}
            if large and (directory / "vectors.safetensors").exists():
                with safe_open(directory / "vectors.safetensors", framework="numpy") as tensors:
                    arrays |= {k: tensors.get_tensor(k) for k in tensors.keys()}  # noqa: SIM118  no iterator
            kind = records.KINDS[values["kind"]]
            for name, cls in kind.nested.items():
                values[name] = [
                    cls.build({k: arrays[f"{name}/{i}/{k}"] for k in cls.axes if f"{name}/{i}/{k}" in arrays}, v)
                    for i, v in enumerate(values.pop(f"{name}_values", []))
                ]
            return kind.build({k: a for k, a in arrays.items() if "/" not in k}, values)
        except Exception as error:  # a truncated zip raises half a dozen types
            raise ProblemError(
                f"record '{key}' of run '{self.name}' is damaged ({type(error).__name__}: {error}); "
                f"remove {directory} and compute it again"
            ) from error

    def steps(self, kind: str, name: str) -> list[int]:
        """Steps at which a record such as ('spectrum', 'hessian') or ('surface', 'pca') exists, ascending."""
        prefix = f"{kind}-{operator_key(name)}-"
        tails = [k[len(prefix):] for k in self.keys(kind) if k.startswith(prefix)]
        return sorted(int(tail) for tail in tails if _is_step(tail))

    # -- parts of a record that is being computed

    def parts_directory(self, key: str) -> FilePath:
        return self.root / ".parts" / check_key(key)

    def write_part(self, key: str, part: str, **arrays: NDArray[Any]) -> None:
        """Keep a finished piece of a long record, so that a killed job goes on from there."""
        target = self.parts_directory(key) / f"{check_key(part)}.npz"
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}-{os.getpid()}.npz")
            try:
                with open(temporary, "wb") as stream:
                    _savez(stream, arrays)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    def read_parts(self, key: str) -> dict[str, dict[str, NDArray[Any]]]:
        """Finished pieces by name; a damaged piece counts as missing."""
        found: dict[str, dict[str, NDArray[Any]]] = {}
        directory = self.parts_directory(key)
        for file in sorted(directory.glob("[!.]*.npz")) if directory.is_dir() else []:
            with contextlib.suppress(Exception), np.load(file, allow_pickle=False) as arrays:
                found[file.stem] = {k: arrays[k] for k in arrays.files}
        return found

    def clear_parts(self, key: str) -> None:
        shutil.rmtree(self.parts_directory(key), ignore_errors=True)

    # -- metrics and progress

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Training metrics as columns; 'step' always, others NaN where a step lacks them."""
        return logs.columns(self.root / "metrics.jsonl")

    def events(self) -> list[dict[str, Any]]:
        """What happened to the network's structure while it trained, in order: {"step": .., "event": .., ...}."""
        return logs.events(self.root / "events.jsonl")

    def write_status(self, job: str, status: dict[str, Any]) -> None:
        """Progress of a job for other processes: state, done, total, rate, eta_s, updated, ..."""
        write_text(self.root / "status" / f"{check_key(job)}.json", to_json(status))

    def statuses(self) -> dict[str, dict[str, Any]]:
        found = {}
        for file in sorted((self.root / "status").glob("[!.]*.json")):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                value = json.loads(file.read_text(encoding="utf-8"))
                if isinstance(value, dict):
                    found[file.stem] = value
        return found

    # -- checkpoints (directories; their tensors are read by landscape.loss.checkpoints)

    def checkpoint_steps(self) -> list[int]:
        try:
            entries = [e.name for e in os.scandir(self.root / "checkpoints")]
        except OSError:
            return []
        return sorted(int(n) for n in entries if _is_step(n))

    def checkpoint_directory(self, step: int) -> FilePath:
        return self.root / "checkpoints" / f"{step:08d}"

    def checkpoint_meta(self, step: int) -> dict[str, Any]:
        try:
            value = json.loads((self.checkpoint_directory(step) / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= 15


# ------------------------------------------------------------------ many runs


def run_directories(store: str | os.PathLike[str], *, links: bool = True) -> list[str]:
    """Where the runs of a store lie: the directory itself, or those one or two levels below it, by name.

    A run's own folders are not searched, nor what lies below a run that is not the store itself. Without `links` no
    linked directory is one.
    """
    return [place for place, _date in dated_run_directories(store, links=links)]


def dated_run_directories(store: str | os.PathLike[str], *, links: bool = True) -> Iterator[tuple[str, os.stat_result]]:
    """As `run_directories`, each with the status of its run.json: in a store of 1,000 runs every call counts."""
    root = os.fspath(store)
    own = _run_file(root)
    if own:
        yield root, own
    for place in _folders(root, links, ("records", "checkpoints", "resume", "status") if own else ()):
        found = _run_file(place)
        if found:
            yield place, found
        else:
            yield from ((inner, found) for inner in _folders(place, links) if (found := _run_file(inner)))


def _run_file(place: str) -> os.stat_result | None:
    """The status of a directory's run.json; None where it has none."""
    try:
        found = os.stat(f"{place}/run.json")
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _folders(place: str, links: bool, skipped: tuple[str, ...] = ()) -> list[str]:
    try:
        with os.scandir(place) as entries:
            return sorted(
                e.path
                for e in entries
                if not e.name.startswith(".") and e.name not in skipped and e.is_dir(follow_symlinks=links)
            )
    except OSError:
        return []


def runs(store: str | os.PathLike[str]) -> list[Run]:
    """All readable runs of a store, as `run_directories` finds them."""
    found = []
    for directory in run_directories(store):
        with contextlib.suppress(ProblemError):
            found.append(Run(directory))
    return found


def find(store: str | os.PathLike[str], run_id: str) -> Run:
    """The run of a store with this id (its path below the store, or '.' for the store itself).

    Raises:
        ProblemError: no such run, or the id leaves the store.
    """
    root = FilePath(store).resolve()
    directory = (root / run_id).resolve()
    if not directory.is_relative_to(root):
        raise ProblemError(f"'{run_id}' lies outside the store")
    return Run(directory)


def _savez(file: FilePath | BinaryIO, arrays: Mapping[str, Any]) -> None:
    """numpy's own: with arrays of a narrower type its signature takes their names for those of its options."""
    np.savez(file, **arrays)
