"""A run as the dashboard reads it: no link, no device, no giant; whatever lies there is a record or a sentence."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from landscape import records
from landscape.errors import ProblemError
from landscape.stores.run_directory import Run

LARGEST = {"run.json": 4 << 20, "metrics.jsonl": 1 << 30, "meta.json": 64 << 20, ".json": 4 << 20}  # bytes
LARGEST_ARRAYS = 1 << 30  # bytes of the arrays of one record, unpacked
FILES = ("meta.json", "arrays.npz", "vectors.safetensors")


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a directory or an ordinary file itself: links lead out of the store, pipes never end."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True  # absent: whoever reads it says so
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def check(path: str | os.PathLike[str]) -> None:
    """Refuse to read links, pipes, devices, and files beyond what this software writes.

    Raises:
        ProblemError: it is one.
    """
    if not is_plain(path):
        raise ProblemError(f"'{path}' is a link or no ordinary file, which the dashboard does not read; copy it")
    name = os.path.basename(path)
    limit = LARGEST.get(name) or LARGEST.get(os.path.splitext(name)[1])
    if limit is not None:
        try:
            size = os.stat(path).st_size
        except OSError:
            return
        if size > limit:
            raise ProblemError(
                f"'{path}' is damaged: {size / 2**20:,.0f} MB, where at most {limit >> 20:,} are written"
            )


class Confined(Run):
    """Reads like a `Run`, and only what lies in its own directory.

    Raises:
        ProblemError: run.json is missing, damaged or a link.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        check(Path(root) / "run.json")
        super().__init__(root)

    def keys(self, kind: str | None = None) -> list[str]:
        return super().keys(kind) if is_plain(self.root / "records") else []

    def directory(self, key: str) -> Path:
        found = super().directory(key)
        for path in (found.parent, found, *(found / name for name in FILES)):
            check(path)
        return found

    def read(self, key: str, *, large: bool = False) -> Any:
        file = self.directory(key) / "arrays.npz"
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
        except (OSError, ValueError, zipfile.BadZipFile):
            size = 0  # reading it says what is wrong
        if size > LARGEST_ARRAYS:
            raise ProblemError(
                f"record '{key}' of run '{self.name}' unpacks to {size / 2**30:,.1f} GB, too much to read for a page"
            )
        record: records.Record = super().read(key, large=large)
        if (arrays := record.arrays()) and not any(array.size for array in arrays.values()):
            raise ProblemError(f"record '{key}' of run '{self.name}' is empty; compute it again")
        if record.kind != key.partition("-")[0]:
            raise ProblemError(f"'{file.parent}' holds a {record.kind}, not what its name says; remove it")
        return record

    def metrics(self) -> dict[str, NDArray[Any]]:
        check(self.root / "metrics.jsonl")
        return super().metrics()

    def statuses(self) -> dict[str, dict[str, Any]]:
        directory = self.root / "status"
        if not is_plain(directory) or not all(is_plain(file) for file in directory.glob("*")):
            return {}
        return super().statuses()

    def checkpoint_steps(self) -> list[int]:
        return super().checkpoint_steps() if is_plain(self.root / "checkpoints") else []

    def checkpoint_meta(self, step: int) -> dict[str, Any]:
        directory = self.checkpoint_directory(step)
        plain = all(is_plain(path) for path in (directory.parent, directory, directory / "meta.json"))
        return super().checkpoint_meta(step) if plain else {}
