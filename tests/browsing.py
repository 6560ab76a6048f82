"""A store for the app's tests, and a server and a browser on it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import softmax_run
from werkzeug.serving import make_server

from landscape import records
from landscape.app.serving.server import Quiet, make_app
from landscape.stores.run_directory import Run

# WebGL is emulated, and nothing but WebGL: pages drawn by the emulation cost a third more.
ARGUMENTS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-gpu-rasterization", "--disable-gpu-compositing", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]  # fmt: skip


def make_store(root: Path) -> Path:
    """Runs 'gd' (everything), 'sweep/adam' (nested, another optimizer) and 'bare' (metrics only); a path gd -> adam."""
    first = softmax_run.full_run(root / "gd")
    second = softmax_run.full_run(root / "sweep" / "adam")
    second.update_info(optimizer="Adam", settings={"lr": 0.01, "betas": [0.9, 0.999]}, name="adam")
    softmax_run.bare_run(root / "bare")
    for run in (first, second):
        for step in softmax_run.trained()[0]:
            run.checkpoint_directory(step).mkdir(parents=True)
    surface, trajectory = softmax_run.plane()
    first.write(dataclasses.replace(surface, plane="random", labels=["random 1", "random 2"], meta={}))
    first.write(dataclasses.replace(trajectory, plane="random"))
    first.write(softmax_run.volume())
    first.write(path_record())
    first.write(dataclasses.replace(surface, plane="minima.b.c", meta={"corners": [["gd", 0, 0], ["b", 1, 0]]}))
    line = {"v": surface.v[:1], "loss": surface.loss[:1], "test_loss": surface.loss[:1] + 0.1}
    first.write(dataclasses.replace(surface, plane="pca.line1", **line))
    first.write(guest())
    structure_records(first)
    first.write(explored())
    low_rank_record(second)
    return root


def guest(run: str = "adam") -> records.Guest:
    """Another run on the plane of principal components: the path of the first, moved."""
    _surface, own = softmax_run.plane()
    fields = {f.name: getattr(own, f.name) for f in dataclasses.fields(own)}
    return records.Guest(**fields | {"u": own.u + 0.5, "loss": own.loss + 0.1}, run=run)


def path_record(other: str = "adam") -> records.Path:
    """The straight line from the first to the last checkpoint, with exact spectra."""
    _steps, path, _losses = softmax_run.trained()
    t = np.linspace(0, 1, 5)
    weights = [(1 - s) * path[-1] + s * path[1] for s in t]
    loss = np.array([softmax_run.loss(w) for w in weights])
    pairs = [softmax_run.spectrum(0, w) for w in weights]
    chord = (1 - t) * loss[0] + t * loss[-1]
    return records.Path(
        "gd", other, softmax_run.LAST, softmax_run.EVERY, "linear", float(np.linalg.norm(path[1] - path[-1])), t, loss,
        float((loss - chord).max()), spectra=[s for s, _ in pairs],
        eigenpairs=[dataclasses.replace(e, vectors=None) for _, e in pairs],
    )  # fmt: skip


def explored() -> records.Front:
    """Two cells of one penalty and one of another on two designs each, and one that was turned away."""
    return records.Front(
        276, ["cost^0.5", "cost^0.5", "unweighted", "unweighted"], [{"normal": [[0, 2, "skip"]]}] * 4, 24, 10_000,
        np.array([0.2, 0.4, 0.5, 0.1]), np.array([9, 4, 3, 20]), np.array([0.95, 0.9, 0.88, np.nan]),
        np.array([5e3, 2e3, 4e3, 2e4]), np.array([1e5, 4e4, 8e4, 6e5]), np.array([0, 0, 1, 1, 2, 2]),
        np.array([2, 4] * 3), np.array([8, 4] * 3), np.full(6, 8), np.array([5e3, 6e3, 2e3, 3e3, 4e3, 5e3]),
        np.array([1e5, 9e4, 4e4, 3e4, 8e4, 7e4]), np.array([1, 1, 1, 1, 0, 0]),
    )  # fmt: skip


def damage(run: Run, key: str) -> None:
    """Cut a record's arrays in half, as a full disk would."""
    file = run.directory(key) / "arrays.npz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@contextlib.contextmanager
