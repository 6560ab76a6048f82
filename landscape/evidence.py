"""What a record says about its own making: command, versions, commit, time. No torch, no MPI, no host names."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from .errors import UsageError

_PACKAGES = {"landscape": "hessian-landscape", "torch": "torch", "numpy": "numpy", "mpi4py": "mpi4py"}


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers, without importing them."""
    found = {"python": platform.python_version()}
    for name, distribution in _PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """The git commit of the working directory, with '+' for local changes; None where there is no repository."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + "+" if _git("status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()


def command(ranks: int = 1) -> str:
    """The command line that can be typed again."""
    name = sys.argv[0] if sys.argv else ""
    words = ["landscape", *sys.argv[1:]] if _is_ours(name) else ["python", name, *sys.argv[1:]]
    return shlex.join(["mpirun", "-n", str(ranks), *words] if ranks > 1 else words)


def _is_ours(script: str) -> bool:
    return script.replace("\\", "/").rpartition("/")[2] in ("landscape", "landscape.exe", "__main__.py", "pytest", "")


def batch_job() -> dict[str, str]:
    """The number of the SLURM job at work; nothing outside of one."""
    number = os.environ.get("SLURM_JOB_ID")
    return {"slurm_job": number} if number else {}


def evidence(ranks: int = 1, **numbers: Any) -> dict[str, Any]:
    """Command, time, versions and commit, with further numbers of the job."""
    made = {"command": command(ranks), "created": now(), "versions": versions(), "commit": commit(), "ranks": ranks}
    return made | batch_job() | numbers


def normalised(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON, so that stored and new ones compare equal."""
    values: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return values


_AGAIN = "Add --overwrite to compute it again, or use the old values"


def check_settings(what: str, old: Mapping[str, Any] | None, new: Mapping[str, Any], remedy: str = _AGAIN) -> None:
    """Refuse to mix numbers made with different settings.

    Raises:
        UsageError: a setting differs from that of the stored record.
    """
    if old is None:
        return
    wanted = normalised(new)
    different = [k for k in wanted if k in old and old[k] != wanted[k]]
    if different:
        listed = ", ".join(f"{k} {_short(old[k])}, now {_short(wanted[k])}" for k in different)
        raise UsageError(f"{what} was made with {listed}. {remedy}")


def _short(value: Any) -> str:
    return "none" if value is None else json.dumps(value) if isinstance(value, (dict, list)) else str(value)
