"""How the numbers of a card were computed, read from the records that it was drawn from: a line, and a drawer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.readings import bounds, sampling
from landscape.readings.completeness import completeness
from landscape.records import Eigenpairs, Halves, Path, Record, Spectrum

from . import progress
from .convergence import tables
from .notes import noting
from .numbers import moment, number
from .view import Card, Page


def sources(page: Page, card: Card, index: int) -> list[Record]:
    """The records that a card is drawn from; those read for the whole page where drawing reads none.

    Raises:
        Missing: the card has nothing to show.
    """
    with noting() as found:
        card.draw(index)
    return found.records() or list(page.sources)


def groups(found: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Records of one kind and operator or plane, by step: the name of the group and its records."""

    def name(record: Record) -> str:
        about = getattr(record, "operator", None) or getattr(record, "plane", None) or getattr(record, "shape", "")
        run = f" of {whose}" if (whose := getattr(record, "run", "")) else ""
        return f"{record.kind} {about}".replace("_", " ").strip() + run

    ordered = sorted(found, key=lambda r: (name(r), step_of(r)))
    return [(key, list(group)) for key, group in groupby(ordered, key=name)]


def step_of(record: Record) -> int:
    step = getattr(record, "step", 0)
    return int(step) if isinstance(step, (int, np.integer)) else 0


def nearest(group: Sequence[Record], step: float | None) -> Record:
    """The record of the selected step, else the last one before it, else the last."""
    if step is None:
        return group[-1]
    before = [r for r in group if step_of(r) <= step]
    return before[-1] if before else group[-1]


def spent(record: Record) -> str:
    """Products, seconds and ranks, as far as recorded."""
    meta, parts = record.meta, []
    if _is(meta.get("matvecs")):
        parts.append(f"{meta['matvecs']:,.0f} products")
    if _is(meta.get("seconds")):
        parts.append(progress.duration(meta["seconds"]) if meta["seconds"] >= 1 else f"{meta['seconds']:.2g} s")
    if isinstance(meta.get("ranks"), int):
        parts.append(f"{meta['ranks']} rank{'s' * (meta['ranks'] != 1)}")
    return ", ".join(parts)


