"""Browse a store in the browser; it opens while jobs are still writing.

  landscape dashboard runs
  landscape dashboard runs --port 8051 --host 127.0.0.1

One process on the machine that holds the store; the jobs that fill it run elsewhere, e.g.
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
    parser.add_argument("--allow-submit", action="store_true",
                        help="pages may start jobs on this machine: spectrum, surface, trajectory, volume, path, video")


def run(args: argparse.Namespace) -> int:
    try:
        importlib.import_module("landscape.app.server").serve(
            args.store, host=args.host, port=args.port, allow_submit=args.allow_submit
        )
    except Stopped:  # stopping is how a server ends
        print("stopped")
    return 0
