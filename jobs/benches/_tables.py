"""Tables of a benchmark: printed row by row, written as one section of a Markdown file. No torch."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape import evidence

Row = Sequence[Any]


@dataclass
class Table:
    """A title, columns by name with the format of their numbers, and rows that may still have to be computed.

    A cell is a number, a text, or None where there is nothing to say.
    """

    title: str
    columns: Mapping[str, str]
    rows: Iterable[Row]
    note: str = ""

    def records(self) -> list[dict[str, Any]]:
        """The rows, computed, each by column name."""
        self.rows = [tuple(row) for row in self.rows]
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def lines(self) -> Iterator[str]:
        """Markdown, line by line as the rows are computed."""
        yield f"**{self.title}**"
        yield ""
        yield _line(self.columns)
        yield "|" + "|".join("---:" if spec else "---" for spec in self.columns.values()) + "|"
        kept = []
        for row in self.rows:
            kept.append(tuple(row))
            yield _line(_cell(value, spec) for value, spec in zip(row, self.columns.values(), strict=True))
        self.rows = kept
        if self.note:
            yield ""
            yield self.note
        yield ""


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any, spec: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return str(value).replace("|", "/") if isinstance(value, str) else format(value, spec)


class Section:
    """One benchmark's part of a Markdown file: what is said goes to `speak` at once and into the file at the end."""

    def __init__(self, name: str, about: str, speak: Callable[[str], None]) -> None:
        self.name, self.speak = name, speak
        self._lines = [f"## {name}", "", about, "", f"*{provenance()}*", ""]
        for line in self._lines:
            speak(line)

    def add(self, table: Table) -> None:
        """Compute and say a table."""
        for line in table.lines():
            self._lines.append(line)
            self.speak(line)

    def write(self, path: Path) -> None:
        """Put the section in place of the last one of its name, or at the end; the file appears whole or not at all."""
        opening, closing = f"<!-- bench {self.name} -->", f"<!-- end of {self.name} -->"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        section = "\n".join([opening, *self._lines]).rstrip() + f"\n{closing}\n"
        old = re.compile(re.escape(opening) + ".*?" + re.escape(closing) + "\n", re.DOTALL)
        if old.search(text):
            text = old.sub(lambda _: section, text, count=1)
        else:
            text = f"{text.rstrip()}\n\n{section}" if text.strip() else section
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def provenance() -> str:
    """Date, processor, cores, load, versions, commit and command of what is measured now."""
    versions = ", ".join(f"{name} {version}" for name, version in evidence.versions().items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    commit = evidence.commit()
    at = f", commit {commit[:10]}{'+' if commit.endswith('+') else ''}" if commit else ""
    return f"{evidence.now()} on {processor()}, {cores} cores{load}; {versions}{at}; `{evidence.command()}`"


def processor() -> str:
    """The processor's model, as the system calls it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
