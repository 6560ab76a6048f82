"""The jobs that a page can put together: a fixed list, each with typed fields; texts of a URL become argument lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landscape.errors import UsageError

from .reading import Reader

PLANES = ("pca", "eigen", "random")
OPERATORS = ("hessian", "gauss_newton", "fisher")
RANKS = 64


@dataclass(frozen=True)
class Field:
    """One setting: a whole number between `low` and `high`, one of `choices`, a switch, or another run of the store."""

    name: str
    label: str
    default: str
    kind: str = "choice"  # 'number', 'choice', 'switch', 'run'
    low: int = 1
    high: int = 1
    choices: tuple[str, ...] = ()

    def words(self, value: str, reader: Reader) -> list[str]:
        """The words of the command line.

        Raises:
            UsageError: not a value of this field.
            LandscapeError: no such run.
        """
        if self.kind == "number":
            if not (value.isascii() and value.isdecimal() and self.low <= int(value) <= self.high):
                raise UsageError(
                    f"{self.label} must be a whole number from {self.low} to {self.high}, got '{value[:40]}'"
                )
            return [f"--{self.name}", str(int(value))]
        if self.kind == "switch":
            if value not in ("yes", "no"):
                raise UsageError(f"{self.label} must be yes or no, got '{value[:40]}'")
            return [f"--{self.name}"] if value == "yes" else []
        if self.kind == "run":
            if not value:
                raise UsageError(f"choose {self.label}")
            return [str(reader.run(value).root)]
        if value not in self.choices:
            raise UsageError(f"{self.label} must be one of {', '.join(self.choices)}, got '{value[:40]}'")
        return [f"--{self.name}", value]


@dataclass(frozen=True)
class Offer:
    """A job with the fields that a page shows."""

    job: str
    about: str
    fields: tuple[Field, ...]
    file: tuple[str, str] | None = None  # field that names the kind of file it writes, and the file's name without it
    ranked: bool = True  # whether more than one rank helps


def _number(name: str, label: str, default: int, low: int, high: int) -> Field:
    return Field(name, label, str(default), "number", low, high)


def _choice(name: str, label: str, choices: tuple[str, ...]) -> Field:
    return Field(name, label, choices[0], choices=choices)


OFFERS = {
    offer.job: offer
    for offer in (
        Offer("spectrum", "density and extreme eigenvalues at every checkpoint", (
            _choice("operator", "operator", OPERATORS),
            _number("probes", "probes", 4, 1, 64),
            _number("iterations", "Lanczos iterations", 40, 5, 500),
            _number("top", "largest eigenpairs", 10, 0, 100),
        )),
        Offer("surface", "the loss on a plane", (
            _choice("plane", "plane", PLANES), _number("points", "points an axis", 31, 5, 201),
        )),
        Offer("trajectory", "the checkpoints on a plane", (_choice("plane", "plane", PLANES),)),
        Offer("volume", "the loss on three directions", (
            _choice("plane", "directions", PLANES), _number("points", "points an axis", 15, 5, 41),
        )),
        Offer("path", "the loss between two minima", (
            Field("other", "the other run", "", "run"),
            _number("points", "points", 21, 3, 201),
            Field("spectrum", "spectra along it", "yes", "switch"),
        )),
        Offer("video", "the path on the surface beside its spectrum", (
            _choice("view", "view", ("2d", "3d")),
            _number("seconds", "seconds", 8, 1, 60),
            _number("fps", "frames a second", 24, 5, 60),
            Field("dark", "dark", "no", "switch"),
            _choice("format", "format", ("mp4", "webm", "gif")),
        ), file=("format", "film"), ranked=False),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Order:
    """A validated job: the words after `landscape`, how many ranks, and the file it writes, if any."""

    job: str
    run_id: str
    words: tuple[str, ...]
    ranks: int
    file: str | None = None

    def placed(self, folder: str) -> Order:
        """The order with its file in a folder."""
        if self.file is None:
            return self
        return Order(self.job, self.run_id, (*self.words, "--out", f"{folder}/{self.file}"), self.ranks, self.file)


def order(reader: Reader, values: Mapping[str, str]) -> Order:
    """An order from texts: `job`, `run`, `ranks` and the job's own fields; what is not given has its default.

    Raises:
        UsageError: a job that is not offered, or a value that does not fit.
        LandscapeError: no such run.
    """
    offer = OFFERS.get(values.get("job") or "spectrum")
    if offer is None:
        raise UsageError(f"'{values.get('job', '')[:40]}' is not offered; the jobs are {', '.join(OFFERS)}")
    run_id = values.get("run", "")
    if not run_id:
        raise UsageError("choose a run")
    root = str(reader.run(run_id).root)
    ranks = values.get("ranks") or ("2" if offer.ranked else "1")
    Field("ranks", "ranks", ranks, "number", 1, RANKS if offer.ranked else 1).words(ranks, reader)
    places: list[str] = [root]
    options: list[str] = []
    for field in offer.fields:
        value = values.get(field.name) or field.default
        words = field.words(value, reader)
        if offer.file is None or field.name != offer.file[0]:
            (places if field.kind == "run" else options).extend(words)
    kind = offer.file and (
        values.get(offer.file[0]) or next(f.default for f in offer.fields if f.name == offer.file[0])
    )
    file = f"{offer.file[1]}.{kind}" if offer.file else None
    return Order(offer.job, run_id, (offer.job, *places, *options), int(ranks), file)


def names(reader: Reader) -> Sequence[str]:
    return [run_id for run_id, _run in reader.runs()]
