"""The web server: `make_app(store)` builds the app, `serve(store)` binds a port and runs it until it is stopped."""

from __future__ import annotations

import contextlib
import errno
import getpass
import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dash import Dash
from werkzeug.serving import WSGIRequestHandler, make_server

from landscape.errors import EnvironmentProblem, ProblemError

from .. import shell
from ..reading import Reader
from . import callbacks, downloads, figures, guard, live, scrubbing, starting
from .production import Production

DEFAULT_PORT = 8050

# in the page: a browser asks for an icon's file again whenever the URL changes, with every step of a slider
ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='3' fill='#0072B2'/>"
    "<path d='M2 5 5 11 8 8 10 10 14 4' fill='none' stroke='white' stroke-width='1.8'/></svg>"
)
INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
{%metas%}
<link rel="icon" href="data:image/svg+xml,ICON">
<script src="ASSETS/theme.js"></script>
{%css%}
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>"""


def make_app(
    store: str | os.PathLike[str], *, token: str = "", local: bool = False, allow_submit: str | None = None,
    **options: Any,
) -> Dash:  # fmt: skip
    """The dashboard of a store as a Dash app; `.server` is the WSGI application.

    Args:
        store: a directory of runs, or one run.
        token: what a reader has to know; empty: nothing.
        local: answer only to names of this machine.
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
        assets_folder=str(Path(__file__).parents[1] / "assets"),
        assets_ignore="theme.js",  # loaded in the head, before the first paint
        serve_locally=True,
        compress=importlib.util.find_spec("flask_compress") is not None,
        suppress_callback_exceptions=True,  # components come and go with the page
        update_title="",
        title="Landscape",
        **options,
    )
    app.index_string = INDEX.replace("ASSETS", f"{prefix}assets").replace("ICON", quote(ICON))
    app.layout = shell.frame()
    reader = Reader(root)
    callbacks.register(app, reader)
    downloads.register(app.server, reader)
    figures.register(app.server, reader)
    if allow_submit is not None:
        starting.register(app.server, reader, allow_submit)
    live.register(app.server, reader)
    scrubbing.register(app.server, reader)
    guard.protect(app.server, app.csp_hashes(), token, local=local)
    return app


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
    token: bool | None = None,
    production: bool = False,
    allow_submit: bool = False,
    ready: Callable[[Any], None] | None = None,
    **options: Any,
) -> None:
    """Serve the dashboard until interrupted; the address is printed once the port is ours.

    Args:
        store: a directory of runs, or one run.
        host: the address to listen on.
        port: None takes 8050 or the next free port; 0 takes any.
        token: ask readers for a secret; None: where others may reach the port (see `reachable`).
        production: with Waitress instead of werkzeug's server.
        allow_submit: whether pages may start jobs on this machine.
        ready: called with the server before it starts, e.g. to stop it from a test.

    Raises:
        EnvironmentProblem: an explicitly given port is taken, or the production server is not installed.
        ProblemError: the store is no directory.
    """
    secret = secret_token() if token or (token is None and reachable(host, os.environ)) else ""
    local = not secret and guard.is_local(host)
    app = make_app(store, token=secret, local=local, allow_submit=host if allow_submit else None, **options)
    with bind(host, port) as listener:
        server: Any = (
            Production(app.server, listener)
            if production
            else make_server(host, 0, app.server, threaded=True, request_handler=Quiet, fd=listener.fileno())
        )
        _announce(store, host, listener.getsockname()[1], port, secret)
        if ready is not None:
            ready(server)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
        finally:
            server.server_close()


def reachable(host: str, environment: Mapping[str, str]) -> bool:
    """Whether others may reach a port on this host: it is no loopback address, or the machine is a shared one.

    Every user of a login node or of a batch job's node can open 127.0.0.1 of it; a shell that came by ssh, or inside a
    batch job, is taken for one there.
    """
    shared = ("SSH_CONNECTION", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
    return not guard.is_local(host) or any(environment.get(name) for name in shared)


def secret_token() -> str:
    """LANDSCAPE_TOKEN where it is set (a command line would show it to every user), else a new random one."""
    return os.environ.get("LANDSCAPE_TOKEN") or secrets.token_urlsafe(18)


def _announce(store: str | os.PathLike[str], host: str, port: int, asked: int | None, secret: str) -> None:
    runs = len(Reader(store).runs())
    local = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    query = f"?token={secret}" if secret else ""
    lines = [f"Serving {Path(store)} ({runs} run{'s' * (runs != 1)}), read-only: http://{local}:{port}/{query}"]
    if asked is None and port != DEFAULT_PORT:
        lines.append(f"(port {DEFAULT_PORT} was taken)")
    lines.append(
        f"From another machine:  ssh -N -L {port}:127.0.0.1:{port} {_user()}@{socket.gethostname()}"
        f"   then open http://127.0.0.1:{port}/{query}"
    )
    if secret:
        lines.append("Who opens it needs the token of that address; --no-token asks for none.")
    lines.append("Stop with Ctrl-C.")
    print("\n".join(lines), file=sys.stdout, flush=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "you"
