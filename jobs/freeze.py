"""Freeze a store into a folder of plain pages that open without a server, for a colleague or a paper's supplement.

  landscape freeze runs --out site
  landscape freeze runs --out site --run adam --run sgd --theme dark

Every page of the dashboard with the same figures, their captions, the evidence behind them and the numbers as CSV;
the slider moves as it does there, and pages are light or dark as there. Open site/index.html from the disk, or copy the
folder to any web server. The same store gives the same bytes; --out appears whole or not at all, and replaces an older
frozen store only.

It needs no ranks; the jobs that compute what it shows do, e.g.
  mpirun -n 4 landscape spectrum runs/adam
"""

from __future__ import annotations

import argparse
import importlib
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="directory of runs, or one run")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--run", action="append", default=[], metavar="NAME", help="only this run; may be repeated")
    parser.add_argument("--theme", choices=("light", "dark"), default="",
                        help="colours that pages begin with (default: those of the reader's system)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    freezing = importlib.import_module("landscape.app.serving.freezing")
    done = freezing.freeze(args.store, args.out, theme=args.theme, only=args.run)
    for sentence in done.left_out:
        print(f"left out: {sentence}")
    print(
        f"{done.place / 'index.html'}: {done.pages} pages of {done.runs} run{'s' * (done.runs != 1)}, "
        f"{done.bytes / 1e6:.1f} MB ({done.plotly_bytes / 1e6:.1f} MB of it plotly.js), "
        f"in {time.monotonic() - started:.1f} s; open it in a browser, no server is needed"
    )
    return 0
