"""What a slider's stops change, a block of them at a time: the browser keeps them and asks again only outside of it."""

from __future__ import annotations

import flask

from landscape.errors import LandscapeError

from .. import shell
from ..reading import Reader
from ..view import Page, Place, href
from . import downloads, frames, router

MOST = 64  # stops of one answer
OWN = ("page", "theme", "at", "count")  # what the route's query holds beside that of the page


def address(page: Page, place: Place) -> str:
    """Where the browser gets the stops of a page; the slider's own value is no part of it."""
    name = page.slider.name if page.slider else ""
    kept = {k: v for k, v in place.query.items() if k not in (*OWN, name)}
    return href("steps", **{**kept, "page": place.path, "theme": place.theme})


def register(server: flask.Flask, reader: Reader) -> None:
    """Add the route `/steps?page=<path>&at=<value>&count=<stops>` to the web server."""
    pages = router.Pages(reader)

    @server.get("/steps")
    def steps() -> flask.Response:
        try:
            return answer(pages)
        except LandscapeError as error:
            return downloads.refuse(str(error))
        except Exception:
            shell.log.exception("the stops of a slider could not be made")
            return downloads.refuse("the stops could not be made; the server's log says why")


def answer(pages: router.Pages) -> flask.Response:
    """The stops around the slider's value nearest to `at`.

    Raises:
        LandscapeError: no such page or run.
    """
    given = flask.request.args
    query = flask.request.query_string.decode("ascii", "replace")
    place = Place.parse(given.get("page", "/"), query, given.get("theme"))
    asked = Place(place.path, place.parts, {k: v for k, v in place.query.items() if k not in OWN}, place.theme)
    page = pages.at(asked)
    index = place.nearest("at", page.slider.values) if page.slider else 0
    response = flask.Response(
        frames.block(page, index, int(place.number("count", 8, 1, MOST))), content_type="application/json"
    )
    response.headers["Cache-Control"] = "no-store"
    return response
