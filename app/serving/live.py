"""What changed on disk since a browser last asked: nothing is an empty answer, and costs a few directory listings."""

from __future__ import annotations

import hashlib
import json

import flask
from plotly.utils import PlotlyJSONEncoder

from .. import progress, shell
from ..reading import Reader

MOST_RUNS = 50  # of one page


def register(server: flask.Flask, reader: Reader) -> None:
    """Add the route `/live?runs=<id>&runs=<id>&seen=<cursor>` to the web server; no runs: the whole store."""

    @server.get("/live")
    def live() -> flask.Response:
        query = flask.request.args
        with reader.one_look():
            return answer(reader, query.getlist("runs")[:MOST_RUNS], query.get("seen", ""))


def answer(reader: Reader, runs: list[str], seen: str) -> flask.Response:
    """204 where the reader has seen it all; else the signature of the files, the jobs at work, and a new cursor."""
    signature = shell.attempt(lambda: reader.signature(runs), "")
    jobs = json.dumps(shell.attempt(lambda: progress.banner(reader, runs), []), cls=PlotlyJSONEncoder)
    cursor = f"{signature}.{hashlib.sha256(jobs.encode()).hexdigest()[:8]}"
    if seen == cursor:
        response = flask.Response(status=204)
    else:
        text = f'{{"cursor": "{cursor}", "signature": "{signature}", "jobs": {jobs}}}'
        response = flask.Response(text, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
