"""A store as a folder of plain files: every page of the app, drawn by the same code, for readers without a server.

    DIR/index.html            the table of runs; one file a page beside it
    DIR/pages/<page>.js       figures and what the slider's stops change in them
    DIR/data/<card>-....csv   the numbers behind every plot
    DIR/assets/               plotly.js once, the sheet, the scripts, the colours of both themes

The folder opens from a file: nothing in it asks a network or a server for anything.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dash import html as dash_html
from dash.development.base_component import Component
from plotly.offline import get_plotlyjs

from landscape import __version__
from landscape.errors import LandscapeError, ProblemError, UsageError
from landscape.stores.files import new_directory
from landscape.stores.run_directory import Run

from .. import shell
from ..reading import Reader
from ..style import COLOURS
from ..view import Page, Place
from . import document, downloads, frames, markup, router
from .addresses import canonical, digest, file_name

MARK = ".landscape-site"  # tells a folder of ours, which may be replaced, from anybody else's
HERE = Path(__file__).parents[1]


@dataclass
class Frozen:
    """What was written."""

    place: Path
    pages: int = 0
    runs: int = 0
    bytes: int = 0
    plotly_bytes: int = 0
    left_out: list[str] = field(default_factory=list)  # sentences


class _Chosen(Reader):
    """A store of which only some runs are shown."""

    def __init__(self, store: str | Path, only: Sequence[str]) -> None:
        super().__init__(store)
        self.only = only

    def runs(self) -> list[tuple[str, Run]]:
        return [pair for pair in super().runs() if not self.only or pair[0] in self.only]


def freeze(store: str | Path, out: str | Path, *, theme: str = "", only: Sequence[str] = ()) -> Frozen:
    """Write a store's pages to a folder, whole or not at all; the same store gives the same bytes.

    Args:
        theme: 'light' or 'dark', which a reader's choice overrules; empty: what the reader's system prefers.
        only: ids of runs; empty: all.

    Raises:
        ProblemError: no store, no run in it, or no run of a name in `only`.
        UsageError: `out` is a folder that holds something else.
    """
    root, target = Path(store), Path(out)
    reader = _Chosen(root, only)
    known = [run_id for run_id, _run in reader.runs()]
    if not known or set(only) - set(known):
        missing = sorted(set(only) - set(known))
        what = f"no run '{missing[0]}'" if missing else "no runs"
        raise ProblemError(f"there is {what} in '{root}'; `landscape runs {root}` lists what there is")
    _check_target(root, target)
    with new_directory(target) as part:
        site = _Site(reader, part, theme)
        site.crawl("/")
        site.write()
        _assets(part)
        done = Frozen(target, len(site.pages), len(known), left_out=site.left_out)
        done.bytes = sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
        done.plotly_bytes = (part / "assets" / "plotly.min.js").stat().st_size
    return done


def _check_target(root: Path, target: Path) -> None:
    if target.is_file():
        raise UsageError(f"--out '{target}' is a file; name a folder")
    if target.resolve() == root.resolve() or target.resolve() in root.resolve().parents:
        raise UsageError(f"--out '{target}' holds the store itself; name another folder")
    if target.is_dir() and any(target.iterdir()) and not (target / MARK).is_file():
        raise UsageError(f"--out '{target}' holds files that are not a frozen store; name a new or an empty folder")


def _assets(part: Path) -> None:
    folder = part / "assets"
    folder.mkdir()
    (folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    (folder / "colours.js").write_text(f"window.landscape_colours = {json.dumps(exchanged())};\n", encoding="utf-8")
    for source in ("theme.js", "style.css", "cards.js", "replay.js", "../frozen/site.js"):
        shutil.copyfile(HERE / "assets" / source, folder / Path(source).name)
    (part / MARK).write_text(f"landscape {__version__}\n", encoding="utf-8")


def exchanged() -> dict[str, str]:
    """Every colour of a light figure with that of the dark one; nothing else differs between the two."""
    return {light: COLOURS["dark"][name] for name, light in COLOURS["light"].items()}


# ------------------------------------------------------------------ which pages there are


@dataclass(frozen=True)
class _Leaf:
    """A page that is drawn, with its links still those of the app."""

    name: str  # of its files
    page: Page
    parts: Sequence[Component]
    navigation: Sequence[Component]
    files: dict[str, str]  # URL of a table's file -> file


class _Site:
    def __init__(self, reader: Reader, root: Path, theme: str) -> None:
        self.reader, self.root, self.theme = reader, root, theme
        self.pages: dict[str, _Leaf] = {}
        self.left_out: list[str] = []
        for folder in ("pages", "data"):
            (root / folder).mkdir()

    def crawl(self, first: str) -> None:
        """Draw every page that can be reached."""
        waiting, seen = [first], {first}
        while waiting:
            url = waiting.pop(0)
            leaf = self._draw(url)
            if leaf is None:
                continue
            self.pages[url] = leaf
            for link in markup.links([leaf.parts, leaf.navigation]):
                found = canonical(link)
                if found is not None and found not in seen:
                    seen.add(found)
                    waiting.append(found)

    def _draw(self, url: str) -> _Leaf | None:
        split = urlsplit(url)
        place = Place.parse(split.path, split.query)  # drawn in light, see `exchanged`
        try:
            module, page = router.resolve(self.reader, place)
        except LandscapeError as error:
            self.left_out.append(f"{url}: {error}")
            return None
        if getattr(module, "LIVE", False):  # a page about what happens now
            return None
        parts = shell.render(page, place)
        figures = _take_figures(parts)
        if page.run is not None and not figures and not page.tables:
            return None  # nothing but 'not computed yet'
        name = file_name(url)
        made = frames.content(page, place, figures, self._keep)
        (self.root / "pages" / f"{name}.js").write_text(f"window.landscape_page = {made};\n", encoding="utf-8")
        files = {}
        for table, columns in page.tables.items():
            files[table] = self._keep(table, downloads.csv_text(columns(), [page.title]))
        modules = router.shown(module, page, self.reader)
        entries = zip(modules, router.navigation(module, page, self.reader), strict=True)
        frozen = [entry for other, entry in entries if not getattr(other, "LIVE", False)]
        return _Leaf(name, page, parts, shell.navigation(frozen), files)

    def _keep(self, name: str, text: str) -> str:
        """Write a CSV file once for each content; returns its path from the page."""
        file = f"data/{re.sub('[^A-Za-z0-9._-]', '_', name)}-{digest(text)}.csv"
        (self.root / file).write_text(text, encoding="utf-8")
        return file

    # -- pages as text

    def write(self) -> None:
        """Write every page's document."""
        for leaf in self.pages.values():
            (self.root / f"{leaf.name}.html").write_text(self._document(leaf), encoding="utf-8")

    def _document(self, leaf: _Leaf) -> str:
        special = self._special(leaf)
        title = html.escape(f"{leaf.page.title} · Landscape")
        badge = f'<span class="badge">{html.escape(leaf.page.badge)}</span>' if leaf.page.badge else ""
        begins = f' data-begins="{html.escape(self.theme)}"' if self.theme else ""
        return document.DOCUMENT.format(
            begins=begins, title=title, badge=badge, name=html.escape(leaf.name), version=html.escape(__version__),
            navigation=markup.text(list(map(self._reachable, leaf.navigation)), special),
            main=markup.text(leaf.parts, special),
        )  # fmt: skip

    def _reachable(self, entry: Component) -> Component:
        """A link of the navigation; greyed where its page holds nothing yet and was not written."""
        there = markup.links(entry) and canonical(markup.links(entry)[0]) in self.pages
        return entry if there else dash_html.Span(entry.children, className="off")

    def _special(self, leaf: _Leaf) -> markup.Special:
        """What of a page is another thing without a server: links, plots, the slider; forms are left out."""

        def target(url: Any) -> str | None:
            found = canonical(url) if isinstance(url, str) else None
            return f"{self.pages[found].name}.html" if found in self.pages else None

        def special(part: Component) -> str | None:
            given = markup.own(part)
            kind, properties = given["type"], given["props"]
            name = str(properties.get("className", ""))
            if kind == "Graph":
                return f'<div class="graph" style="height:{properties["style"]["height"]}"></div>'
            if kind == "Slider":
                return document.slider(leaf.page)
            if kind == "Button" and "data-copy" in properties:  # a file that was opened may not use the clipboard
                return ""
            if name == "tab-row" and sum(target(link) is not None for link in markup.links(part)) < 2:
                return ""
            if name == "downloads":
                return f'<div class="downloads">{markup.text(properties["children"], _download)}</div>'
            if kind == "A":
                file = _file_of(properties, leaf)
                to = file or target(properties.get("href"))
                words = markup.text(properties.get("children"), special)
                if to is None:
                    return "" if name in ("button", "chip") else f'<span class="{html.escape(name)}">{words}</span>'
                more = {k: v for k, v in properties.items() if k.startswith("aria-")}
                extra = "".join(f' {k}="{html.escape(str(v))}"' for k, v in more.items())
                extra += " download" if file else ""
                return f'<a class="{html.escape(name)}" href="{html.escape(to)}"{extra}>{words}</a>'
            return None

        return special


def _take_figures(parts: Any) -> dict[str, Any]:
    """Figures of a page by their card, taken out of its components."""
    found: dict[str, Any] = {}

    def look(part: Any) -> None:
        if isinstance(part, (list, tuple)):
            for p in part:
                look(p)
        elif isinstance(part, Component):
            if markup.own(part)["type"] == "Graph":
                found[part.id["card"]] = part.figure
                part.figure = None
            look(getattr(part, "children", None))

    look(parts)
    return found


def _file_of(properties: dict[str, Any], leaf: _Leaf) -> str | None:
    split = urlsplit(str(properties.get("href", "")))
    return leaf.files.get(Path(split.path).stem) if split.path.startswith("/data/") else None


def _download(part: Component) -> str | None:
    """CSV becomes a link that follows the slider; the one-card HTML file is what this page already is."""
    given = markup.own(part)
    if given["type"] != "A":
        return None
    file = Path(urlsplit(str(given["props"]["href"])).path)
    if file.suffix != ".csv":
        return ""
    name = html.escape(file.stem)
    return f'<a data-csv="{name}" download="{name}.csv" href="#">CSV</a>'
