"""The full state of a training, so that a killed one goes on and ends with the same weights, bit for bit.

RUN/resume/<step>/ holds state.safetensors and state.json: weights, optimizer, random generator. Each is published by
one rename and the older one is removed after it, so at any moment at least one is whole.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ProblemError
from ..loss.checkpoints import read_tensors, write_tensors
from ..stores.files import new_directory


def save_state(root: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Publish the state after `step`; then drop older ones."""
    tensors: dict[str, Tensor] = {f"model/{n}": v for n, v in model.state_dict().items() if isinstance(v, Tensor)}
    tensors["random/torch"] = torch.get_rng_state()
    structure = _split(optimizer.state_dict(), "optimizer", tensors)
    with new_directory(root / f"{step:08d}") as part:
        write_tensors(part / "state.safetensors", tensors)
        (part / "state.json").write_text(json.dumps({"step": step, "optimizer": structure}), encoding="utf-8")
    for older in root.iterdir():
        if older.name != f"{step:08d}":
            shutil.rmtree(older, ignore_errors=True)


def last_step(root: Path) -> int | None:
    """The step of the newest whole state, or None."""
    found = [int(d.name) for d in root.glob("[0-9]*") if d.name.isdigit()] if root.is_dir() else []
    return max(found, default=None)


def load_state(root: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the state of a step back into model, optimizer and torch's random generator.

    An optimizer that changes the network's shapes has a method `fit(state)`, which brings both to those of a state.

    Raises:
        ProblemError: it is damaged, or belongs to another model or optimizer.
    """
    directory = root / f"{step:08d}"
    tensors = read_tensors(directory / "state.safetensors")
    try:
        structure = json.loads((directory / "state.json").read_text(encoding="utf-8"))["optimizer"]
        state = {n.removeprefix("model/"): v for n, v in tensors.items() if n.startswith("model/")}
        if hasattr(optimizer, "fit"):
            optimizer.fit(state)
        model.load_state_dict(state)
        optimizer.load_state_dict(_join(structure, tensors))
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ProblemError(
            f"'{directory}' does not fit this model and optimizer ({str(error).splitlines()[0]}); "
            "train into another directory, or remove this run"
        ) from error
    torch.set_rng_state(tensors["random/torch"])


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Nested dicts, lists and numbers as JSON; tensors move to `tensors` and leave their name behind."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        return {"items": [[k, _split(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_split(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    kind = type(value).__name__
    raise ProblemError(f"the optimizer keeps a {kind} at '{path}', which cannot be saved without pickle")


def _join(value: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {k: _join(v, tensors) for k, v in content}
    if kind in ("list", "tuple"):
        items = [_join(v, tensors) for v in content]
        return tuple(items) if kind == "tuple" else items
    return content
