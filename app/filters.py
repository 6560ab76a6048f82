"""The runs table's search line: `optimizer=SGD lmax<5 mlp`; never an error, whatever is typed."""

from __future__ import annotations

import functools
import math
import operator
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TOKEN = re.compile(r"(\w+)(<=|>=|!=|==|=|<|>)(.+)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "!=": operator.ne,
}


def matches(row: Mapping[str, Any], text: str) -> bool:
    """Whether a row satisfies every word: `name=part`, `name==value`, `name<number`, or a part of any of its texts."""
    return all(_word(row, *word) for word in _words(text))


@functools.lru_cache(maxsize=64)
def _words(text: str) -> tuple[tuple[str, tuple[str, str, str] | None], ...]:
    """The words of a query in small letters, each with its name, sign and value where it has them."""
    found = []
    for word in text.split()[:20]:
        parts = _TOKEN.fullmatch(word)
        found.append((word.lower(), (parts[1].lower(), parts[2], parts[3]) if parts else None))
    return tuple(found)


def _word(row: Mapping[str, Any], word: str, condition: tuple[str, str, str] | None) -> bool:
    if condition and condition[0] in row:
        return _compare(row[condition[0]], *condition[1:])
    return any(word in value.lower() for value in row.values() if isinstance(value, str))


def _compare(have: Any, sign: str, wanted: str) -> bool:
    if sign == "==" and isinstance(have, str):
        return wanted.lower() == have.lower()
    sign = "=" if sign == "==" else sign
    if isinstance(have, str):
        same = wanted.lower() in have.lower()
        return same if sign == "=" else not same if sign == "!=" else False
    try:
        number = float(wanted.replace("−", "-"))
    except ValueError:
        return sign == "!="
    if have is None or not math.isfinite(have):
        return sign == "!="
    if sign in ("=", "!="):
        return math.isclose(have, number, rel_tol=1e-3, abs_tol=1e-12) == (sign == "=")
    return _COMPARE[sign](have, number)


def order(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Rows by a column; a leading minus is descending; missing values come last either way."""
    name = key.lstrip("-")
    known = [r for r in rows if name in r and not _missing(r[name])]
    rest = [r for r in rows if name not in r or _missing(r[name])]
    texts = any(isinstance(r[name], str) for r in known)
    known.sort(key=lambda r: str(r[name]).lower() if texts else r[name], reverse=key.startswith("-"))
    return known + rest


def grouped(rows: list[dict[str, Any]], by: str, numeric: Sequence[str]) -> list[dict[str, Any]]:
    """One row a value of a column: its number of runs, and median, smallest and largest of the numeric columns."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        value = row.get(by)
        groups.setdefault(
            "" if _missing(value) else f"{value:g}" if isinstance(value, float) else str(value), []
        ).append(row)
    found = []
    for value, members in groups.items():
        row = {"run": value or "–", "value": value, "count": len(members)}
        for name in numeric:
            known = [m[name] for m in members if not _missing(m[name])]
            row |= {name: statistics.median(known) if known else None}
            row |= {f"{name} from": min(known, default=None), f"{name} to": max(known, default=None)}
        found.append(row)
    return found


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
