"""Runs that differ in optimizer and seed, side by side: means over seeds with their 95 % t-intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bounds import student

Row = Mapping[str, Any]  # one run: 'optimizer', 'seed', 'state' ('finished', 'diverged', 'unfinished') and the columns

# What is compared -> (heading, format of its numbers). None or NaN in a row: not known of that run.
COLUMNS: dict[str, tuple[str, str]] = {
    "train_loss": ("train loss", ".4g"),
    "test_loss": ("test loss", ".4g"),
    "test_accuracy": ("test accuracy", ".4f"),
    "sharpness": ("λmax", ".4g"),
    "trace": ("trace", ".4g"),
    "share_of_threshold": ("sharpness / own threshold", ".3g"),
    "sharpening": ("sharpening a 1,000 steps", ".3g"),
    "small": ("weights ≤ 1e-6", ".3f"),
    "zeros": ("exact zeros", ".3f"),
    "seconds": ("seconds", ".3g"),
}


@dataclass(frozen=True)
class Mean:
    """A mean over runs with the half width of its 95 % interval: NaN for a single run."""

    value: float
    half: float
    count: int


def mean(values: Iterable[float | None]) -> Mean:
    """Student's interval t(n - 1) s / sqrt(n) around the mean of the finite values; NaN where there are none."""
    known = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=np.float64)
    if not len(known):
        return Mean(math.nan, math.nan, 0)
    count = len(known)
    half = student(count - 1) * float(known.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Mean(float(known.mean()), half, count)


@dataclass(frozen=True)
class Summary:
    """One optimizer over its seeds; diverged and unfinished runs count, but have no part in the means."""

    optimizer: str
    runs: int
    diverged: int
    unfinished: int
    means: dict[str, Mean]  # by the names of COLUMNS


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One entry an optimizer, in the order of its first run."""
    found = []
    for name in dict.fromkeys(str(row["optimizer"]) for row in rows):
        mine = [row for row in rows if row["optimizer"] == name]
        good = [row for row in mine if row["state"] == "finished"]
        states = [row["state"] for row in mine]
        means = {column: mean(row.get(column) for row in good) for column in COLUMNS}
        found.append(Summary(name, len(mine), states.count("diverged"), states.count("unfinished"), means))
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The summaries as a Markdown table; columns of which nothing is known are left out."""
    table = summaries(rows)
    shown = [c for c in COLUMNS if any(s.means[c].count for s in table)]
    lines = [["optimizer", "runs", *(COLUMNS[c][0] for c in shown)]]
    lines += [[s.optimizer, _runs(s), *(_cell(s.means[c], COLUMNS[c][1]) for c in shown)] for s in table]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    padded = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
              for line in (lines[0], rule, *lines[1:])]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def _runs(summary: Summary) -> str:
    lost = [f"{n} {what}" for n, what in ((summary.diverged, "diverged"), (summary.unfinished, "unfinished")) if n]
    return f"{summary.runs}" + (f" ({', '.join(lost)})" if lost else "")


def _cell(found: Mean, spec: str) -> str:
    if not found.count:
        return "–"
    return format(found.value, spec) + (f" ± {found.half:.2g}" if math.isfinite(found.half) else "")