def _is(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# ------------------------------------------------------------------ the line under a caption


def line(found: Sequence[Record], step: float | None = None) -> str:
    """Data, probes, iterations, seed, precision, commit and day; 'varies' where records of the card differ."""
    shown = [nearest(group, step) for _name, group in groups(found)]
    columns = [
        [sampling.described(r.meta) for r in shown],
        [_effort(r) for r in shown],
        [f"seed {seed}" if (seed := _setting(r, "seed")) is not None else "" for r in shown],
        [str(r.meta.get("dtype") or "").removeprefix("torch.") for r in shown],
        [f"commit {str(r.meta['commit'])[:9]}" if r.meta.get("commit") else "" for r in shown],
        [str(r.meta.get("created") or "")[:10] for r in shown],
    ]
    parts = [" / ".join(dict.fromkeys(filter(None, column))) for column in columns]
    return ", ".join(filter(None, parts))


def _effort(record: Record) -> str:
    if not isinstance(record, Spectrum):
        return ""
    probes, nodes = record.nodes.shape
    return f"{probes} probe{'s' * (probes != 1)} × {_setting(record, 'iterations') or nodes} iterations"


def _setting(record: Record, name: str) -> Any:
    settings = record.meta.get("settings")
    inside = settings.get(name) if isinstance(settings, dict) else None
    return record.meta.get(name, inside)


# ------------------------------------------------------------------ the drawer


def chosen(found: Sequence[Record], step: float | None, place: int) -> tuple[int, ...]:
    """What decides what the drawer says; equal for stops that show the same records."""
    shown = [nearest(group, step) for _name, group in groups(found)]
    return tuple(id(part) for record in shown for part in (record, *_along(record, place)))


def drawer(found: Sequence[Record], step: float | None = None, place: int = 0) -> list[Component]:
    """Everything that the records say of their own making, for the selected step (of a path: its point `place`)."""
    if not found:
        return [html.P("Drawn from the run's own metrics; no computed record is behind it.")]
    parts: list[Component] = []
    for name, group in groups(found):
        record = nearest(group, step)
        parts.append(html.H3(_heading(name, group, record)))
        rows = [(k, v) for k, v in facts(record, group) if v]
        parts.append(html.Dl([html.Div([html.Dt(k), html.Dd(v)]) for k, v in rows], className="facts"))
        inner = [r for r in _along(record, place) if isinstance(r, Spectrum | Eigenpairs | Halves)]
        for part in inner:
            parts += tables(part)
        command = record.meta.get("command")
        if command:
            parts.append(html.Pre(html.Code(str(command)), tabIndex="0"))
    return parts


def _along(record: Record, place: int) -> list[Record]:
    """The record itself, or of a path what belongs to its point."""
    if not isinstance(record, Path):
        return [record]
    return [group[place] for group in (record.spectra, record.eigenpairs) if 0 <= place < len(group)]


def _heading(name: str, group: Sequence[Record], record: Record) -> str:
    text = name[:1].upper() + name[1:]
    at = f" at step {step_of(record):,}" if hasattr(record, "step") else ""
    many = f" (one of {len(group)} records, steps {step_of(group[0]):,} to {step_of(group[-1]):,})"
    return text + at + (many if len(group) > 1 else "")


def facts(record: Record, group: Sequence[Record]) -> list[tuple[str, str]]:
    """Name and text of what a record's meta holds; an empty text where it does not say."""
    meta = record.meta
    versions = meta.get("versions")
    problem = " ".join(str(x) for x in (_setting(record, "problem"), _setting(record, "data")) if x)
    all_products = sum(r.meta["matvecs"] for r in group if _is(r.meta.get("matvecs")))
    all_seconds = sum(r.meta["seconds"] for r in group if _is(r.meta.get("seconds")))
    total = f"{all_products:,.0f} products, {progress.duration(all_seconds)}" if len(group) > 1 and all_products else ""
    return [
        ("Data", sampling.described(meta)),
        ("Problem, data's digest", problem),
        ("Size", f"{size:,} weights" if _is(size := getattr(record, "size", None)) else ""),
        ("Lanczos", _lanczos(record)),
        ("Completeness", completeness(record) if isinstance(record, Eigenpairs) else ""),
        ("Rounding of products", _rounding(record)),
        ("Self-checks", self_check(meta.get("self_check"))),
        ("Products by", _strategy(meta.get("products"))),
        ("BatchNorm", str(meta.get("batch_norm") or _setting(record, "batch_norm") or "")),
        ("Precision", str(meta.get("dtype") or _setting(record, "dtype") or "").removeprefix("torch.")),
        ("Seed", str(s) if (s := _setting(record, "seed")) is not None else ""),
        ("Spent", spent(record)),
        ("Spent on all", total),
        ("Made", moment(str(meta.get("created") or ""))),
        ("SLURM job", str(meta.get("slurm_job") or "")),
        ("Commit", str(meta.get("commit") or "")),
        ("Versions", ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else ""),
    ]  # fmt: skip


def _lanczos(record: Record) -> str:
    effort = _effort(record)
    block, tolerance = record.meta.get("block"), record.meta.get("tolerance")
    if effort and isinstance(block, int):
        effort += f" in blocks of {block}"
    return effort + (f", tolerance {tolerance:.0e}" if effort and _is(tolerance) else "")


def _rounding(record: Record) -> str:
    return f"eigenvalues ± {number(bounds.noise_level(record), 2)}" if isinstance(record, Spectrum) else ""


def self_check(found: Any) -> str:
    """What the job found out about the product before it trusted it: symmetry, linearity, repetition, quotients."""
    if not isinstance(found, dict):
        return ""
    parts = []
    if _is(found.get("asymmetry")):
        parts.append(f"symmetric up to {found['asymmetry']:.1e} (u·Hv against v·Hu)")
    if _is(found.get("nonlinearity")):
        parts.append(f"linear up to {found['nonlinearity']:.1e}")
    if isinstance(found.get("repeats"), bool):
        parts.append("the same batch twice: " + ("equal bit for bit" if found["repeats"] else "equal up to rounding"))
    if _is(found.get("difference")):
        parts.append(f"{found['difference']:.1e} from difference quotients in float64")
    warnings = found.get("warnings")
    return "; ".join([*parts, *(map(str, warnings) if isinstance(warnings, list) else ())])


def _strategy(found: Any) -> str:
    tried = [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []
    return next((f"{p.get('strategy')}: {p.get('why')}" for p in tried if p.get("verdict") == "chosen"), "")
