"""The web server: `make_app(store)` builds the app, `serve(store)` binds a port and runs it until it is stopped."""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
from dash import Dash
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from landscape.errors import EnvironmentProblem, ProblemError

from . import callbacks, downloads, figures, live, shell, starting
from .reading import Reader

DEFAULT_PORT = 8050

INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
{%metas%}{%favicon%}
<script src="ASSETS/theme.js"></script>
{%css%}
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>"""


def make_app(store: str | os.PathLike[str], *, allow_submit: str | None = None, **options: Any) -> Dash:
    """The dashboard of a store as a Dash app; `.server` is the WSGI application.

    Args:
        store: a directory of runs, or one run.
        allow_submit: the host that is served; given, pages may start jobs on this machine.
        options: passed to `dash.Dash`, e.g. `requests_pathname_prefix` behind a proxy.

    Raises:
        ProblemError: the store is no directory.
    """
    root = Path(store)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ProblemError(
            f"store '{root}' {what}; make one with `landscape demo --out {root}` or name another directory"
        )
    prefix = options.get("requests_pathname_prefix") or options.get("url_base_pathname") or "/"
    app = Dash(
        "landscape.app",
        assets_folder=str(Path(__file__).parent / "assets"),
        assets_ignore="theme.js",  # loaded in the head, before the first paint
        serve_locally=True,
        suppress_callback_exceptions=True,  # components come and go with the page
        update_title="",
        title="Landscape",
        **options,
    )
    app.index_string = INDEX.replace("ASSETS", f"{prefix}assets")
    app.layout = shell.frame()
    reader = Reader(root)
    callbacks.register(app, reader)
    live.register(app, reader)
    downloads.register(app.server, reader)
    figures.register(app.server, reader)
    if allow_submit is not None:
        starting.register(app.server, reader, allow_submit)
    _add_health(app.server)
    _add_headers(app)
    return app


def _add_health(server: flask.Flask) -> None:
    @server.get("/health")
    def health() -> flask.Response:
        return flask.Response("OK\n", content_type="text/plain")


def _add_headers(app: Dash) -> None:
    scripts = " ".join(["'self'", *app.csp_hashes()])
    policy = "; ".join(
        [
            "default-src 'self'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "worker-src blob:",
            "connect-src 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }

    def secure(response: flask.Response) -> flask.Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response

    app.server.after_request(secure)
    app.server.before_request(refuse_traversal)


def refuse_traversal() -> flask.Response | None:
    """Answer 404 to component paths with '..', for which dash raises, which would be a 500."""
    path = flask.request.path
    bad = "_dash-component-suites" in path and ".." in path.split("/")
    return downloads.refuse("not found") if bad else None


# ------------------------------------------------------------------ running it


class Quiet(WSGIRequestHandler):
    """A terminal is for sentences: requests are not logged, errors are."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket: on the given port, or on 8050 or the next free one.

    Raises:
        EnvironmentProblem: the port is taken, forbidden, or the host is not ours.
    """
    candidates = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + 50), 0]
    for candidate in candidates:
        if not 0 <= candidate <= 65535:
            raise EnvironmentProblem(
                f"a port lies between 0 and 65535, got {candidate}; leave --port out to take a free one"
            )
        try:
            return socket.create_server((host, candidate), backlog=128)
        except OSError as error:
            if port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise EnvironmentProblem(_refused(host, candidate, error)) from error
    raise EnvironmentProblem(f"no free port on {host}; name one with --port")


def _refused(host: str, port: int, error: OSError) -> str:
    way_out = (
        f"choose another, e.g. --port {port + 1 if port < 65535 else 8050}, or leave --port out to take a free one"
    )
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken on {host}; {way_out}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than you have; {way_out}"
    return f"cannot listen on {host}:{port}: {error.strerror or error}; use --host 127.0.0.1"


def serve(
    store: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    allow_submit: bool = False,
    ready: Callable[[BaseWSGIServer], None] | None = None,
    **options: Any,
) -> None:
    """Serve the dashboard until interrupted; the address is printed once the port is ours.

    Args:
        port: None takes 8050 or the next free port; 0 takes any.
        allow_submit: whether pages may start jobs on this machine.
        ready: called with the server before it starts, e.g. to stop it from a test.

    Raises:
        EnvironmentProblem: an explicitly given port is taken.
        ProblemError: the store is no directory.
    """
    app = make_app(store, allow_submit=host if allow_submit else None, **options)
    with bind(host, port) as listener:
        server = make_server(host, 0, app.server, threaded=True, request_handler=Quiet, fd=listener.fileno())
        _announce(store, host, listener.getsockname()[1], port)
        if ready is not None:
            ready(server)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
        finally:
            server.server_close()


def _announce(store: str | os.PathLike[str], host: str, port: int, asked: int | None) -> None:
    runs = len(Reader(store).runs())
    local = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    lines = [f"Serving {Path(store)} ({runs} run{'s' * (runs != 1)}), read-only: http://{local}:{port}/"]
    if asked is None and port != DEFAULT_PORT:
        lines.append(f"(port {DEFAULT_PORT} was taken)")
    lines.append(
        f"From another machine:  ssh -N -L {port}:127.0.0.1:{port} {_user()}@{socket.gethostname()}"
        f"   then open http://127.0.0.1:{port}/"
    )
    lines.append("Stop with Ctrl-C.")
    print("\n".join(lines), file=sys.stdout, flush=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "you"
