"""Files that appear whole or not at all, and refusals of the system as sentences."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EnvironmentProblem, ResourceError

# What a system answers when a place cannot be written, whatever is tried: /proc says ENOENT.
_REFUSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG,
    errno.ELOOP,
)  # fmt: skip


def fsync_path(path: Path) -> None:
    """Wait until a file or directory is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a sentence that names the place and the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"no space left writing {what}. Nothing half-written remains; free some space and repeat the command"
            ) from error
        if error.errno in _REFUSED:
            raise EnvironmentProblem(
                f"cannot write {what}: {(error.strerror or 'refused').lower()}. Choose a place that you may write to"
            ) from error
        raise


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A directory that appears under its name only when the block ends well; an older one of that name is replaced."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            os.chmod(part, 0o777 & ~_umask())
            yield part
            for file in part.iterdir():
                fsync_path(file)
            fsync_path(part)
            if target.exists():
                old = part.with_name(part.name + "-old")
                os.rename(target, old)
                os.rename(part, target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.rename(part, target)
            fsync_path(target.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(target: Path, text: str) -> None:
    """Replace a small text file in one step."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def _plain(value: Any) -> Any:
    """JSON knows neither numpy scalars nor NaN: NaN and infinities become null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)


def to_json(value: Any, *, indent: int | None = 1) -> str:
    """Strict JSON of anything a record may hold."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)
