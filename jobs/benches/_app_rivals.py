"""TensorBoard on the losses and spectra of a store: what a browser gets for one picture of them, and what it costs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
import tempfile
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.stores.run_directory import Run, runs

if TYPE_CHECKING:
    from ._app_asking import Served
    from ._tables import Row

FLAGS = ["--load_fast=false", "--reload_interval=0", "--samples_per_plugin=scalars=0,histograms=0"]


def tensorboard(store: Path, long: str, repeats: int) -> Iterator[Row]:
    """The same losses as scalars and eigenvalues as histograms, nothing sampled away."""
    from ._app_asking import Served, dashboard, started, unpacked, until_answered

    if importlib.util.find_spec("tensorboard") is None:
        yield "tensorboard is not installed", None, None, ""
        return
    logs = Path(tempfile.mkdtemp(prefix="landscape-events-", dir=store.parent))
    try:
        _write(store, logs, long)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", str(port), *FLAGS]
        histograms = f"/data/plugin/histograms/histograms?run={long}&tag=eigenvalues"
        with started(command) as process, dashboard(store) as ours:
            served = Served(f"http://127.0.0.1:{port}", process)
            until_answered(served, "/data/runs")
            count = len(runs(store))
            while len(json.loads(unpacked(served.get("/data/runs")))) < count or not _has(served, histograms):
                if process.poll() is not None:
                    yield "tensorboard ended by itself", None, None, ""
                    return
                time.sleep(0.5)
            theirs = served.cpu()
            ours.page("/")
            yield "until every run is there: server", 1000 * theirs, 1000 * ours.cpu(), "CPU ms"
            drawn, cost = served.cost(lambda: served.get(histograms), repeats)
            page, own = ours.cost(lambda: ours.page(f"/run/{long}"), repeats)
            yield "spectra of the long run: payload", len(unpacked(drawn)) / 1000, len(unpacked(page)) / 1000, "KB"
            yield "spectra of the long run: server", cost, own, "CPU ms"
            tags, cost = served.cost(lambda: served.get("/data/plugin/scalars/tags"), repeats)
            table, own = ours.cost(lambda: ours.page("/"), repeats)
            yield "list of all runs: payload", len(unpacked(tags)) / 1000, len(unpacked(table)) / 1000, "KB"
            yield "list of all runs: server", cost, own, "CPU ms"
            yield "memory of the server", served.memory(), ours.memory(), "MB"
    finally:
        shutil.rmtree(logs, ignore_errors=True)


def _has(served: Served, url: str) -> bool:
    try:
        return bool(served.get(url))
    except urllib.error.URLError:
        return False


def _write(store: Path, logs: Path, long: str) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    root = store.resolve()
    for run in runs(root):
        name = run.root.relative_to(root).as_posix()
        writer = SummaryWriter(str(logs / name))
        metrics = run.metrics()
        for step, loss in zip(metrics["step"], metrics.get("loss", ()), strict=False):
            writer.add_scalar("loss", float(loss), int(step))
        for step in run.steps("spectrum", "hessian") if name == long else ():
            writer.add_histogram("eigenvalues", _eigenvalues(run, step), step)
        writer.close()


def _eigenvalues(run: Run, step: int) -> object:
    return run.read(f"spectrum-hessian-{step:08d}").nodes.ravel()
