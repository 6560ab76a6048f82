"""Which layer is sharp: cards of the diagonal blocks of an operator, one block a layer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import facts
from ..axes import step_position
from ..common import Scene
from ..numbers import number
from ..plots import layers as plot
from ..style import move_cursor
from ..view import Card, Missing

Array = NDArray[np.float64]
_BLOCK = re.compile(r"(?P<base>[^\[\]]+)\[(?P<layer>.+)\]")


@dataclass(frozen=True)
class Layers:
    """Blocks in the order of the model: sharpness and trace (layer, step), NaN where a block was not computed."""

    names: list[str]
    steps: NDArray[np.int64]
    sharpness: Array
    trace: Array
    norms: Array  # (layer, step) of the weights

    def nearest(self, step: int) -> int:
        """The place of the step nearest to one."""
        return int(np.abs(self.steps - step).argmin())


def layers(scene: Scene) -> Layers | None:
    """All blocks of the chosen operator, or of the one whose block is chosen; None without any."""
    chosen = _BLOCK.fullmatch(scene.operator)
    base = chosen["base"] if chosen else scene.operator
    found = []
    for operator in scene.operators:
        block = _BLOCK.fullmatch(operator)
        if block is None or block["base"] != base:
            continue
        series, pairs = scene.reader.series(scene.run, operator), scene.reader.eigenpairs(scene.run, operator)
        metas = {step: r.meta for records in (series.spectra, pairs) for step, r in records.items()}
        place = next((m["layer"] for m in metas.values() if isinstance(m.get("layer"), int)), None)
        found.append((place, _natural(block["layer"]), block["layer"], facts.over_training(series, pairs), metas))
    if any(f[0] is not None for f in found):  # other blocks overlap with the layers
        found = [f for f in found if f[0] is not None]
    found.sort(key=lambda f: (f[0] if f[0] is not None else 0, f[1]))
    steps = sorted({c.step for f in found for c in f[3]})
    if not steps:
        return None
    tables = {name: np.full((len(found), len(steps)), np.nan) for name in ("sharpness", "trace", "norms")}
    for row, (_place, _key, _name, curvature, metas) in enumerate(found):
        for c in curvature:
            column = steps.index(c.step)
            tables["sharpness"][row, column], tables["trace"][row, column] = c.sharpness, c.trace
            norm = metas.get(c.step, {}).get("weights_norm")
            tables["norms"][row, column] = norm if isinstance(norm, (int, float)) else np.nan
    return Layers([f[2] for f in found], np.array(steps), **tables)


def normalised(found: Layers, place: int = -1) -> float:
    """max over layers of lambda_max(block) |weights of the block|^2 at a step: what rescaling whole layers, alpha in
    one and 1/alpha in the next, does not change; NaN where it is not known."""
    values = found.sharpness[:, place] * found.norms[:, place] ** 2
    return float(np.max(values)) if len(values) and np.isfinite(values).all() else float("nan")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name) if part]


def cards(scene: Scene) -> list[Card]:
    def need() -> Layers:
        found = layers(scene)
        if found is None:
            raise Missing(
                "No spectra of single layers yet. Compute the block of every layer with one command:",
                scene.command("spectrum", "--per-layer --probes 2 --iterations 20 --top 3"),
            )
        return found

    def caption(i: int) -> str:
        found = need()
        at = found.nearest(scene.step(i))
        column = found.sharpness[:, at]
        if not np.isfinite(column).any():
            return "No block has eigenvalues here."
        best = int(np.nanargmax(column))
        text = (
            f"Largest eigenvalue of each layer's diagonal block of the Hessian. Sharpest at step {found.steps[at]:,}: "
            f"layer {found.names[best]} (λmax {number(float(column[best]), 4)})."
        )
        value = normalised(found, at)
        if np.isfinite(value):
            text += f" Unchanged by rescaling layers: max λmax·|θ|² = {number(value)}."
        return text

    def share_caption(i: int) -> str:
        found = need()
        at = found.nearest(scene.step(i))
        trace = found.trace[:, at]
        if not np.isfinite(trace).all() or not trace.sum() > 0:
            return f"Not every block has a trace at step {found.steps[at]:,}: that needs their densities."
        best = int(trace.argmax())
        return (
            f"Step {found.steps[at]:,}: {100 * trace[best] / trace.sum():.0f} % of the trace lies in layer "
            f"{found.names[best]}; "
            f"the blocks' estimated traces add up to {number(float(trace.sum()))}, the whole one."
        )

    def table(_i: int) -> dict[str, Any]:
        found = need()
        row, column = np.indices(found.sharpness.shape).reshape(2, -1)
        return {
            "layer": [found.names[r] for r in row],
            "step": found.steps[column],
            "largest eigenvalue of the block": found.sharpness.ravel(),
            "trace of the block": found.trace.ravel(),
            "norm of its weights": found.norms.ravel(),
        }

    def at(i: int) -> tuple[list[str], Array]:
        found = need()
        return found.names, found.trace[:, found.nearest(scene.step(i))]

    def draw(i: int) -> Any:
        found = need()
        return plot.figure(
            found.names, found.steps, found.sharpness, selected=scene.step(i), log=scene.log, theme=scene.theme
        )

    return [
        Card("layers-over", "Sharpness by layer", draw, caption, table,
             move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
             about="Heatmap of the largest eigenvalue of every layer's block against the optimizer step"),
        Card("layer-shares", "Trace by layer", lambda i: plot.shares(*at(i), theme=scene.theme), share_caption, table,
             move=lambda i: plot.move(*at(i)), about="Each layer's share of the trace at the selected step"),
    ]  # fmt: skip
