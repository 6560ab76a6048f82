"""Errors that a user can act on: one clear sentence and an exit code.

Anything else that escapes a job is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

OK = 0
USAGE = 2
MODEL_OR_DATA = 3
RESOURCES = 4
ENVIRONMENT = 5
STOPPED = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on where it stopped


class LandscapeError(Exception):
    """Base: `str(error)` says what is wrong, where, and what to do."""

    exit_code = MODEL_OR_DATA
    everywhere = False  # whether every rank raises it by itself, so that none has to be stopped
    told_elsewhere = False  # whether another rank of the same group tells it and ends the job


class UsageError(LandscapeError):
    """The command line or an argument is wrong."""

    exit_code = USAGE


class ProblemError(LandscapeError):
    """The model, the data, a checkpoint or a run cannot be used."""

    exit_code = MODEL_OR_DATA


class Diverged(ProblemError):
    """A training whose loss is no longer finite; what was recorded before is kept."""


class ResourceError(LandscapeError):
    """Memory or disk does not suffice."""

    exit_code = RESOURCES


class EnvironmentProblem(LandscapeError):
    """The machine lacks something: an MPI library, a free port, a writable directory."""

    exit_code = ENVIRONMENT


class Stopped(LandscapeError):
    """A signal stopped the job; what is finished is safe and the same command goes on."""

    exit_code = STOPPED
