"""A dashboard in a process of its own, asked over HTTP as a browser asks it: bytes, CPU seconds and memory."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape import launch
from landscape.errors import EnvironmentProblem


@dataclass(frozen=True)
class Served:
    """A running server: where it answers, and its process."""

    address: str
    process: subprocess.Popen[str]

    def get(self, path: str) -> bytes:
        """The body as it came over the wire, compressed where the server does that."""
        return self._ask(urllib.request.Request(self.address + path))

    def post(self, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(f"{self.address}/_dash-update-component", data, kind))

    def _ask(self, request: urllib.request.Request) -> bytes:
        request.add_header("Accept-Encoding", "gzip")
        with urllib.request.urlopen(request, timeout=300) as answer:
            return bytes(answer.read())

    def cpu(self) -> float:
        """CPU seconds of the process so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident megabytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def cost(self, ask: Callable[[], bytes], repeats: int) -> tuple[bytes, float]:
        """The last answer, and CPU milliseconds of one, without the first."""
        answer = ask()
        before = self.cpu()
        for _ in range(repeats):
            answer = ask()
        return answer, 1000 * (self.cpu() - before) / repeats

    def page(self, path: str, search: str = "") -> bytes:
        """What a browser gets when its reader goes to a URL."""
        names = [
            ("page", "children"),
            ("nav", "children"),
            ("badge", "children"),
            ("info", "data"),
            ("jobs", "children"),
        ]
        place = {"path": path, "search": search, "theme": "light"}
        return self.post({
            "output": "..page.children...nav.children...badge.children...info.data...jobs.children..",
            "outputs": [{"id": name, "property": prop} for name, prop in names],
            "inputs": [{"id": "place", "property": "data", "value": place}], "changedPropIds": ["place.data"],
        })  # fmt: skip

    def steps(self, page: Any, value: float, count: int) -> bytes:
        """What it gets when the slider of a page (as `page` answered it) leaves the stops that it has."""
        return self.get(f"{page['response']['info']['data']['slider']['steps']}&at={value}&count={count}")


def unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


@contextlib.contextmanager
def dashboard(store: Path) -> Iterator[Served]:
    """`landscape dashboard STORE`, until the block ends."""
    words = ["dashboard", str(store), "--port", "0", "--no-token"]
    with started(launch.landscape_command(words, 1)) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise EnvironmentProblem(f"the dashboard did not start: {line.strip() or 'it said nothing'}")
        served = Served("http://" + line.split("http://")[1].split()[0].rstrip("/"), process)
        until_answered(served, "/healthz")
        yield served


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, env=launch.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        if process.poll() is None:
            process.kill()
        process.communicate()


def until_answered(served: Served, path: str, patience: float = 120) -> bytes:
    deadline = time.monotonic() + patience
    while True:
        try:
            return served.get(path)
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline or served.process.poll() is not None:
                raise EnvironmentProblem(f"{served.address}{path} does not answer: {error}") from error
            time.sleep(0.1)
