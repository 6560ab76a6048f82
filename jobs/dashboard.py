"""Browse a store in the browser; it opens while jobs are still writing.

  landscape dashboard runs
  landscape dashboard runs --port 8051
  landscape dashboard runs --host 0.0.0.0 --production      for a group: waitress, a token in the printed address

Where others may reach the port (another address than localhost, an ssh session, a batch job) readers need a token: that
of the printed address, which is LANDSCAPE_TOKEN where it is set and random where not; `--token` and `--no-token` decide
otherwise. One process on the machine that holds the store; the jobs that fill it run elsewhere, e.g.
  mpirun -n 4 landscape spectrum runs/adam
"""

from __future__ import annotations

import argparse
import importlib

from landscape.errors import Stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="directory of runs, or one run")
    parser.add_argument("--port", type=int, help="default: 8050 or the next free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--token", action=argparse.BooleanOptionalAction,
        help="ask readers for a token (default: where others may reach the port)",
    )  # fmt: skip
    parser.add_argument("--production", action="store_true", help="serve with waitress, for many readers")
    parser.add_argument("--allow-submit", action="store_true",
                        help="pages may start jobs on this machine: spectrum, surface, trajectory, volume, path, video")


def run(args: argparse.Namespace) -> int:
    try:
        importlib.import_module("landscape.app.serving.server").serve(
            args.store, host=args.host, port=args.port, token=args.token, production=args.production,
            allow_submit=args.allow_submit,
        )  # fmt: skip
    except Stopped:  # stopping is how a server ends
        print("stopped")
    return 0
