"""The members of a comparison: what is typed, what each run has come to, and the table."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import UsageError

from . import _common

if TYPE_CHECKING:
    from landscape.loss.problem import Problem
    from landscape.stores.run_directory import Run

TOLERANCE, READ_OUT = 1e-6, 1e-4  # weights that count as small; up to which an optimizer's own zeros are believed


@dataclass(frozen=True)
class Optimizer:
    """A name with its settings; `label` names its runs and its row."""

    name: str
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        text = ",".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in self.settings.items())
        whole = f"{self.name}:{text}" if text else self.name
        short = re.sub(r"[^A-Za-z0-9.+-]+", "_", whole.replace("=", "").replace(":", "-").replace(",", "-")).strip("_")
        return short if len(short) <= 60 else f"{short[:50]}.{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def optimizers(words: Sequence[str]) -> list[Optimizer]:
    """'sgd:lr=0.1,momentum=0.9' and lists such as 'sgd,adam:lr=0.003'; commas inside brackets do not count.

    Raises:
        UsageError: a word that cannot be read, or the same optimizer twice.
    """
    found: list[Optimizer] = []
    for piece in (p for word in words for p in re.split(r",(?![^\[{]*[\]}])", word)):
        name, colon, first = piece.strip().partition(":")
        setting = first
        if "=" in name or (colon and not name):  # it goes on with the optimizer before
            setting = piece.strip()
        elif name:
            found.append(Optimizer(name, {}))
        if not piece.strip() or not found or (setting and "=" not in setting):
            raise UsageError(f"'{piece}' of --optimizers must look like adam or sgd:lr=0.1,momentum=0.9")
        if setting:
            key, value = _common.assignment(setting)
            found[-1].settings[key] = value
    labels = [o.label for o in found]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"--optimizers names {label} twice")
    return found


@dataclass(frozen=True)
class Member:
    """One run of the matrix."""

    optimizer: Optimizer
    seed: int
    store: str

    @property
    def name(self) -> str:
        return f"{self.optimizer.label}-s{self.seed}"

    @property
    def root(self) -> Path:
        return Path(self.store) / self.name


# ---------------------------------------------------------------------- what a run has come to


def own_operator(run: Run, step: int) -> str:
    """The operator whose largest eigenvalue the optimizer's own threshold limits; the Hessian where none is known."""
    from landscape.readings.stability import threshold

    known = (o for o in ("preconditioned", "hessian") if threshold(run.info, o, step).value is not None)
    return next(known, "hessian")


def row(member: Member, problem: Problem) -> dict[str, Any]:
    """One run as the table has it: the columns of `landscape.readings.comparison`, None where nothing is known."""
    from landscape.stores.run_directory import Run

    run = Run(member.root)
    info, steps = run.info, run.checkpoint_steps()
    diverged = info.meta.get("diverged")
    state = "diverged" if diverged else "finished" if info.finished else "unfinished"
    found: dict[str, Any] = {"run": member.name, "optimizer": member.optimizer.label, "seed": member.seed,
                             "state": state, "step": diverged["step"] if diverged else steps[-1]}  # fmt: skip
    if diverged:
        return found
    metrics = run.metrics()
    for name in ("train_loss", "test_loss", "test_accuracy"):
        values = [float(v) for v in metrics.get(name, ())]
        found[name] = values[-1] if values and math.isfinite(values[-1]) else None
    pace = info.meta.get("step_seconds")
    return found | _curvature(run, steps) | _sparsity(run, steps[-1], problem) | {"seconds": pace and pace * steps[-1]}


def _curvature(run: Run, steps: Sequence[int]) -> dict[str, Any]:
    from landscape.readings import bounds
    from landscape.readings.sharpening import slope
    from landscape.readings.stability import threshold
    from landscape.records import spectrum_key

    last, own = steps[-1], own_operator(run, steps[-1])
    tops = {o: _tops(run, o) for o in ("hessian", own)}
    limit, top = threshold(run.info, own, last, _gradient_norm(run, own, last)).value, tops[own].get(last)
    key = spectrum_key("hessian", last)
    rise = slope(list(tops[own]), list(tops[own].values()), limit)
    return {
        "sharpness": tops["hessian"].get(last),
        "trace": bounds.trace(run.read(key)).value if run.has(key) else None,
        "share_of_threshold": top / limit if top is not None and limit else None,
        "threshold": limit, "threshold_of": own,
        "sharpening": 1000 * rise.per_step if rise.points > 1 else None,
        "sharpening_error": 1000 * rise.error if math.isfinite(rise.error) else None,
        "crossed_at": rise.until,
    }  # fmt: skip


def _tops(run: Run, operator: str) -> dict[int, float]:
    """Largest eigenvalue by step."""
    from landscape.records import eigenpairs_key

    pairs = {s: run.read(eigenpairs_key(operator, s)).values for s in run.steps("eigenpairs", operator)}
    return {step: float(values[0]) for step, values in pairs.items() if len(values)}


def _gradient_norm(run: Run, operator: str, step: int) -> float | None:
    from landscape.records import eigenpairs_key

    key = eigenpairs_key(operator, step)
    norm: float | None = run.read(key).meta.get("gradient", {}).get("norm") if run.has(key) else None
    return norm


def _sparsity(run: Run, step: int, problem: Problem) -> dict[str, float]:
    from landscape.loss.checkpoints import Checkpoint
    from landscape.networks.structure import read_out, share_within

    checkpoint, names = Checkpoint(run, step), [name for name, _shape, _slice in problem.named_slices()]
    weights = checkpoint.state()
    zeros = read_out(weights, checkpoint.optimizer_state(), READ_OUT)
    return {"small": share_within(weights, names, TOLERANCE), "zeros": share_within(zeros, names, 0)}


# ---------------------------------------------------------------------- the table


def write(store: str, name: str, rows: list[dict[str, Any]], facts: dict[str, Any]) -> Path:
    """NAME.json, NAME.csv and NAME.md of STORE/comparisons, each whole or not at all; the path without its ending."""
    import dataclasses

    from landscape.readings.comparison import COLUMNS, markdown, summaries
    from landscape.stores.files import to_json, write_text

    place = Path(store) / "comparisons" / name
    text = markdown(rows)
    content = {"format": 1, "name": name, **facts, "rows": rows,
               "summary": [dataclasses.asdict(s) for s in summaries(rows)]}  # fmt: skip
    write_text(place.with_name(f"{name}.json"), to_json(content) + "\n")
    columns = ["run", "optimizer", "seed", "state", "step", *COLUMNS, "sharpening_error", "threshold", "threshold_of"]
    lines = [",".join(columns), *(",".join(_text(r.get(c)) for c in columns) for r in rows)]
    write_text(place.with_name(f"{name}.csv"), "\n".join(lines) + "\n")
    write_text(place.with_name(f"{name}.md"), f"{text}\n\n{NOTE}\n")
    return place


NOTE = (
    "Means over seeds ± half of the 95 % t-interval, at the last checkpoint; diverged runs have no part in them. "
    "Sharpness against the optimizer's own limit is the largest eigenvalue of the preconditioned Hessian for adaptive "
    "ones. Sharpening is the slope of its logarithm before it first reaches the limit. Seconds: of all steps, without "
    "evaluation."
)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
