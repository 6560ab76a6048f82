"""The server for a dashboard that many read: Waitress, with the three methods that werkzeug's own has."""

from __future__ import annotations

import importlib
import socket
import threading
from typing import Any

from landscape.errors import EnvironmentProblem

THREADS = 8
PATIENCE = 60  # seconds for a connection that says nothing


class Production:
    """Waitress on a bound socket.

    Raises:
        EnvironmentProblem: waitress is not installed.
    """

    def __init__(self, app: Any, listener: socket.socket) -> None:
        try:
            waitress = importlib.import_module("waitress")
        except ImportError as error:
            raise EnvironmentProblem(
                "--production serves with waitress, which is not installed; pip install 'hessian-landscape[serve]'"
            ) from error
        self._server = waitress.create_server(
            app, sockets=[listener], threads=THREADS, ident=None, channel_timeout=PATIENCE,
            clear_untrusted_proxy_headers=True, max_request_body_size=8 << 20,
        )  # fmt: skip
        self._stopped = threading.Event()

    def serve_forever(self) -> None:
        """Until `shutdown`; a signal ends the waiting here, never a request half-way."""
        thread = threading.Thread(target=self._server.run, daemon=True)
        thread.start()
        self._stopped.wait()

    def shutdown(self) -> None:
        self._stopped.set()

    def server_close(self) -> None:
        self._server.trigger.pull_trigger(self._server.close)  # in the thread that owns the sockets
