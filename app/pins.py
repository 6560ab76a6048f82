"""A pinned step beside the selected one: key numbers with their differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from .common import Scene
from .numbers import number
from .view import Kpi, Slider


def slider(scene: Scene) -> Slider:
    """The scene's slider on a page that shows the pinned step."""
    return dataclasses.replace(scene.slider, pins=True)


def compared(scene: Scene, kpis: Callable[[int], Sequence[Kpi]]) -> Callable[[int], Sequence[Kpi]]:
    """Key numbers of a page, each with its difference from the pinned step's where both are known."""

    def both(index: int) -> Sequence[Kpi]:
        pin = scene.pin
        if pin is None or pin == index:
            return kpis(index)
        name = f"{scene.step(pin):,}"
        return [_joined(now, then, name) for now, then in zip(kpis(index), kpis(pin), strict=True)]

    return both


def _joined(now: Kpi, then: Kpi, step: str) -> Kpi:
    if now.amount is None or then.amount is None or not math.isfinite(now.amount - then.amount):
        return now
    return dataclasses.replace(now, change=f"{signed(now.amount - then.amount)} against step {step}")


def signed(value: float) -> str:
    """'+0.12', '−3' or '±0'."""
    return "±0" if value == 0 else ("+" if value > 0 else "") + number(value)
