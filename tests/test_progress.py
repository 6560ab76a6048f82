"""Progress: one line a minute in a log, a status for the app, and only rank 0 speaks."""

from __future__ import annotations

import pytest

from landscape.distributed import progress as progress_module
from landscape.distributed.parallel import Comm
from landscape.distributed.progress import Progress, duration


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (187, "3 min 07 s"), (7500, "2 h 05 min")])
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


class _Statuses:
    def __init__(self):
        self.written = []

    def write_status(self, job, status):
        self.written.append((job, status))


def test_progress_in_a_log_is_one_line_a_minute_and_a_status_for_the_app(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    run = _Statuses()
    progress = Progress("spectrum", 100, Comm(), unit="checkpoints", run=run, skipped=20)
    for done in range(21, 101):
        now[0] += 3.0
        progress.update(done, loss=0.5)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5  # four minutes and the end
    assert "40/100 checkpoints" in lines[0]
    assert "0.333/s" in lines[0]
    assert "left 3 min 00 s" in lines[0]
    states = [s["state"] for _, s in run.written]
    assert states[0] == "running"
    assert states[-1] == "done"
    assert run.written[-1][1]["done"] == 100
    assert run.written[-1][1]["numbers"] == {"loss": 0.5}


def test_only_rank_0_speaks(capsys):
    comm = Comm()
    comm.rank = 1
    progress = Progress("x", 2, comm, run=(run := _Statuses()))
    progress.update(1)
    progress.close()
    assert capsys.readouterr().err == ""
    assert run.written == []
