"""Loss landscapes and Hessian spectra of PyTorch networks.

Public names load on first use, so that `import landscape` needs neither torch nor MPI:
`Problem`, `Recorder`, `spectrum`, `top_eigenpairs`, ... (see `__all__`).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Problem": "loss.problem",
    "Game": "games.game",
    "Recorder": "learning.recorder",
    "spectra": "engine.spectrum",
    "Run": "stores.run_directory",
    "runs": "stores.run_directory",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module 'landscape' has no attribute '{name}'")
