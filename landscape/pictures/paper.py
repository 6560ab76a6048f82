"""Paper figures of a run by name, written as PDF, SVG or PNG; each is a file of landscape/pictures/figures/. No torch.

    plate = paper.make(run, "surface", Choice(plane="pca"), Sheet.of("column"))
    paper.save(plate, "surface.pdf")
"""

from __future__ import annotations

import os
from pathlib import Path

from .. import plugins
from ..errors import UsageError
from ..records import Path as PathRecord
from .encoding import publishing
from .figures._sheet import SHEETS, Choice, Plate, Sheet
from .scene import Readable

__all__ = ["SHEETS", "SUFFIXES", "Choice", "Plate", "Sheet", "make", "names", "path_of", "save"]
FIGURES = "landscape.pictures.figures"
SUFFIXES = (".pdf", ".svg", ".png")


def names() -> list[str]:
    """The figures there are."""
    return plugins.names(FIGURES)


def make(run: Readable, name: str, choice: Choice | None = None, sheet: Sheet | None = None) -> Plate:
    """A figure of a run's records with its caption.

    Raises:
        UsageError: there is no such figure.
        ProblemError: a record is missing; the message holds the command that makes it.
    """
    if name not in names():
        raise UsageError(f"there is no figure '{name}'; the choices are {', '.join(names())}")
    plate: Plate = plugins.load(FIGURES, name).make(run, choice or Choice(), sheet or Sheet.of("text"))
    return plate


def path_of(run: Readable, name: str | None = None) -> PathRecord:
    """A run's path to another, by its key or the other run's name; without a name the first.

    Raises:
        ProblemError: there is none; the message holds the command that makes it.
    """
    path: PathRecord = plugins.load(FIGURES, "path").chosen(run, Choice(path=name))
    return path


def save(plate: Plate, out: str | os.PathLike[str]) -> Path:
    """Write a figure as PDF, SVG or PNG, whole or not at all; its caption goes into the file's description.

    Raises:
        UsageError: another extension.
        EnvironmentProblem: the directory is not writable.
    """
    target = Path(out)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"'{out}' must end in {', '.join(SUFFIXES)}: the extension decides the format")
    fields = {".pdf": ("Subject", "CreationDate"), ".svg": ("Description", "Date"), ".png": ("Description", None)}
    field, date = fields[suffix]
    about: dict[str, str | None] = {field: plate.caption} | ({date: None} if date else {})  # no date: equal bytes again
    with publishing(target) as part:
        plate.figure.savefig(part, metadata=about, dpi=plate.dpi)
    return target