def served(store: Path, **options: Any) -> Iterator[str]:
    """The address of an app on a store."""
    server = make_server("127.0.0.1", 0, make_app(store, **options).server, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chromium() -> str:
    """Path of a browser; without one the test is skipped, or fails where a browser is promised."""
    found = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if found is None:
        reason = "no chromium on this machine (Debian: apt-get install chromium)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Watch:
    """What a page asked of other hosts and complained about."""

    def __init__(self, page: Any, address: str) -> None:
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        page.on(
            "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else self.elsewhere.append(r.url)
        )
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.complaints.append(f"{e}\n{getattr(e, 'stack', '')}"))
        page.on("response", lambda r: self.complaints.append(f"{r.status} {r.url}") if r.status >= 500 else None)

    def check(self) -> None:
        assert not self.elsewhere, self.elsewhere
        assert not self.complaints, self.complaints


def low_rank_record(run: Run) -> None:
    """One structure of a training in factors: ranks 3 and 2, and two eigenvectors in the tangent space."""
    step = run.checkpoint_steps()[-1]
    run.write(records.Structure(
        step, ["0", "2"], 1e-6, 1e-4, np.array([8, 2]), np.zeros(2), np.zeros(2), np.ones(2), np.array([0, 1]),
        np.zeros(2, dtype=np.int8), sigma=np.array([3.0, 2.0, 1.0, 2.0, 1.0]), sigma_layers=np.array([0, 0, 0, 1, 1]),
        tangent=np.array([0.9, 0.8]), tangent_values=np.array([5.0, 4.0]), tangent_chance=0.5,
        meta={"command": "landscape structure adam"},
    ))  # fmt: skip


def structure_records(run: Run) -> None:
    """Structures of a run of 10 weights in two layers that loses two of its four groups, their saliency, a growth."""
    steps = run.checkpoint_steps()
    rows = [{"layer": "0", "unit": unit, "weights": [0.5, 0.5]} for unit in (3, 1)]
    event = {"step": steps[1], "event": "grow", "method": "splitting", "rows": rows, "predicted": -2e-6,
             "measured": -1.9e-6, "size_before": 6, "size_after": 10, "eigenvalues": [-0.25, 0.5],
             "left_out": ["'1': its units feed a sum"]}  # fmt: skip
    (run.root / "events.jsonl").write_text(f"{json.dumps(event)}\n{{}}\n[1]\nnot JSON", encoding="utf-8")
    for step, dead in zip(steps, np.linspace(0, 2, len(steps)).astype(int), strict=True):
        gone = np.arange(4) >= 4 - dead
        zeros = np.array([dead * 2 / 8, 0.0])
        run.write(records.Structure(
            step, ["0", "2"], 1e-6, 1e-4, np.array([8, 2]), zeros, zeros, np.where(gone, 1e-7, [3.0, 2.0, 1.0, 0.5]),
            np.array([0, 0, 0, 0]), gone.astype(np.int8), 10 - 2 * int(dead), {"0": int(dead)},
            {"command": "landscape structure gd"},
        ))  # fmt: skip
    counts = np.zeros((len(steps), 2), dtype=np.int64)
    counts[-1] = [2, 1]
    run.write(records.ScaleSpace(
        steps[-1], ["0", "2"], ["weights", "weights"], np.array([8, 2]), np.array(steps), counts,
        np.array([3, 0, 0, 7, 0, 0, 0, 0, 0, 9]), np.array([0] * 8 + [1, 1]), counts[:, [0, 0, 1]] * 0.1,
        np.array([0, 0, 1]), np.array([0, 3, 1]), np.array([3, 7, 9]), {"command": "landscape structure gd"},
    ))  # fmt: skip
    values = np.array([1.0, 2, 0.5, 0.1, 1e-7, 1e-7, 1e-7, 1e-7, 0.3, 0.4])
    run.write(records.Saliency(
        steps[-1], "hessian", 10, 100, ["0", "2"], np.arange(10), values, np.array([1.0] * 8 + [-1, 1]),
        np.full(10, 0.1), (values < 1e-4).astype(np.int8), np.array([0] * 8 + [1, 1]),
        {"command": "landscape structure gd"},
    ))  # fmt: skip
