"""Export: a run's figures, tables and video as files, each with the command line that makes the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import html
from dash.development.base_component import Component

from landscape.errors import LandscapeError

from .. import forms, shell
from ..common import Scene
from ..reading import THIS, Reader
from ..serving.figures import KINDS, SIZES, names
from ..view import Page, Place, Table, href
from .jobs import entry
from .overview import training_card

NAME, ORDER = "Export", 9
LIVE = True  # its files are made on demand
RECORDS = ("spectrum", "eigenpairs", "surface", "trajectory", "volume", "path")


def match(parts: tuple[str, ...]) -> bool:
    return parts == ("export",)


def link(run: str | None, _page: Page | None = None) -> str:
    return href("export", run=run)


def build(reader: Reader, place: Place) -> Page:
    given = forms.values(reader, place, "video")
    if not given["run"]:
        return Page("Export", after=shell.message("Export", "There is no run in this store yet.", "landscape demo"))
    scene = Scene.open(reader, place, given["run"])
    size = place.choice("size", tuple(SIZES), "text")
    dark = place.choice("colours", ("light", "dark")) == "dark"
    return Page(
        f"{given['run']}: export",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=scene.info.name,
        tabs=tabs(reader, place, given, size, dark),
        tables={"training": lambda: training_card(scene).table(0), "records": lambda: records_table(scene)},
        live=(lambda: videos(reader, scene.run_id)) if reader.queue is not None else None,
        after=[figures(scene, size, dark), numbers(scene), video(reader, place)],
    )


def tabs(reader: Reader, place: Place, given: Mapping[str, str], size: str, dark: bool) -> list[Component]:
    def url(**changes: str) -> str:
        return href("export", **{**{k: v for k, v in given.items() if k != "job"}, **changes})

    runs = [run_id for run_id, _run in reader.runs()][: forms.MOST]
    found = [shell.tabs("Size", [(text, url(size=name), name == size) for name, text in SIZES.items()], keep="")]
    found.append(
        shell.tabs("Colours", [(c, url(colours=c), (c == "dark") == dark) for c in ("light", "dark")], keep="")
    )
    if len(runs) > 1:
        found.insert(0, shell.tabs("Run", [(r, url(run=r), r == given["run"]) for r in runs], keep=""))
    return found


# ------------------------------------------------------------------ figures


def figures(scene: Scene, size: str, dark: bool) -> html.Section:
    """Every figure of the registry: links to its files and the line that makes them."""
    query = {"run": scene.run_id, "size": size, "dark": "yes" if dark else ""}
    head = html.Thead(html.Tr([html.Th("Figure"), html.Th("File"), html.Th("The same in a terminal")]))
    lines = html.Tbody([figure_line(scene, name, query) for name in names()])
    table = html.Div(html.Table([head, lines], className="runs narrow"), className="table-wrap", tabIndex="0")
    words = (
        "Their captions, with the error of every projection, are below the picture and in the file. A figure whose "
        "records are missing answers with the command that computes them."
    )
    parts: list[Component] = [
        html.Div(html.H2("Figures for a paper"), className="head"), table, html.P(words, className="caption")
    ]  # fmt: skip
    if scene.run.keys("spectrum") and scene.run.keys("surface"):
        shown = href("figure", "overview.png", **{**query, "size": "text", "show": "yes"})
        parts.append(html.Img(src=shown, alt=f"Overview figure of run {scene.info.name}", className="preview"))
    return html.Section(parts, className="card wide")


def figure_line(scene: Scene, name: str, query: Mapping[str, str]) -> html.Tr:
    links = []
    for kind in KINDS:
        url = href("figure", f"{name}.{kind}", **query)
        links.append(
            html.A(kind.upper(), href=url, download=f"{name}.{kind}", className="button", **{"data-file": "1"})
        )
    command = f"landscape export {scene.place_on_disk} --figure {name} --pdf --svg --png --size {query['size']}"
    command += " --dark" if query["dark"] else ""
    cells = [html.Td(name), html.Td(html.Div(links, className="row")), html.Td(html.Code(command), className="words")]
    return html.Tr(cells)


# ------------------------------------------------------------------ numbers


def numbers(scene: Scene) -> html.Section:
    """Tables of the page, and the line that writes every kind of record."""

    def csv(name: str) -> str:
        return href("data", f"{name}.csv", page="/export", run=scene.run_id)

    links = [
        html.A(text, href=csv(name), download=f"{name}.csv", className="button", **{"data-file": "1"})
        for name, text in (("training", "Training and curvature (CSV)"), ("records", "List of records (CSV)"))
    ]
    lines = []
    for kind in RECORDS:
        count = len(scene.run.keys(kind))
        if count:
            command = f"landscape export {scene.place_on_disk} --record {kind} --format csv --out {kind}.csv"
            lines.append(html.Tr([html.Td(kind), html.Td(f"{count:,}", className="num"),
                                  html.Td(html.Code(command), className="words")]))  # fmt: skip
    head = html.Thead(html.Tr([html.Th("Record"), html.Th("How many", className="num"), html.Th("In a terminal")]))
    table = html.Div(
        html.Table([head, html.Tbody(lines)], className="runs narrow"), className="table-wrap", tabIndex="0"
    )
    whole = f"landscape freeze {scene.place_on_disk} --out site"
    return html.Section(
        [
            html.Div(html.H2("Numbers"), className="head"),
            html.Div(links, className="row"),
            *([table] if lines else []),
            html.P(["All pages as a folder that opens without a server: ", html.Code(whole)], className="caption"),
        ],
        className="card wide",
    )


def records_table(scene: Scene) -> Table:
    """Every record of the run with what made it."""
    columns: dict[str, list[Any]] = {
        n: [] for n in ("record", "step", "command", "created", "commit", "products", "seconds")
    }
    for key in scene.run.keys():  # noqa: SIM118  a method, no mapping
        try:
            values = scene.run.meta(key)
        except LandscapeError:
            continue
        meta = values.get("meta") if isinstance(values.get("meta"), dict) else {}
        row = (
            key,
            values.get("step"),
            *((meta or {}).get(n) for n in ("command", "created", "commit", "matvecs", "seconds")),
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return columns


# ------------------------------------------------------------------ video


def video(reader: Reader, place: Place) -> html.Section:
    return html.Section(
        [html.Div(html.H2("Video"), className="head"), *forms.form(reader, place, "video")], className="card wide"
    )


def videos(reader: Reader, run_id: str) -> list[Component]:
    """The videos that were started here, with how far they are."""
    found = [e for e in reversed(reader.queue.entries) if e.order.job == "video" and e.order.run_id == run_id]
    if not found:
        return []
    name = "this run" if run_id == THIS else run_id
    lines: list[Component] = [html.Div(html.H2(f"Videos of {name}"), className="head")]
    for e in found:
        lines.append(entry(e, reader.token))
        if e.state == "running" and (status := reader.run(run_id).statuses().get("video")):
            lines.append(_progress(status))
    return [html.Section(lines, className="card wide")]


def _progress(status: dict[str, Any]) -> Component:
    from ..progress import line

    return line("video", status)
