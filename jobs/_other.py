"""A job that runs other jobs on its own ranks, by their names and the words of their command lines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any

from landscape import plugins

JOBS = "landscape.jobs"


def run(job: str, words: Iterable[Any], comm: Any) -> None:
    """Another job on ranks that run already; what it has finished before it skips itself."""
    module = plugins.load(JOBS, job)
    parser = argparse.ArgumentParser(prog=f"landscape {job}")
    module.add_arguments(parser)
    module.run(parser.parse_args([str(word) for word in words]), comm)


def given(args: argparse.Namespace, *names: str) -> list[Any]:
    """The words of those options that were given."""
    found = [(f"--{n.replace('_', '-')}", getattr(args, n)) for n in names if getattr(args, n) is not None]
    return [word for pair in found for word in pair]


def settings(option: str, chosen: Mapping[str, Any]) -> list[str]:
    """The words `option NAME=VALUE` of every setting."""
    return [word for key, value in chosen.items() for word in (option, f"{key}={json.dumps(value)}")]
