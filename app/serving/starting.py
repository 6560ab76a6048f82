"""The endpoints that start and stop jobs; a dashboard without --allow-submit has none of them.

A request must be JSON, carry this server's token, which only its own pages hold, and come from this server's own
address: another site's page can send none of the three.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from typing import Any
from urllib.parse import urlsplit

import flask

from landscape.errors import LandscapeError

from .. import offers
from ..reading import Reader
from .queueing import Queue

HEADER = "X-Landscape-Token"
HERE = ("127.0.0.1", "localhost", "::1")


def register(server: flask.Flask, reader: Reader, host: str) -> None:
    """Give the reader a queue and the web server the endpoints of it."""
    queue = reader.queue = Queue(reader.store)
    reader.token = secrets.token_urlsafe(24)
    hosts = {*HERE, host, socket.gethostname()}

    def refusal() -> str:
        """Why a request is not ours; empty where it is."""
        request = flask.request
        ours = urlsplit(f"//{request.host}").hostname
        origin = request.headers.get("Origin")
        if ours not in hosts or (origin is not None and urlsplit(origin).netloc != request.host):
            return "the request comes from another address"
        if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), reader.token.encode()):
            return "the request carries no valid token; reload the page"
        if not request.is_json or (request.content_length or 0) > 10_000:
            return "the request is no short JSON"
        return ""

    def answered(make: Any) -> tuple[flask.Response, int]:
        if reason := refusal():
            return flask.jsonify(error=reason), 403
        given = flask.request.get_json(silent=True)
        values = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
        try:
            return flask.jsonify(make(values)), 200
        except LandscapeError as error:
            return flask.jsonify(error=str(error)), 400

    @server.post("/jobs/start")
    def start() -> tuple[flask.Response, int]:
        return answered(lambda values: {"number": queue.add(offers.order(reader, values)).number})

    @server.post("/jobs/stop")
    def stop() -> tuple[flask.Response, int]:
        def halt(values: dict[str, str]) -> dict[str, bool]:
            number = values.get("number", "")
            return {"stopped": number.isascii() and number.isdecimal() and queue.stop(int(number[:9]))}

        return answered(halt)

    @server.get("/jobs/file/<int:number>")
    def file(number: int) -> flask.Response | tuple[str, int]:
        entry = queue.entry(number)
        if entry is None or entry.file is None:
            return "there is no such file\n", 404
        return flask.send_file(entry.file, as_attachment=True, download_name=f"{entry.order.run_id}-{entry.file.name}")
