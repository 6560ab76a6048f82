"""Whether more iterations, probes or samples would change a record's numbers: tables for the drawer of a card."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.readings import bounds, sampling
from landscape.readings.rules import blocks, shortened
from landscape.records import Eigenpairs, Halves, Record, Spectrum

from .numbers import number

LEADING = 5  # eigenvalues that are shown

_known: dict[int, tuple[Record, list[Component]]] = {}


def tables(record: Record) -> list[Component]:
    """Of eigenpairs the residuals; of a spectrum its leading Ritz values against iterations, and its probes."""
    if id(record) not in _known:
        if len(_known) >= 256:
            _known.clear()
        _known[id(record)] = (record, _tables(record))  # the record is kept, so that its id stays its own
    return _known[id(record)][1]


def _tables(record: Record) -> list[Component]:
    if isinstance(record, Eigenpairs) and len(record.values):
        rows = [(str(i), number(v, 6), number(r, 2)) for i, (v, r) in enumerate(
            zip(record.values[:LEADING], record.residuals[:LEADING], strict=True), start=1)]  # fmt: skip
        rows += [(f"−{i}", number(v, 6), number(r, 2)) for i, (v, r) in enumerate(
            zip(record.lowest_values[:2], record.lowest_residuals[:2], strict=True), start=1)]  # fmt: skip
        return [_table("Eigenvalues and their error bounds", ("index", "eigenvalue", "residual ‖Hv − λv‖"), rows)]
    if isinstance(record, Spectrum):
        return [*_iterations(record), *_probes(record)]
    return _samples(record) if isinstance(record, Halves) else []


def _samples(record: Halves) -> list[Component]:
    """The extreme eigenvalue that other samples of the same data would have given."""
    for what, samples, values in (
        ("half", record.samples, record.values), ("part", record.part_samples, record.quotients)
    ):  # fmt: skip
        if samples is not None and values is not None and values.shape[1]:
            rows = [(f"{what} {k}", f"{int(n):,}", number(float(v), 5)) for k, (n, v) in enumerate(
                zip(samples, values[:, 0], strict=True), start=1)]  # fmt: skip
            error = sampling.sampling(record).sharpness
            told = f" ± {number(error, 2)} for other samples" if math.isfinite(error) else ""
            head = ("of the samples", "how many", "largest eigenvalue" if what == "half" else "v·Hv of the largest")
            return [_table(f"The largest eigenvalue against the samples{told}", head, rows)]
    return []


def _iterations(spectrum: Spectrum) -> list[Component]:
    """Ritz values and residuals that fewer iterations would have given, from the rule alone (Golub & Welsch 1969)."""
    if spectrum.starts is None or spectrum.nodes.shape[1] > 2000:
        return []
    first = blocks(spectrum)[0]
    steps = int(np.isfinite(spectrum.nodes[first.start]).sum()) // (first.stop - first.start)
    noise, rows = bounds.noise_level(spectrum), []
    for share in (0.25, 0.5, 0.75, 1.0):
        found = shortened(spectrum, share) if share < 1 else spectrum
        if found is None:
            continue
        row = [f"{int(steps * share)}"]
        for i in (np.nanargmax(found.nodes), np.nanargmin(found.nodes)):
            row += [number(float(found.nodes.flat[i]), 6), number(max(float(found.residuals.flat[i]), noise), 2)]
        rows.append(row)
    head = ("iterations", "largest", "residual", "smallest", "residual ")
    title = "Ritz values against Lanczos iterations; residuals not below the products' rounding"
    return [_table(title, head, rows)] if len(rows) > 1 else []


def _probes(spectrum: Spectrum) -> list[Component]:
    """Trace and largest Ritz value of the first 1, 2, 4, ... Krylov spaces or probes."""
    spaces = blocks(spectrum)
    trace = bounds.trace(spectrum)
    each = spectrum.size * np.nansum(spectrum.gauss_weights * spectrum.nodes, axis=1)  # (probe,)
    counts = [k for k in (1, 2, 4, 8, 16, 32, 64) if k < len(each)] + [len(each)]
    rows = []
    for k in counts:
        error = number(float(each[:k].std(ddof=1) / math.sqrt(k)), 2) if k > 1 else "–"
        rows.append((str(k), number(float(each[:k].mean()), 5), error, number(float(np.nanmax(spectrum.nodes[:k])), 6)))
    note = f"all probes, with converged eigenvalues taken out: {number(trace.value, 5)}"
    note += f" ± {number(trace.half, 2)} (95 %)" if math.isfinite(trace.half) else ""
    shared = " (probes of one block share their Ritz values)" if len(spaces) < len(each) else ""
    head = ("probes", "trace v·Hv", "standard error", "largest Ritz value")
    return [_table(f"More probes{shared}; trace from {note}", head, rows)]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> html.Div:
    return html.Div(
        html.Table(
            [
                html.Caption(title),
                html.Thead(html.Tr([html.Th(h, scope="col") for h in head])),
                html.Tbody([html.Tr([html.Td(c, className="num") for c in row]) for row in rows]),
            ],
            className="numbers",
        ),
        className="table-wrap",
        tabIndex="0",
    )
