"""A run of a game as its page sees it: standings and curves, each player's spectra, and what leads what."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace

import numpy as np

from landscape.errors import LandscapeError
from landscape.readings.history import MODES, Curve, History, history, leading
from landscape.readings.leading import LeadLag
from landscape.records import Game
from landscape.stores.run_directory import Run

from ..common import Scene
from ..notes import note
from ..reading import Reader
from ..view import Missing

NAMES = {
    MODES: "modes covered", "modes_tenth": "modes with a tenth of their share", "hq_share": "high-quality share",
    "mode_kl": "KL from even modes", "inception_score": "inception score", "pixel_fid": "Fréchet distance",
}  # fmt: skip
SHORT = {MODES: "modes", "hq_share": "HQ share", "mode_kl": "KL", "inception_score": "IS", "pixel_fid": "FID"}


def is_game(reader: Reader, run: Run) -> bool:
    """Whether there is anything of a game: standings, or losses of players in the log."""
    return bool(run.keys("game")) or any(name.startswith("loss_") for name in reader.metrics(run))


def name(metric: str) -> str:
    """As people write it."""
    return NAMES.get(metric, metric.replace("_", " "))


def short(metric: str) -> str:
    """For the title of an axis."""
    return SHORT.get(metric, name(metric))


def of_player(scene: Scene, player: str) -> Scene:
    """The same run with the spectra of a player's own block, and the same stops of the slider."""
    query = {**scene.place.query, "op": f"hessian[{player}.*]"}
    found = replace(scene, place=replace(scene.place, query=query))
    found.__dict__["steps"] = scene.steps  # one slider drives them all
    return found


@dataclass(frozen=True, eq=False)
class Found:
    """What there is of a game; everything is read when it is asked for, once."""

    scene: Scene

    @functools.cached_property
    def _records(self) -> dict[int, Game]:
        found = {}
        for key in self.scene.run.keys("game"):
            with contextlib.suppress(LandscapeError):
                record: Game = self.scene.reader.record(self.scene.run, key)
                found[record.step] = record
        return found

    @property
    def records(self) -> dict[int, Game]:
        """Readable standings by step."""
        note(self._records, self._records.values())
        return self._records

    @functools.cached_property
    def _past(self) -> History | None:
        return history(list(self._records.values()), self.scene.metrics)

    @property
    def past(self) -> History:
        """Curves of the game.

        Raises:
            Missing: this run is no game.
        """
        _ = self.records
        if self._past is None or not self._past.curves:
            raise Missing(
                "This run is no game: it has one loss and one model. A game of two networks is trained with",
                "landscape train ring_gan --optimizer adam --set lr=0.001 --set betas=[0.5,0.999] --steps 3000 "
                "--out runs/ring",
            )
        return self._past

    @property
    def players(self) -> list[str]:
        return self._past.players if self._past is not None else []

    @functools.cached_property
    def scenes(self) -> dict[str, Scene]:
        return {p: of_player(self.scene, p) for p in self.players}

    def sharpness(self, player: str) -> Curve:
        """Largest eigenvalue of a player's own block over the steps; empty without spectra."""
        found = [c for c in self.scenes[player].curvature if np.isfinite(c.sharpness)]
        return np.array([c.step for c in found], float), np.array([c.sharpness for c in found], float)

    def at(self, step: int) -> Game | None:
        found = self.records.get(step)
        if found is not None:
            note(found, (found,))
        return found

    def need_records(self) -> dict[int, Game]:
        """Standings, of which there is one at least.

        Raises:
            Missing: there is none.
        """
        _ = self.past
        if not self.records:
            raise Missing(
                "Eigenvalues of the game's Jacobian and samples of every checkpoint, with the spectra of both players, "
                "come from", self.command()
            )
        return self.records

    def command(self, *arguments: str) -> str:
        return self.scene.command("game", *(arguments or ("--spectra",)))

    def nearest_text(self, step: int) -> str:
        """Why there is nothing at a step, and where there is."""
        near = sorted(self.records, key=lambda s: abs(s - step))[:2]
        return f"Nothing at step {step:,}; nearest: " + " and ".join(f"{s:,}" for s in sorted(near))

    # -- what leads what

    @property
    def metric(self) -> str:
        """The curve that sharpness is compared with: that of the URL, else the modes."""
        choices = list(self.past.metrics)
        return self.scene.place.choice("of", choices) if choices else MODES

    def leads(self, metric: str | None = None) -> dict[str, LeadLag]:
        """By player, where there are enough checkpoints to tell.

        Raises:
            Missing: there are no curves to compare.
        """
        metric = metric or self.metric
        curve = self.past.curves.get(metric)
        if curve is None:
            raise Missing("Nothing says how many modes are covered: the game has no judge of its samples.")
        found = {p: told for p in self.players if (told := _lead(self.sharpness(p), curve)) is not None}
        if not found:
            raise Missing(
                "At least eight checkpoints with spectra of a player are needed, and curves that move. They come from",
                self.command(),
            )
        return found

    def verdict(self) -> str:
        """Whether the generator collapsed, and whether curvature announced it."""
        fallen = self.past.collapse
        if fallen is None:
            return "Nothing says how many modes are covered."
        text = fallen.told(self.past.total)
        with contextlib.suppress(Missing):
            told = [lead.told(f"the λmax of the {p}", name(MODES)) for p, lead in self.leads(MODES).items()]
            return f"{text[0].upper()}{text[1:]}. " + " ".join(f"{t[0].upper()}{t[1:]}." for t in told)
        return f"{text[0].upper()}{text[1:]}. Whether curvature announced it is not known yet ({self.command()})."


def _lead(first: Curve, second: Curve) -> LeadLag | None:
    finite = np.where(np.isfinite(second[1]), second[1], np.nan)
    return leading(first, (second[0], finite))

