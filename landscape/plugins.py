"""A folder is a registry: the file's name is the choice's name on the command line and in the browser."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from .errors import UsageError


def names(package: str) -> list[str]:
    """Names of the plug-ins of a package such as `landscape.operators`, sorted: its files, without those that start
    with _ (private) and without its folders (registries of their own)."""
    module = importlib.import_module(package)
    found = pkgutil.iter_modules(module.__path__)
    return sorted(m.name for m in found if not m.name.startswith("_") and not m.ispkg)


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in by its name.

    Raises:
        UsageError: no file of that name; the message lists the choices.
    """
    choices = names(package)
    if name not in choices:
        kind = package.rpartition(".")[2].removesuffix("s")
        raise UsageError(f"unknown {kind} '{name}'; the choices are {', '.join(choices)}")
    return importlib.import_module(f"{package}.{name}")
