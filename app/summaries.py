"""One row a run: what the table of runs shows, kept until a file of the run changes."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any
from urllib.parse import quote

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape import records
from landscape.errors import LandscapeError
from landscape.stores.run_directory import Run

from . import facts, progress
from .numbers import number
from .reading import THIS, Reader
from .style import thin

Row = dict[str, Any]


def rows(reader: Reader) -> list[Row]:
    """A row for every readable run, by id."""
    return [row(reader, run_id, run) for run_id, run in reader.runs()]


def row(reader: Reader, run_id: str, run: Run) -> Row:
    """What the table shows of a run; unreadable pieces are missing values."""
    kept = _summary(reader, run_id, str(run.root), reader.stamps(run))
    if not kept["statuses"]:
        return kept
    jobs = [progress.sentence(job, status) for job, status in kept["statuses"].items()]  # tells how long ago
    return {**kept, "jobs": "; ".join(text for text in jobs if text)}


@functools.lru_cache(maxsize=16384)
def _summary(reader: Reader, run_id: str, _root: str, _stamps: tuple[int, ...]) -> Row:
    run = reader.run(run_id)
    info = reader.info(run)
    metrics = _metrics(reader, run)
    curvature = last_curvature(reader, run)
    checkpoints = run.checkpoint_steps()
    steps = metrics.get("step", np.empty(0))
    found: Row = {
        "id": run_id,
        "run": info.name if run_id == THIS else run_id,
        "folder": run_id.rpartition("/")[0],
        "problem": info.problem,
        "optimizer": info.optimizer,
        "lr": facts.learning_rate(info),
        "steps": int(steps[-1]) if len(steps) else (checkpoints[-1] if checkpoints else 0),
        "loss": _last(metrics, "train_loss", "loss"),
        "acc": _percent(_last(metrics, "test_accuracy", "train_accuracy", "accuracy")),
        "lmax": curvature.sharpness if curvature else None,
        "lmin": curvature.lowest if curvature else None,
        "trace": curvature.trace if curvature else None,
        "curvature": curvature,
        "records": records_text(run, len(checkpoints)),
        "statuses": run.statuses(),
        "jobs": "",
        "paths": [key for key in run.keys("path")],
        "seed": info.seed,
    }
    found["curve"] = sparkline(metrics.get("loss", np.empty(0)))
    for name, value in info.settings.items():  # so that a filter finds momentum=0.9
        if isinstance(value, (str, int, float)):
            found.setdefault(str(name).lower(), str(value).lower() if isinstance(value, bool) else value)
    return found


def _metrics(reader: Reader, run: Run) -> dict[str, Any]:
    try:
        return reader.metrics(run)
    except LandscapeError:
        return {}


def _last(metrics: dict[str, Any], *names: str) -> float | None:
    """The last finite value of the first of some metrics that has one."""
    for name in names:
        values = metrics.get(name, np.empty(0))
        finite = values[np.isfinite(values)]
        if len(finite):
            return float(finite[-1])
    return None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def last_curvature(reader: Reader, run: Run) -> facts.Curvature | None:
    """Curvature at the last step that has a record, without reading the others."""
    operators = reader.operators(run)
    if not operators:
        return None
    steps = sorted({*run.steps("spectrum", operators[0]), *run.steps("eigenpairs", operators[0])})
    found: list[Any] = []
    for key in (records.spectrum_key, records.eigenpairs_key):
        try:
            found.append(reader.record(run, key(operators[0], steps[-1])))
        except (LandscapeError, IndexError):
            found.append(None)
    return facts.curvature(steps[-1], *found) if any(f is not None for f in found) else None


def records_text(run: Run, checkpoints: int) -> str:
    counts = Counter(key.split("-", 1)[0] for key in run.keys())  # noqa: SIM118  a method, no mapping
    names = {"spectrum": "spectra", "surface": "surfaces", "path": "paths"}
    parts = [f"{checkpoints} checkpoint{'s' * (checkpoints != 1)}"]
    parts += [f"{counts[k]} {names[k] if counts[k] != 1 else k}" for k in names if counts[k]]
    return ", ".join(parts)


def sparkline(loss: np.ndarray[Any, Any], width: int = 96, height: int = 24) -> Component:
    """The loss on a log axis as an inline picture."""
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log10(loss)
    x = np.arange(len(y), dtype=np.float64)
    good = np.isfinite(y)
    if good.sum() < 2:
        return html.Span("–")
    x, y = x[good], y[good]
    x, y = thin(x, y, 48)
    across = 2 + (width - 4) * (x - x[0]) / max(x[-1] - x[0], 1)
    down = 2 + (height - 4) * (y.max() - y) / max(y.max() - y.min(), 1e-12)
    points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(across, down, strict=True))
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'><polyline points='{points}' "
        f"fill='none' stroke='#3B86D8' stroke-width='1.6' stroke-linejoin='round'/></svg>"
    )
    source = "data:image/svg+xml," + quote(svg, safe=" ='/:,.")
    return html.Img(
        src=source,
        alt=f"loss from {number(float(10 ** y[0]))} to {number(float(10 ** y[-1]))}",
        width=width,
        height=height,
    )
