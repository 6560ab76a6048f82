"""Means and intervals over runs that differ only in their seed. Numpy only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..records import RunInfo
from .bounds import Interval, student


def configuration(info: RunInfo) -> dict[str, Any]:
    """What defines a run apart from its seed: problem, optimizer and every recorded setting, by name."""
    training = info.meta.get("training")
    found: dict[str, Any] = {"problem": info.problem, "optimizer": info.optimizer, "weights": info.size}
    found |= {f"problem.{name}": value for name, value in info.problem_settings.items() if name != "seed"}
    found |= {name: value for name, value in info.settings.items() if name != "seed"}
    if info.meta.get("batch_size") is not None:
        found["batch size"] = info.meta["batch_size"]
    if isinstance(training, dict) and training.get("data") is not None:
        found["data"] = training["data"]
    return found


def differences(infos: Sequence[RunInfo]) -> dict[str, list[Any]]:
    """The entries of the configurations and seeds that are not the same in all runs: name -> value of each run."""
    every = [{**configuration(info), "seed": info.seed} for info in infos]
    names = dict.fromkeys(name for one in every for name in one)
    table = {name: [one.get(name) for one in every] for name in names}
    return {name: values for name, values in table.items() if len({_text(v) for v in values}) > 1}


def groups(infos: Sequence[RunInfo]) -> list[list[int]]:
    """Indices of runs with one configuration, in the order of their first run: those that differ only in their seed."""
    found: dict[str, list[int]] = {}
    for index, info in enumerate(infos):
        found.setdefault(_text(configuration(info)), []).append(index)
    return list(found.values())


def mean(values: ArrayLike) -> Interval:
    """Mean of independent values (n,) with its 95 % interval, mean -+ t_(n-1) s / sqrt(n); open for fewer than two.

    Values that are not finite are left out.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if not len(x):
        return Interval(np.nan, np.nan, np.nan)
    middle = float(x.mean())
    half = student(len(x) - 1) * float(x.std(ddof=1)) / len(x) ** 0.5 if len(x) > 1 else np.inf
    return Interval(middle, middle - half, middle + half)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
