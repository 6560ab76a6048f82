"""What the compare page shows of its runs: tables of results, seeds and settings, and three plots."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component
from numpy.typing import NDArray

from landscape.readings import quadrature, replicates

from .. import facts, shell
from ..common import Scene
from ..numbers import number
from ..plots import comparison as plot
from ..view import Card, Missing, href
from . import edge, layers
from .spectra import operator_name

Array = NDArray[np.float64]
WARNING = (
    "λmax is not invariant: rescaling the weights of ReLU layers changes it without changing the network; compare runs "
    "of one architecture and weight decay, or λmax·|θ|² of each layer, which such a rescaling leaves as it is."
)


@dataclass(frozen=True, eq=False)
class Run:
    """One of the compared runs, at the last of its steps that has a record."""

    scene: Scene
    name: str

    @functools.cached_property
    def curvature(self) -> facts.Curvature | None:
        return self.scene.curvature[-1] if self.scene.curvature else None

    @functools.cached_property
    def stability(self) -> edge.Stability:
        return edge.stability_of(self.scene)

    @functools.cached_property
    def numbers(self) -> dict[str, float]:
        """The columns of the table, NaN where a number is not known."""
        c, scene = self.curvature, self.scene
        pairs = scene.pairs.get(c.step) if c is not None else None
        found = layers.layers(scene)
        return {
            "train loss": self._last("train_loss", "loss"),
            "test loss": self._last("test_loss"),
            "test acc. %": 100 * self._last("test_accuracy"),
            "train acc. %": 100 * self._last("train_accuracy", "accuracy"),
            "λmax": c.sharpness if c else math.nan,
            "trace / n": c.trace / c.size if c and c.size else math.nan,
            "top-10 sum": float(pairs.values[:10].sum()) if pairs is not None and len(pairs.values) >= 10 else math.nan,
            "λmax / threshold": float(self.stability.ratio[-1]) if len(self.stability.ratio) else math.nan,
            "max λmax·|θ|² by layer": layers.normalised(found) if found is not None else math.nan,
        }

    def _last(self, *names: str) -> float:
        for name in names:
            values = self.scene.metric(name)[1]
            if len(values) and np.isfinite(values[-1]):
                return float(values[-1])
        return math.nan


# ------------------------------------------------------------------ tables


def results(runs: Sequence[Run]) -> html.Section:
    """One row a run: losses, accuracies and curvature at its last step."""
    *columns, last = _columns(runs)
    head = ["Run", "Step", *columns, last, "negative", "threshold"]
    body = []
    for r in runs:
        c = r.curvature
        negative = "–" if c is None or not math.isfinite(c.negative) else f"{c.negative_counts} of {c.size:,}"
        cells = [shell.link(r.name, href("run", r.scene.run_id)), "–" if c is None else f"{c.step:,}"]
        cells += [*(_cell(r.numbers[name]) for name in (*columns, last)), negative, _limit(r)]
        looks = ["", *["num"] * (len(cells) - 2), "words"]  # the threshold's formula may take two lines
        body.append(html.Tr([html.Td(cell, className=look) for cell, look in zip(cells, looks, strict=True)]))
    titles = [html.Th(unbroken(text), className="num" if 0 < i < len(head) - 1 else "") for i, text in enumerate(head)]
    table = html.Table([html.Thead(html.Tr(titles)), html.Tbody(body)], className="runs narrow")
    csv = html.A("CSV", href=href("data", "compare.csv", page="/compare"), download="compare.csv",
                 **{"data-keep": "runs q", "data-file": "1"})  # fmt: skip
    return html.Section(
        [
            html.Div([html.H2("Which minimum is flatter?"), html.Div(csv, className="downloads")], className="head"),
            html.Div(table, className="table-wrap", tabIndex="0"),
            html.P(f"{flattest(runs)}{WARNING}", className="caption"),
        ],
        className="card wide",
        id="results",
    )


def _columns(runs: Sequence[Run]) -> list[str]:
    """Numbers that some run has; the last one, which rescaling does not change, always."""
    *names, last = runs[0].numbers
    known = [n for n in names if any(math.isfinite(r.numbers[n]) for r in runs)]
    return [n for n in known if n != "train acc. %" or "test acc. %" not in known] + [last]


def unbroken(text: str) -> str:
    """The text with its formula in one piece: a line would be broken behind every stroke."""
    formula = "λmax·|θ|²"
    return text.replace(formula, "\N{WORD JOINER}".join(formula))


def flattest(runs: Sequence[Run]) -> str:
    """The flattest of several runs of one problem in a sentence; of different problems none is named."""
    known = [r for r in runs if math.isfinite(r.numbers["λmax"])]
    if len(known) < 2:
        return ""
    problems = sorted({r.scene.info.problem for r in known})
    if len(problems) > 1:
        return f"None is named the flattest: their losses are those of different problems ({', '.join(problems)}). "
    low, high = (f(known, key=lambda r: r.numbers["λmax"]) for f in (min, max))
    ratio = high.numbers["λmax"] / low.numbers["λmax"] if low.numbers["λmax"] > 0 else math.nan
    return f"Flattest by λmax: {low.name}, {number(ratio)} times below {high.name}. " if ratio > 0 else ""


def _limit(r: Run) -> str:
    s = r.stability
    if not len(s.limit):
        return "none known"
    where = "" if s.operator == "hessian" else f" of the {operator_name(s.operator)}"
    return f"{s.formula} = {number(float(s.limit[-1]))}{where}"


def _cell(value: float) -> str:
    return number(value, 4)


def seeds(runs: Sequence[Run]) -> list[Component]:
    """Means with 95 % intervals of runs that differ only in their seed; nothing where there are none."""
    groups = [g for g in replicates.groups([r.scene.info for r in runs]) if len(g) > 1]
    if not groups:
        return []
    columns = [n for n in _columns(runs) if any(math.isfinite(runs[i].numbers[n]) for g in groups for i in g)]
    body = []
    for group in groups:
        cells = []
        for name in columns:
            found = replicates.mean([runs[i].numbers[name] for i in group])
            half = f" ± {number(found.half, 2)}" if math.isfinite(found.half) else ""
            cells.append(html.Td(f"{number(found.value, 4)}{half}", className="num"))
        names = ", ".join(runs[i].name for i in group)
        body.append(html.Tr([html.Td(names, className="words"), html.Td(str(len(group)), className="num"), *cells]))
    titles = ["Runs that differ only in their seed", "seeds", *columns]
    head = html.Tr([html.Th(text, className="num" if i else "") for i, text in enumerate(titles)])
    table = html.Table([html.Thead(head), html.Tbody(body)], className="runs narrow")
    text = "Mean ± half the 95 % interval of Student's t over seeds."
    section = [html.Div(html.H2("Over seeds"), className="head"), html.Div(table, className="table-wrap", tabIndex="0")]
    return [html.Section([*section, html.P(text, className="caption")], className="card wide", id="seeds")]


def settings(runs: Sequence[Run]) -> html.Section:
    """The settings that are not the same in all runs, and those only."""
    found = replicates.differences([r.scene.info for r in runs])
    if not found:
        body: Component = html.P("All recorded settings are the same, the seed too.", className="caption")
    else:
        head = html.Tr([html.Th("Setting"), *(html.Th(r.name) for r in runs)])
        rows = [html.Tr([html.Td(name), *(html.Td(_setting(v)) for v in values)]) for name, values in found.items()]
        table = html.Table([html.Thead(head), html.Tbody(rows)], className="runs narrow")
        body = html.Div(table, className="table-wrap", tabIndex="0")
    title = html.Div(html.H2("What differs in the settings"), className="head")
    return html.Section([title, body], className="card wide", id="settings")


def _setting(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def csv_columns(runs: Sequence[Run]) -> dict[str, Any]:
    names = runs[0].numbers
    return {
        "run": [r.name for r in runs],
        "step": [r.curvature.step if r.curvature else None for r in runs],
        **{name: [r.numbers[name] for r in runs] for name in names},
        "threshold": [_limit(r) for r in runs],
        **{name: [json.dumps(v) for v in values]
           for name, values in replicates.differences([r.scene.info for r in runs]).items()},
    }  # fmt: skip


# ------------------------------------------------------------------ plots


def cards(runs: Sequence[Run], log: bool, theme: str) -> list[Card]:
    return [_sharpness(runs, log, theme), _spectra(runs, theme), _scatter(runs, theme)]


def _need(found: Sequence[Any]) -> None:
    if not found:
        raise Missing("None of these runs has eigenvalues yet. Compute them with", "landscape spectrum RUN --top 10")


def _sharpness(runs: Sequence[Run], log: bool, theme: str) -> Card:
    def lines() -> list[plot.Line]:
        found = [_line(r) for r in runs]
        known = [line for line in found if line is not None]
        _need(known)
        return known

    def caption(_i: int) -> str:
        other = [r for r in runs if len(r.stability.limit) and r.stability.operator != r.scene.operator]
        none = [r.name for r in runs if not len(r.stability.limit)]
        text = "Thin: each optimizer's own threshold; below, the ratio to it."
        named = "; ".join(f"{r.name}: of the {operator_name(r.stability.operator)}" for r in other)
        text += f" Where the threshold is not the Hessian's, the ratio is that operator's ({named})." if other else ""
        return text + (f" No threshold known for {', '.join(none)}." if none else "")

    def table(_i: int) -> dict[str, Any]:
        return {k: v for line in lines() for k, v in (
            (f"step of {line.name}", line.steps), (f"λmax of {line.name}", line.sharpness),
            (f"step of the ratio of {line.name}", line.ratio_steps), (f"ratio of {line.name}", line.ratio))
            if v is not None}  # fmt: skip

    return Card("compare-sharpness", "Sharpness of each run", lambda _i: plot.figure(lines(), log=log, theme=theme),
                caption, table, span="wide", about="Sharpness of every run against the optimizer step")  # fmt: skip


def _line(r: Run) -> plot.Line | None:
    """Sharpness of the chosen operator, and the ratio of that operator to whose sharpness the threshold belongs."""
    known = [c for c in r.scene.curvature if math.isfinite(c.sharpness)]
    if not known:
        return None
    s = r.stability
    same = len(s.limit) > 0 and s.operator == r.scene.operator
    return plot.Line(
        r.name, np.array([float(c.step) for c in known]), np.array([c.sharpness for c in known]),
        limit=float(s.limit[-1]) if same else None,
        ratio_steps=s.steps if len(s.limit) else None, ratio=s.ratio if len(s.limit) else None,
    )  # fmt: skip


def _spectra(runs: Sequence[Run], theme: str) -> Card:
    def parts() -> tuple[Array, list[Array | None]]:
        known = [r.scene.series for r in runs if r.scene.series.spectra]
        _need(known)
        grid = np.linspace(min(s.grid[0] for s in known), max(s.grid[-1] for s in known), 400)
        width = max((s.automatic for s in known), key=lambda w: w.value)
        found: list[Array | None] = []
        for r in runs:
            spectra = r.scene.series.spectra
            last = spectra[max(spectra)] if spectra else None
            found.append(None if last is None else
                         quadrature.asinh_density(last, grid, width_u=width.value, sharp_u=width.sharp))  # fmt: skip
        return grid, found

    def table(_i: int) -> dict[str, Any]:
        grid, found = parts()
        return {"eigenvalue": quadrature.from_asinh(grid),
                **{f"density of {r.name}": d for r, d in zip(runs, found, strict=True) if d is not None}}  # fmt: skip

    def draw(_i: int) -> Any:
        return plot.spectra([r.name for r in runs], *parts(), theme=theme)

    return Card("compare-spectra", "Final spectra", draw,
                "The last spectrum of each run with one grid and one kernel width; each integrates to 1.", table,
                about="Final eigenvalue densities of all runs, one over the other")  # fmt: skip


def _scatter(runs: Sequence[Run], theme: str) -> Card:
    def what() -> str:
        tested = any(math.isfinite(r.numbers["test acc. %"]) for r in runs)
        return "test acc. %" if tested else "train acc. %"

    def columns() -> tuple[Array, Array]:
        return (np.array([r.numbers["λmax"] for r in runs]), np.array([r.numbers[what()] for r in runs]))

    def draw(_i: int) -> Any:
        x, y = columns()
        _need([1 for a in x if math.isfinite(a)])
        if not np.isfinite(y).any():
            raise Missing("None of these runs has an accuracy; record it with", "recorder.step(test_accuracy=...)")
        return plot.scatter([r.name for r in runs], x, y, what=what().replace(" acc. %", " accuracy, %"), theme=theme)

    def table(_i: int) -> dict[str, Any]:
        x, y = columns()
        return {"run": [r.name for r in runs], "λmax": x, what(): y}

    return Card("compare-scatter", "Accuracy against sharpness", draw, WARNING, table,
                about="Accuracy against sharpness, one symbol a run")  # fmt: skip
