"""List the runs of a store with their optimizer, loss, sharpness and records.

  landscape runs demo-store
  landscape runs demo-store --json

It needs no ranks; the jobs that fill a store do, e.g.
  mpirun -n 4 landscape spectrum demo-store/adam
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from landscape.errors import ProblemError

_LAST = ("train_loss", "test_loss", "test_accuracy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="directory of runs, or one run")
    parser.add_argument("--json", action="store_true", help="one JSON list on standard output")


def run(args: argparse.Namespace) -> int:
    from landscape.stores.files import to_json
    from landscape.stores.run_directory import runs

    if not Path(args.store).is_dir():
        what = "is a file" if Path(args.store).exists() else "does not exist"
        raise ProblemError(f"store '{args.store}' {what}; make one with: landscape demo --store {args.store}")
    rows = [_row(found, Path(args.store)) for found in runs(args.store)]
    if args.json:
        print(to_json(rows))
    elif rows:
        print(_table(rows))
    else:
        print(f"no runs in {args.store} yet; record one with: landscape train digits_mlp --out {args.store}/first")
    return 0


def _row(found: Any, store: Path) -> dict[str, Any]:
    info, metrics = found.info, found.metrics()
    steps = found.checkpoint_steps()
    loss = _last(metrics.get("train_loss")) if "train_loss" in metrics else _last(metrics.get("loss"))
    pairs = found.keys("eigenpairs")
    values = found.read(pairs[-1]).values if pairs else []
    return {
        "run": found.root.relative_to(store).as_posix(),
        "problem": info.problem,
        "optimizer": info.optimizer,
        "lr": info.settings.get("lr"),
        "seed": info.seed,
        "size": info.size,
        "step": steps[-1] if steps else None,
        "checkpoints": len(steps),
        "loss": loss,
        "test_accuracy": _last(metrics.get("test_accuracy")),
        "sharpness": float(values[0]) if len(values) else None,
        "records": len(found.keys()),
        "state": "finished" if info.finished else "unfinished",
    }


def _last(column: Any) -> float | None:
    """The last finite value of a metric."""
    values = [float(x) for x in (() if column is None else column) if math.isfinite(x)]
    return values[-1] if values else None


def _table(rows: list[dict[str, Any]]) -> str:
    texts = [[_text(v) for v in row.values()] for row in rows]
    table = [list(rows[0]), *texts]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    numeric = [not isinstance(v, str) for v in rows[0].values()]
    return "\n".join(
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)).rstrip()
        for line in table
    )


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
