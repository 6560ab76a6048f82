"""Run under mpirun: a job that stands still at a known place until a signal comes, so that no test has to be quick.

Arguments: `records N` (before it writes record N + 1), `products N` or `steps N` (after so many), then the job's words.
It prints `held` there. A job that has put signals off goes on when one has come.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any
from unittest import mock

from landscape import cli
from landscape.krylov.lanczos import BlockLanczos
from landscape.learning.recorder import Recorder
from landscape.stores.run_directory import Run

what, number, *words = sys.argv[1:]
write, expand, record = Run.write, BlockLanczos.expand, Recorder.step
written = 0
launcher = os.getppid()


def hold() -> None:
    if cli._rank() == 0:  # in one piece: two ranks at once were printed into one line
        sys.stdout.write("held\n")
        sys.stdout.flush()
    while not cli._waiting:
        time.sleep(0.02)
        if os.getppid() != launcher:  # Open MPI's ranks outlive a killed mpirun up to their next collective
            os.kill(os.getpid(), signal.SIGKILL)


def write_and_count(self: Run, *record: Any, **options: Any) -> Any:
    global written
    if written == int(number):
        hold()
    written += 1
    return write(self, *record, **options)


def expand_and_look(self: BlockLanczos, *chosen: Any) -> Any:
    if self.matvecs >= int(number):
        hold()
    return expand(self, *chosen)


def record_and_look(self: Recorder, *told: Any, **metrics: Any) -> Any:
    if self.steps == int(number):
        hold()
    return record(self, *told, **metrics)


places = {
    "records": (Run, "write", write_and_count), "products": (BlockLanczos, "expand", expand_and_look),
    "steps": (Recorder, "step", record_and_look),
}  # fmt: skip
sys.argv[:] = ["landscape", *words]
with mock.patch.object(*places[what]):
    sys.exit(cli.main(words))
