"""Checkpoints of a run: safe files of weights by name, in the order of their steps."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ProblemError, UsageError

_ALIASES = "aliases"  # key of a file's metadata: which names share another name's storage


class RunLike(Protocol):
    """What is needed of a run directory."""

    @property
    def root(self) -> Path: ...
    def checkpoint_steps(self) -> list[int]: ...
    def checkpoint_directory(self, step: int) -> Path: ...
    def checkpoint_meta(self, step: int) -> dict[str, Any]: ...
    def events(self) -> list[dict[str, Any]]: ...


class Loadable(Protocol):
    """A problem, as far as a checkpoint is concerned."""

    def fit(self, state: Mapping[str, Tensor]) -> None: ...
    def load(self, state: Mapping[str, Tensor]) -> None: ...


class Checkpoint:
    """Weights saved at one step of a run."""

    def __init__(self, run: RunLike, step: int) -> None:
        self.run = run
        self.step = step

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.run.root)!r}, {self.step})"

    @property
    def directory(self) -> Path:
        return self.run.checkpoint_directory(self.step)

    @property
    def loss(self) -> float | None:
        """The training loss last recorded before it, if any."""
        return self.run.checkpoint_meta(self.step).get("loss")

    def state(self) -> dict[str, Tensor]:
        """The model's state dict: weights and buffers by name."""
        return read_tensors(self.directory / "weights.safetensors")

    def part(self, slices: Sequence[tuple[str, tuple[int, ...], slice]], start: int, stop: int) -> Tensor:
        """Entries start to stop of the flat vector that `slices` lay out (`Problem.named_slices`), read alone.

        Raises:
            ProblemError: the file is missing or damaged, or holds other weights.
        """
        return read_part(self.directory / "weights.safetensors", slices, start, stop)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Optimizer tensors that define curvature, named 'exp_avg_sq/<weight>'; empty for plain gradient descent."""
        file = self.directory / "optimizer.safetensors"
        return read_tensors(file) if file.exists() else {}

    def fit(self, problem: Loadable) -> None:
        """Give a problem's model the width that the network had here, where the run's events say that it changed."""
        if any("widenings" in event for event in self.run.events()):
            problem.fit(self.state())

    def load_into(self, problem: Loadable) -> None:
        """Put the weights into a problem's model, which takes their width where the network grew in training.

        Raises:
            ProblemError: they do not fit, or are not finite; the message names the step.
        """
        self.fit(problem)
        try:
            problem.load(self.state())
        except ProblemError as error:
            raise ProblemError(f"step {self.step} of '{self.run.root}': {error}") from error


def of_run(run: RunLike, selection: str = "all") -> list[Checkpoint]:
    """Checkpoints by 'all', 'last', 'first', steps '0,100,200' or a range '100:500' or '100:500:50' (ends included).

    Raises:
        UsageError: a selection that cannot be read, or a step without a checkpoint.
        ProblemError: the run has no checkpoints.
    """
    steps = run.checkpoint_steps()
    if not steps:
        raise ProblemError(f"run '{run.root}' has no checkpoints yet; train it first, or wait for the first one")
    return [Checkpoint(run, step) for step in _select(steps, selection.strip(), run)]


def _select(steps: Sequence[int], selection: str, run: RunLike) -> list[int]:
    if selection in ("all", "last", "first"):
        return {"all": list(steps), "last": [steps[-1]], "first": [steps[0]]}[selection]
    wanted = [number for piece in selection.split(",") for number in _piece(steps, piece.strip(), selection)]
    missing = sorted(set(wanted) - set(steps))
    if missing or not wanted:
        what = f"no checkpoint at step {missing[0]}" if missing else f"no checkpoint in '{selection}'"
        raise UsageError(f"run '{run.root}' has {what}; it has {_listed(steps)}")
    return sorted(set(wanted))


def _piece(steps: Sequence[int], piece: str, selection: str) -> list[int]:
    try:
        if ":" not in piece:
            return [steps[-1] if piece == "last" else int(piece)]
        first, last, *stride = (int(number) if number else None for number in piece.split(":"))
        inside = [s for s in steps if (first is None or s >= first) and (last is None or s <= last)]
        if stride and stride[0]:
            inside = [s for s in inside if (s - (first or 0)) % stride[0] == 0]
        return inside
    except ValueError:
        raise UsageError(
            f"cannot read the checkpoints '{selection}': say all, last, first, steps such as 0,100,200 or a range "
            "such as 100:500:50"
        ) from None


def _listed(steps: Sequence[int]) -> str:
    shown = [str(s) for s in steps] if len(steps) <= 12 else [*map(str, steps[:6]), "...", *map(str, steps[-3:])]
    return f"{len(steps)} checkpoints: {', '.join(shown)}" if len(steps) > 1 else f"one checkpoint: {shown[0]}"


# ---------------------------------------------------------------------- files


def write_tensors(file: Path, state: Mapping[str, Any]) -> None:
    """Save named tensors without pickle; tensors that are one in memory (tied weights) are stored once."""
    first: dict[tuple[Any, ...], str] = {}
    aliases: dict[str, str] = {}
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        value = value.detach()
        place = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride(), value.device)
        if value.numel() and place in first:
            aliases[name] = first[place]
            continue
        first[place] = name
        # A copy of its own: the format refuses tensors that overlap in memory, e.g. two views of one buffer.
        stored[name] = value.cpu().contiguous().clone()
    save_file(stored, file, metadata={_ALIASES: json.dumps(aliases)})


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote, or any safetensors file.

    Raises:
        ProblemError: the file is missing or damaged.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            found: dict[str, Tensor] = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
            aliases = json.loads((tensors.metadata() or {}).get(_ALIASES, "{}"))
    except FileNotFoundError as error:
        raise ProblemError(f"there is no file '{file}'") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ProblemError(f"'{file}' cannot be read as safetensors ({error}); was its copy cut short?") from error
    return found | {name: found[other] for name, other in aliases.items()}


def read_part(file: Path, slices: Sequence[tuple[str, tuple[int, ...], slice]], start: int, stop: int) -> Tensor:
    """Entries start to stop of the flat vector that `slices` lay out, without reading the rest of the file.

    Raises:
        ProblemError: the file is missing or damaged, or a weight is missing or has another shape.
    """
    pieces = []
    try:
        with safe_open(file, framework="pt") as tensors:
            aliases = json.loads((tensors.metadata() or {}).get(_ALIASES, "{}"))
            for name, shape, where in slices:
                low, high = max(start, where.start) - where.start, min(stop, where.stop) - where.start
                if low >= high:
                    continue
                stored = tensors.get_slice(aliases.get(name, name))
                if tuple(stored.get_shape()) != tuple(shape):
                    raise ProblemError(f"'{name}' in '{file}' has shape {stored.get_shape()}, the model's {shape}")
                row = (where.stop - where.start) // shape[0] if shape else 1  # entries of a row of the first axis
                first = low // row
                rows = stored[first : -(-high // row)] if shape else tensors.get_tensor(aliases.get(name, name))
                pieces.append(rows.reshape(-1)[low - first * row : high - first * row])
    except FileNotFoundError as error:
        raise ProblemError(f"there is no file '{file}'") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ProblemError(f"'{file}' does not hold these weights ({error})") from error
    return torch.cat(pieces) if pieces else torch.empty(0)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of any file or checkpoint directory: .safetensors, or a state dict saved with torch.save.

    A dict that holds the state under 'state_dict', 'model_state_dict' or 'model' is looked into.

    Raises:
        ProblemError: no such file, damaged, or a pickled module, which could run code when it is loaded.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "weights.safetensors"
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if not path.is_file():
        raise ProblemError(f"there is no checkpoint '{path}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ProblemError(
            f"'{path}' holds more than tensors (a pickled module?); loading it could run code, so it is refused. "
            "Save a state dict instead: torch.save(model.state_dict(), ...), or write safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ProblemError(f"'{path}' cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    return _find_state(loaded, path)


def _find_state(loaded: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if isinstance(loaded, Mapping):
        state = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if state:
            return state
    raise ProblemError(f"'{path}' holds no state dict of tensors; save torch.save(model.state_dict(), ...)")
