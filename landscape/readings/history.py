"""What is known of a game over its training: losses and metrics of the samples, and whether the generator collapsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Array, Game
from .leading import LeadLag, lead_lag

Curve = tuple[Array, Array]  # optimizer steps, ascending, and values
MODES = "modes"
METRICS = (MODES, "modes_tenth", "hq_share", "mode_kl", "inception_score", "pixel_fid")
LOST = 0.5  # of the most modes that were covered before: no more than this share is a collapse


@dataclass(frozen=True)
class Collapse:
    """How many modes were covered over training.

    `fallen` is the first checkpoint at which no more than half of the most modes before it were left, None where there
    is none; `back` is the first one after it with more than half again.
    """

    most: float
    most_step: int
    last: float
    fallen: int | None = None
    left: float = float("nan")  # modes at `fallen`
    back: int | None = None

    def told(self, total: int | None = None) -> str:
        """In words; `total` is the number of modes that there are."""
        of = f" of {total}" if total else ""
        if self.fallen is None:
            most = f"{self.most:.0f} (step {self.most_step:,})"
            return f"no collapse: {self.last:.0f}{of} modes at the end, at most {most}"
        then = "never recovered" if self.back is None else f"recovered at step {self.back:,}"
        left = f"{self.left:.0f} mode{'s' * (self.left != 1)} left of the {self.most:.0f}{of} covered before"
        return f"collapsed at step {self.fallen:,}: {left}, {then}"


def collapse(steps: Array, modes: Array, total: int | None = None) -> Collapse | None:
    """Collapse of the number of modes (checkpoint,) at ascending steps; None where there is no number.

    The modes before are the most that were covered up to then: half of the `total` that there are or more, else there
    was nothing to lose, and two at least.
    """
    known = np.isfinite(modes)
    steps, modes = np.asarray(steps)[known], np.asarray(modes)[known]
    if not len(modes):
        return None
    best = np.maximum.accumulate(modes)
    down = (modes <= LOST * best) & (best >= max(2.0, 0.5 * (total or 0)))
    fallen = int(down.argmax()) if down.any() else len(modes)
    top = int(modes[: fallen + 1].argmax())
    most, at, last = float(modes[top]), int(steps[top]), float(modes[-1])
    if fallen == len(modes):
        return Collapse(most, at, last)
    up = np.flatnonzero(modes[fallen:] > LOST * most)
    back = int(steps[fallen + up[0]]) if len(up) else None
    return Collapse(most, at, last, int(steps[fallen]), float(modes[fallen]), back)


@dataclass(frozen=True)
class History:
    """Players, curves by name (`loss_<player>` and metrics of the samples), and the number of modes there are."""

    players: list[str]
    curves: dict[str, Curve]
    total: int | None = None

    @property
    def losses(self) -> dict[str, Curve]:
        """By player."""
        return {p: self.curves[f"loss_{p}"] for p in self.players if f"loss_{p}" in self.curves}

    @property
    def metrics(self) -> dict[str, Curve]:
        return {name: curve for name, curve in self.curves.items() if not name.startswith("loss_")}

    @property
    def collapse(self) -> Collapse | None:
        return collapse(*self.curves[MODES], self.total) if MODES in self.curves else None


def history(records: Sequence[Game], metrics: Mapping[str, Array]) -> History | None:
    """Of the records of a game, and of the columns of its training log where there are no records; None: no game."""
    players = list(records[-1].players) if records else _logged_players(metrics)
    if not players:
        return None
    ours = list(dict.fromkeys(name for r in records for name in r.metric_names))
    names = [f"loss_{p}" for p in players] + list(dict.fromkeys([*(m for m in METRICS if m in metrics), *ours]))
    curves = {name: curve for name in names if len((curve := _curve(name, records, metrics))[0])}
    shares = [r.mode_shares for r in records if r.mode_shares is not None]
    return History(players, curves, len(shares[-1]) if shares else None)


def _logged_players(metrics: Mapping[str, Array]) -> list[str]:
    return [name.removeprefix("loss_") for name in metrics if name.startswith("loss_")]


def _curve(name: str, records: Sequence[Game], metrics: Mapping[str, Array]) -> Curve:
    """A column of the log, overwritten by what the records say."""
    steps, values = metrics.get("step", np.empty(0)), metrics.get(name, np.empty(0))
    known = {int(s): float(v) for s, v in zip(steps, values, strict=False) if not np.isnan(v)}
    for record in records:
        value = _of(record, name)
        if value is not None:
            known[record.step] = value
    at = sorted(known)
    return np.array(at, dtype=np.float64), np.array([known[s] for s in at], dtype=np.float64)


def _of(record: Game, name: str) -> float | None:
    player = name.removeprefix("loss_")
    if name.startswith("loss_") and player in record.players:
        return float(record.losses[record.players.index(player)])
    return record.metric(name)


def leading(first: Curve, second: Curve) -> LeadLag | None:
    """Lead or lag of two curves at the steps that both have; None where nothing can be told."""
    shared, here, there = np.intersect1d(first[0], second[0], return_indices=True)
    return lead_lag(shared, first[1][here], second[1][there])
