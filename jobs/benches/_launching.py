"""A benchmark that needs ranks starts itself under mpirun; what rank 0 measured comes back as JSON."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landscape import launch
from landscape.errors import EnvironmentProblem


def on_ranks(ranks: int, words: Sequence[object]) -> dict[str, Any]:
    """Run `landscape bench WORDS --worker FILE` on this many ranks and read the file.

    Raises:
        EnvironmentProblem: there is no mpirun, or the ranks failed.
    """
    if ranks > 1 and launch.find_mpirun() is None:
        raise EnvironmentProblem("no mpirun found, so nothing can be measured on ranks (pip install mpich brings one)")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        command = launch.landscape_command(["bench", *map(str, words), "--worker", str(file)], ranks)
        done = subprocess.run(command, env=launch.environment(), stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode or not file.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EnvironmentProblem(f"`bench {words[0]}` on {ranks} ranks ended with code {done.returncode}: {last}")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def answer(file: Path, rank: int, found: dict[str, Any]) -> None:
    """Rank 0's part of it."""
    if rank == 0:
        file.write_text(json.dumps(found), encoding="utf-8")
