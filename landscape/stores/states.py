"""The state inside a long computation, in a run directory: each rank writes its columns, any number reads them.

    RUN/.parts/<key>/state-000042/   state.json, small.safetensors, <first column>-<piece>.safetensors

A state is published by one rename after all ranks have written, and the one before it is removed after that; so at
most two exist, and at least one is whole. It goes with the other parts when the record is written.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path as FilePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from .files import fsync_path, to_json, writing
from .run_directory import Run

_PIECE = 1 << 24  # bytes that one file holds: what is written is copied once


class Ranks(Protocol):
    """What is needed of `landscape.distributed.parallel.Comm`."""

    @property
    def rank(self) -> int: ...
    def broadcast(self, value: Any) -> Any: ...
    def together(self) -> AbstractContextManager[None]: ...


class StoredState:
    """A saved state: numbers and small arrays at once, shards by the columns that a rank wants."""

    def __init__(self, directory: FilePath) -> None:
        self.directory = directory
        self.numbers: dict[str, Any] = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        self.arrays: dict[str, NDArray[Any]] = load_file(directory / "small.safetensors")

    def fill(self, name: str, out: NDArray[Any], part: slice) -> None:
        """Read the columns `part` of the shards of this name into out (k, part)."""
        for file in sorted(self.directory.glob("[0-9]*.safetensors")):
            first = int(file.name.partition("-")[0])
            if first >= part.stop:
                continue
            with safe_open(file, framework="numpy") as tensors:
                for key in tensors.keys():  # noqa: SIM118  no iterator
                    what, _, row = key.rpartition("/")
                    rows = tensors.get_slice(key)
                    k, columns = rows.get_shape()
                    low, high = max(part.start, first), min(part.stop, first + columns)
                    if what == name and low < high:
                        target = out[int(row) : int(row) + k, low - part.start : high - part.start]
                        target[...] = rows[:, low - first : high - first]


class States:
    """Where a job keeps the state of the record `key` while it computes it; used by all ranks together."""

    def __init__(self, store: Run, key: str, comm: Ranks) -> None:
        self.comm, self.directory = comm, store.parts_directory(key)

    def _found(self) -> list[FilePath]:
        return sorted(self.directory.glob("state-[0-9]*")) if self.directory.is_dir() else []

    def load(self) -> StoredState | None:
        """The newest whole state, or None; a damaged one counts as missing."""
        name = self.comm.broadcast(max((d.name for d in self._found()), default=None))
        if name is None:
            return None
        state = None
        with contextlib.suppress(Exception):  # a truncated file raises half a dozen types
            state = StoredState(self.directory / name)
        whole = self.comm.broadcast(state is not None)
        with self.comm.together():
            if whole and state is None:
                raise OSError(f"'{self.directory / name}' is not visible to every rank; use a shared file system")
        return state if whole else None

    def save(
        self, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], shards: Mapping[str, NDArray[Any]],
        part: slice,
    ) -> None:  # fmt: skip
        """Publish a state; `shards` are this rank's columns `part` of arrays (k, size)."""
        target: FilePath | None = None
        with self.comm.together():
            if self.comm.rank == 0:
                last = max((int(d.name.rpartition("-")[2]) for d in self._found()), default=0)
                target = self.directory / f"state-{last + 1:06d}"
                with writing(target):
                    for stale in self.directory.glob(".state-*"):
                        shutil.rmtree(stale, ignore_errors=True)
                    (self.directory / f".{target.name}").mkdir(parents=True)
        target = self.comm.broadcast(target)
        assert target is not None
        work = target.with_name(f".{target.name}")
        with self.comm.together(), writing(work):
            for number, piece in enumerate(_pieces(shards)):
                if part.stop > part.start:
                    _write(work / f"{part.start:012d}-{number:04d}.safetensors", piece)
        with self.comm.together():
            if self.comm.rank == 0:
                with writing(target):
                    _write(work / "small.safetensors", {k: np.ascontiguousarray(a) for k, a in arrays.items()})
                    (work / "state.json").write_text(to_json(dict(numbers)), encoding="utf-8")
                    fsync_path(work / "state.json")
                    older = self._found()
                    work.rename(target)
                    fsync_path(self.directory)
                    for directory in older:
                        shutil.rmtree(directory, ignore_errors=True)


def _pieces(shards: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    """Rows of the shards in portions of a file each, named by the array and the number of the first row."""
    for name, shard in shards.items():
        rows = max(1, _PIECE // max(shard[:1].nbytes, 1))
        for first in range(0, len(shard), rows):
            yield {f"{name}/{first}": np.ascontiguousarray(shard[first : first + rows])}


def _write(file: FilePath, tensors: dict[str, NDArray[Any]]) -> None:
    save_file(tensors, file)
    fsync_path(file)
