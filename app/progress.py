"""What the jobs of a run are doing, from the status files that they rewrite while they work."""

from __future__ import annotations

import math
import time
from typing import Any

from dash import html
from dash.development.base_component import Component

from landscape.errors import LandscapeError
from landscape.stores.run_directory import Run

from .reading import Reader

SILENT = 180.0  # seconds without a sign of life after which a running job is called silent


def sentence(job: str, status: dict[str, Any], now: float | None = None) -> str:
    """`spectrum: 37 of 200 checkpoints, about 12 min left`; '' for a finished job."""
    state = status.get("state")
    if state == "done":
        return ""
    done, total = _number(status.get("done")), _number(status.get("total"))
    unit = str(status.get("unit") or "").strip()
    text = f"{job}: {done:,.0f} of {total:,.0f} {unit}".rstrip() if total else f"{job}: started"
    if state in ("stopped", "failed"):
        return f"{text}, {state}; the same command goes on from there"
    silent = (now if now is not None else time.time()) - _number(status.get("updated"))
    if silent > SILENT:
        return f"{text}, no sign of life for {duration(silent)}"
    left = status.get("eta_s")
    return f"{text}, about {duration(_number(left))} left" if isinstance(left, (int, float)) else text


def state(status: dict[str, Any], now: float | None = None) -> str:
    """'running', 'stale' (no sign of life for a while), 'done', 'stopped' or 'failed'."""
    said = str(status.get("state") or "running")
    if said != "running":
        return said
    silent = (now if now is not None else time.time()) - _number(status.get("updated"))
    return "stale" if silent > SILENT else "running"


def share(status: dict[str, Any]) -> float:
    total = _number(status.get("total"))
    return min(max(_number(status.get("done")) / total, 0.0), 1.0) if total else 0.0


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.0f} days"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def unfinished(run: Run) -> list[tuple[str, dict[str, Any]]]:
    return [(job, status) for job, status in run.statuses().items() if sentence(job, status)]


def banner(reader: Reader, run_ids: list[str]) -> list[Component]:
    """One line with a bar for each unfinished job of the runs on the page."""
    lines: list[Component] = []
    for run_id in run_ids:
        try:
            run = reader.run(run_id)
        except LandscapeError:
            continue
        lines += [line(job, status) for job, status in unfinished(run)]
    return lines


def line(job: str, status: dict[str, Any]) -> html.Div:
    state = str(status.get("state"))
    tone = "warn" if state in ("stopped", "failed") else ""
    return html.Div(
        [
            html.Span(html.Span(style={"width": f"{100 * share(status):.1f}%"}), className="bar"),
            html.Span(sentence(job, status)),
        ],
        className=f"job {tone}",
    )
