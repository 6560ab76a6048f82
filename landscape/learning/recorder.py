"""Three lines in a training loop: weights, metrics and what defines the optimizer, on disk while it trains."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import batch_job, command, commit, now, versions
from ..loss.checkpoints import write_tensors
from ..records import RunInfo
from ..stores.files import new_directory, to_json, write_text, writing
from ..stores.run_directory import Run
from . import resuming

# State that defines the metric in which an optimizer moves: second moments, and the counts that correct their bias.
_CURVATURE_STATE = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "grad_avg", "acc_delta", "sum", "exp_inf", "step")
_NOT_MATHEMATICS = ("params", "foreach", "fused", "capturable", "differentiable", "nudges", "eigenvalues",
                    "layout", "param_names")  # fmt: skip


class Recorder:
    """Records a training run.

        recorder = landscape.Recorder("runs/a", problem="my.module:build", model=model, optimizer=optimizer, every=100)
        ...
            optimizer.step()
            recorder.step(loss=loss)
        recorder.close()

    It saves a checkpoint when it is made (step 0), every `every` steps and when it is closed.

    Args:
        run_dir: the run's directory; its parent is the store.
        problem: 'digits_mlp', 'module:function' or 'file.py:function'; later jobs rebuild model and data with it.
        problem_settings: keyword arguments of that function.
        every: steps between checkpoints.
        resume: go on with a run that exists: weights, optimizer and torch's random generator are restored, and
            `recorder.steps` says how many steps are done.
        meta: anything else worth keeping, as JSON values.

    Raises:
        ProblemError: the directory holds a run already (and `resume` is not set), or one of another model.
        EnvironmentProblem: the directory cannot be written.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        problem: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        every: int = 100,
        problem_settings: Mapping[str, Any] | None = None,
        seed: int | None = None,
        name: str | None = None,
        resume: bool = False,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        if every < 1:
            raise UsageError(f"every must be at least 1 step, got {every}")
        self.model, self.optimizer, self.every = unwrapped(model), optimizer, every
        self.root = Path(run_dir)
        self.steps = 0
        self.loss: float | None = None
        self.not_finite = 0
        info = RunInfo(
            name=name or self.root.resolve().name,
            problem=problem,
            problem_settings=dict(problem_settings or {}),
            optimizer=type(optimizer).__name__,
            settings=hyperparameters(optimizer),
            every=every,
            size=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            seed=seed,
            created=now(),
            meta={"versions": versions(), "command": command(), "commit": commit(), **batch_job(), **(meta or {})},
        )
        goes_on = resume and (self.root / "run.json").exists()
        self.run = Run(self.root) if goes_on else Run.create(self.root, info)
        done = resuming.last_step(self._resume_directory) if goes_on else None
        if done is not None:
            self._go_on(done)
        with writing(self.root / "metrics.jsonl"):
            self._metrics = open(self.root / "metrics.jsonl", "a" if done is not None else "w", encoding="utf-8")  # noqa: SIM115
        if done is None:
            (self.root / "events.jsonl").unlink(missing_ok=True)  # of a training that was killed before it saved
            self.checkpoint()

    @property
    def _resume_directory(self) -> Path:
        return self.root / "resume"

    @property
    def saved_steps(self) -> int:
        """Steps of the state that another start would go on from."""
        return resuming.last_step(self._resume_directory) or 0

    def _go_on(self, done: int) -> None:
        resuming.load_state(self._resume_directory, done, self.model, self.optimizer)
        self.steps = done
        rows = list(_rows(self.root / "metrics.jsonl", done))
        write_text(self.root / "metrics.jsonl", "".join(rows))  # steps after the saved state are trained again
        if (self.root / "events.jsonl").exists():
            write_text(self.root / "events.jsonl", "".join(_rows(self.root / "events.jsonl", done)))
        self.loss = json.loads(rows[-1]).get("loss") if rows else None
        if self.run.info.finished is not None:
            self.run.update_info(finished=None)

    # ------------------------------------------------------------------ during training

    def step(self, loss: Any = None, **metrics: Any) -> None:
        """Once after each `optimizer.step()`: writes the step's metrics and events and, when due, a checkpoint.

        An optimizer that changes the structure puts what it did into its list `events`, one dict an event with a
        `kind` and JSON values: {"kind": "rank", "layer": "0", "before": 20, "after": 18}. The list is emptied here.
        """
        self.steps += 1
        self.log(loss=loss, **metrics)
        events: list[dict[str, Any]] = getattr(self.optimizer, "events", [])
        for event in events:
            self.event(**event)
        events.clear()
        if self.steps % self.every == 0:
            self.checkpoint()

    def log(self, **metrics: Any) -> None:
        """Metrics of the present step, without advancing; a value that is not finite is kept as null and counted."""
        numbers = {k: _number(v) for k, v in metrics.items() if v is not None}
        self.not_finite += sum(v is None for v in numbers.values())
        if "loss" in metrics:
            self.loss = numbers.get("loss")
        self._metrics.write(to_json({"step": self.steps, **numbers}, indent=None) + "\n")
        self._metrics.flush()

    def event(self, kind: str, **what: Any) -> None:
        """Something that happened between two steps, as JSON values: a neuron split, a rank changed, a group died."""
        with writing(self.root / "events.jsonl"), open(self.root / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(to_json({"step": self.steps, "event": kind, **what}, indent=None) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def checkpoint(self) -> None:
        """Save the present weights now, and the state to go on from."""
        self._metrics_to_disk()
        directory = self.run.checkpoint_directory(self.steps)
        with new_directory(directory) as part:
            write_tensors(part / "weights.safetensors", self.model.state_dict())
            state = self.curvature_state()
            if state:
                write_tensors(part / "optimizer.safetensors", state)
            meta = {"step": self.steps, "loss": self.loss, "created": now(), "lr": self._rate()}
            (part / "meta.json").write_text(to_json(meta), encoding="utf-8")
        self.save_state()

    def save_state(self) -> None:
        """Save the state to go on from, without a checkpoint: for a training that is being stopped."""
        resuming.save_state(self._resume_directory, self.steps, self.model, self.optimizer)

    def _metrics_to_disk(self) -> None:
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def _rate(self) -> float | None:
        value = self.optimizer.param_groups[0].get("lr")
        return None if value is None else float(value)

    def curvature_state(self) -> dict[str, Tensor]:
        """The optimizer's tensors that define curvature, named 'exp_avg_sq/<weight>'.

        A plug-in optimizer may name more of them in its attribute `curvature_state`.
        """
        wanted = {*_CURVATURE_STATE, *getattr(self.optimizer, "curvature_state", ())}
        names = {id(p): n for n, p in self.model.named_parameters()}  # a network that grew has others
        return {
            f"{key}/{names[id(parameter)]}": torch.as_tensor(value)
            for parameter, state in self.optimizer.state.items()
            if id(parameter) in names
            for key, value in state.items()
            if key in wanted and isinstance(value, (Tensor, int, float))
        }

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Save the last checkpoint and mark the run as finished."""
        if self._metrics.closed:
            return
        if self.steps not in self.run.checkpoint_steps():
            self.checkpoint()
        self._metrics_to_disk()
        self._metrics.close()
        meta = self.run.info.meta | ({"not_finite": self.not_finite} if self.not_finite else {})
        self.run.update_info(finished=now(), meta=meta)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # an unfinished run stays marked as unfinished
            self._metrics.close()


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel or torch.compile: its weights carry no prefix."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def hyperparameters(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Settings of the optimizer as JSON values; several parameter groups are listed under 'groups'."""
    groups = [
        {k: _setting(v) for k, v in group.items() if k not in _NOT_MATHEMATICS} for group in optimizer.param_groups
    ]
    return groups[0] | ({"groups": groups} if len(groups) > 1 else {})


def _setting(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_setting(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _number(value: Any) -> float | int | None:
    if isinstance(value, Tensor):
        value = value.detach().item()
    if isinstance(value, bool) or not isinstance(value, int):
        value = float(value)
    return value if math.isfinite(value) else None


def _rows(file: Path, last: int) -> Iterator[str]:
    """The whole lines of a metrics file up to a step."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= last:
                yield line + "\n"
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short by a kill
