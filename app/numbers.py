"""Numbers as text: for people, for the ticks of an axis."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: `9.545`, `4.5e-7`, `1,500`, a true minus sign, or an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–" if value is None or math.isnan(value) else ("∞" if value > 0 else "\N{MINUS SIGN}∞")
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.{max(digits - 2, 1)}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def brief(value: float | None) -> str:
    """As `number`, without zeros at its end: a setting as it was typed, a count without decimals."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def moment(text: str) -> str:
    """A time of day as it is stored, for people: `2026-11-22 14:28:39 UTC`."""
    return text.replace("T", " ").replace("+00:00", " UTC")


_SUPER = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(exponent: int) -> str:
    """10 to an exponent in the ordinary font, so that no tick is larger than its neighbours."""
    return {0: "1", 1: "10"}.get(exponent, "10" + str(exponent).translate(_SUPER))


def plain(value: float) -> str:
    """A tick of an axis whose numbers are neither tiny nor huge."""
    return f"{value:,.10g}" if 1e-4 < value < 1e5 else scientific(value)


def scientific(value: float) -> str:
    """A tick as a power of ten, with a factor where there is one: `2·10⁻⁵`."""
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10.0**exponent
    if abs(mantissa - 1) < 1e-6:
        return power(exponent)
    return f"{mantissa:.10g}" if exponent == 0 else f"{mantissa:.10g}·{power(exponent)}"
