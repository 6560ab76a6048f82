"""Paper figures by plain GET, as `landscape export` makes them: `/figure/<name>.<pdf|svg|png>?run=...&size=column`."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import flask

from landscape import plugins
from landscape.errors import LandscapeError, UsageError

from .. import shell
from ..reading import Reader
from . import downloads

KINDS = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png"}
SIZES = {"column": "column of a paper (3.35 in)", "text": "text of a paper (6.75 in)", "slide": "slide (12 in)"}
PATIENCE = 20.0  # seconds that a figure waits for the one before it
LARGEST = 256 << 20  # bytes of records that a figure may read for a page
KEPT = 32
_drawing = threading.Lock()  # matplotlib's settings belong to the process
_known: dict[tuple[str, ...], bytes] = {}


def register(server: flask.Flask, reader: Reader) -> None:
    """Add the route to the web server."""

    @server.get("/figure/<name>.<kind>")
    def figure(name: str, kind: str) -> flask.Response:
        try:
            given = flask.request.args
            run_id, size = given.get("run", ""), given.get("size", "text")
            data = drawn(reader, run_id, name, kind, size=size, dark=given.get("dark") == "yes")
        except LandscapeError as error:
            return downloads.refuse(str(error))
        except Exception:
            shell.log.exception("figure %s.%s could not be made", name, kind)
            return downloads.refuse("the figure could not be made; the server's log says why")
        response = flask.Response(data, content_type=KINDS[kind])
        if given.get("show") != "yes":
            response.headers.set("Content-Disposition", "attachment", filename=f"{name}.{kind}")
        return response


def names() -> list[str]:
    """The figures there are."""
    return plugins.names("landscape.pictures.figures")


def drawn(reader: Reader, run_id: str, name: str, kind: str, *, size: str, dark: bool) -> bytes:
    """A figure as a file; kept while the run's records do not change.

    Raises:
        UsageError: no such kind of file or size, too much to read, or another figure takes too long.
        LandscapeError: no such run or figure, or a record is missing.
    """
    if kind not in KINDS:
        raise UsageError(f"'{kind[:20]}' is no file type of a figure: {', '.join(KINDS)}")
    if size not in SIZES:
        raise UsageError(f"size '{size[:20]}' is not offered here: {', '.join(SIZES)}")
    run = reader.run(run_id)
    key = (str(run.root), name, kind, size, str(dark), reader.signature([run_id]))
    if key in _known:
        return _known[key]
    total = sum(f.stat().st_size for f in (run.root / "records").glob("*/arrays.npz"))
    if total > LARGEST:
        raise UsageError(
            f"the records of this run are {total / 2**20:.0f} MB, too much to draw for a page; "
            f"`landscape export {run.root} --figure {name}` draws it"
        )
    if not _drawing.acquire(timeout=PATIENCE):
        raise UsageError("another figure is being drawn; try again in a moment")
    try:
        from landscape.pictures import paper  # and with it matplotlib: a dashboard that draws no figure does without

        plate = paper.make(run, name, paper.Choice(), paper.Sheet.of(size, dark=dark))
        with tempfile.TemporaryDirectory() as folder:
            data = Path(paper.save(plate, Path(folder) / f"{name}.{kind}")).read_bytes()
    finally:
        _drawing.release()
    if len(_known) >= KEPT:
        _known.pop(next(iter(_known)))
    _known[key] = data
    return data
