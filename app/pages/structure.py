"""Structure: what becomes zero during training, which groups die, and whether pruning follows curvature."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.records import Record, Saliency, Structure, structure_key

from .. import facts, shell
from ..axes import step_position
from ..cards import architectures, fronts, growths, low_rank, scales
from ..common import Scene, badge
from ..numbers import number
from ..plots import structure as plot
from ..reading import Reader
from ..style import move_cursor, redrawn
from ..view import Card, Kpi, Missing, Page, Place, href

NAME, ORDER = "Structure", 6


def match(parts: tuple[str, ...]) -> bool:
    return len(parts) == 3 and parts[0] == "run" and parts[2] == "structure"


def link(run: str | None, _page: Page | None = None) -> str | None:
    return href("run", run, "structure") if run else None


@dataclass(frozen=True, eq=False)
class Found:
    """The structure records of a run."""

    scene: Scene

    @functools.cached_property
    def structures(self) -> dict[int, Structure]:
        steps = self.scene.run.steps("structure", "weights")
        found = {s: self._read(structure_key(s)) for s in steps}
        return {s: r for s, r in found.items() if r and np.isfinite([r.share(r.small), r.share(r.zeros)]).all()}

    @functools.cached_property
    def saliencies(self) -> dict[int, Saliency]:
        """By step; of several operators that of the page's."""
        entries = [r for key in self.scene.run.keys("saliency") if (r := self._read(key))]
        return {r.step: r for r in sorted(entries, key=lambda r: r.operator == self.scene.operator)}

    def _read(self, key: str) -> Any:
        with contextlib.suppress(LandscapeError):
            return self.scene.reader.record(self.scene.run, key)
        return None

    def need(self) -> None:
        if not self.structures:
            raise Missing(
                "No structure of this run yet. Zeros, group norms and dead units of every checkpoint come from",
                self.scene.command("structure"),
            )

    def nearest(self, step: int) -> Structure:
        """The record of a step, or of the nearest step that has one.

        Raises:
            Missing: there is none.
        """
        self.need()
        return self.structures[min(self.structures, key=lambda s: (abs(s - step), s))]


def build(reader: Reader, place: Place) -> Page:
    scene = Scene.open(reader, place, place.parts[1])
    found = Found(scene)
    return Page(
        f"{badge(scene)}: structure",
        runs=[scene.run_id],
        run=scene.run_id,
        badge=badge(scene),
        slider=scene.slider,
        kpis=lambda i: kpis(found, scene.step(i)),
        tabs=tabs(scene, found),
        cards=[*fronts.cards(scene), *cells(scene), *growths.cards(scene),
               sparsity_card(found), norms_card(found), worth_card(found), against_card(found),
               *low_rank.cards(scene, found.structures, made), *scales.cards(scene)],
        after=growths.section(scene),
    )


def cells(scene: Scene) -> list[Card]:
    """The searched architecture, where there is one."""
    found = architectures.card(scene)
    return [found] if found is not None else []


def layer(scene: Scene, found: Found) -> int | None:
    """The layer of the URL; None: all of them."""
    names = last.layers if (last := next(reversed(found.structures.values()), None)) else []
    wanted = scene.place.query.get("layer", "")
    return names.index(wanted) if wanted in names else None


def tabs(scene: Scene, found: Found) -> list[Any]:
    def url(**changes: str) -> str:
        kept = {"x": "log" if scene.log else "", "layer": scene.place.query.get("layer", "")}
        return href("run", scene.run_id, "structure", **{**kept, **changes})

    rows = [shell.tabs("Steps", [("linear", url(x=""), not scene.log), ("log", url(x="log"), scene.log)])]
    names = next(reversed(found.structures.values())).layers if found.structures else []
    if 1 < len(names) <= 24:
        chosen = layer(scene, found)
        entries = [("all", url(layer=""), chosen is None)]
        entries += [(name, url(layer=name), chosen == n) for n, name in enumerate(names)]
        rows.append(shell.tabs("Layer", entries))
    return rows


# ------------------------------------------------------------------ key numbers


def kpis(found: Found, at: int) -> list[Kpi]:
    here = found.structures.get(at)
    if here is None:
        return fronts.kpis(found.scene) or [Kpi("Zero weights", "–", f"no structure at step {at:,}")]
    size, near = here.size, here.share(here.small)
    dead, groups = int(here.dead.sum()), len(here.dead)
    left = here.left
    sharpness = found.scene.curvature_at(at)
    return [
        Kpi("Step", f"{at:,}", f"{size:,} weights in {len(here.layers)} layers"),
        Kpi("Zero weights", f"{100 * here.share(here.zeros):.1f} %", "exact, in the optimizer's own read-out"),
        Kpi(f"Weights ≤ {small(here.tolerance)}", f"{100 * near:.1f} %", f"{round(near * size):,} of {size:,}"),
        Kpi("Dead groups", f"{dead:,}", f"of {groups:,}; all weights ≤ {small(here.threshold)}"),
        Kpi("Left after pruning", "–" if left is None else f"{left:,}",
            "the model could not be traced" if left is None else f"{size / max(left, 1):.2f} times smaller"),
        Kpi("Sharpness λmax", number(sharpness.sharpness, 4) if sharpness else "–",
            f"test accuracy {100 * accuracy:.1f} %" if np.isfinite(accuracy := found.scene.at(at, "test_accuracy"))
            else "no test accuracy at this step"),
    ]  # fmt: skip


# ------------------------------------------------------------------ cards


def sparsity_card(found: Found) -> Card:
    scene = found.scene

    def draw(i: int) -> Any:
        found.need()
        return plot.sparsity(list(found.structures.values()), selected=scene.step(i), log=scene.log, theme=scene.theme)

    def caption(_i: int) -> str:
        found.need()
        last = next(reversed(found.structures.values()))
        return (
            f"Weights within {small(last.tolerance)} of zero, or set to zero by the optimizer's own read-out, by "
            f"layer at {len(found.structures)} checkpoints. {made(last)}. Click selects."
        )

    def table(_i: int) -> dict[str, Any]:
        found.need()
        entries = list(found.structures.values())
        columns: dict[str, Any] = {"step": [s.step for s in entries]}
        for n, name in enumerate(entries[-1].layers):
            columns[f"share within {entries[-1].tolerance:g}, {name}"] = [s.small[n] for s in entries]
            columns[f"share exactly zero, {name}"] = [s.zeros[n] for s in entries]
        columns["weights left after pruning"] = [s.left for s in entries]
        return columns

    return Card(
        "sparsity-over", "Zero weights over training", draw, caption, table,
        move=lambda i: move_cursor(float(step_position([scene.step(i)], scene.log)[0])),
        about="Share of zero weights by layer against the optimizer step",
    )  # fmt: skip


def norms_card(found: Found) -> Card:
    scene = found.scene

    def here(i: int) -> Structure:
        return found.nearest(scene.step(i))

    def among() -> list[Structure]:
        return list(found.structures.values())

    def caption(i: int) -> str:
        removed = ", ".join(f"{count} of layer {name}" for name, count in here(i).removed.items()) or "none"
        return (
            f"A group is a row of a weight matrix: the weights into a neuron or filter. Open: dead, all of its weights "
            f"within {small(here(i).threshold)} (dashed). Units that pruning removes: {removed}. {made(here(i))}."
        )

    def table(i: int) -> dict[str, Any]:
        return {
            "layer": [here(i).layers[n] for n in here(i).group_layers], "norm [units of weight]": here(i).norms,
            "dead": here(i).dead,
        }  # fmt: skip

    looks: dict[str, Any] = {"layer": layer(scene, found), "theme": scene.theme}
    def title(i: int) -> str:
        return "Group norms" + (f" at step {here(i).step:,}" if found.structures else "")

    return Card("group-norms", title,
                lambda i: plot.norms(here(i), among(), **looks), caption, table,
                move=lambda i: plot.move_norms(here(i), among(), **looks),
                about="Norms of all groups, sorted within their layer")  # fmt: skip


def worth_card(found: Found) -> Card:
    scene = found.scene

    def nearest(i: int) -> Saliency:
        if not found.saliencies:
            raise Missing(
                "No diagonal of the Hessian yet. What each weight is worth at the last checkpoint comes from",
                scene.command("structure", "--saliency last"),
            )
        return found.saliencies[min(found.saliencies, key=lambda s: (abs(s - scene.step(i)), s))]

    def caption(i: int) -> str:
        here = nearest(i)
        if here.probes:
            unsure = float((np.abs(here.diagonal) < 2 * here.errors).mean())
            how = (f"H_ii by Hutchinson's estimator from {here.probes} random signs; {100 * unsure:.0f} % of the "
                   "points lie within two standard errors of zero")  # fmt: skip
        else:
            how = "H_ii exact, by unit vectors"
        some = "" if len(here.index) == here.size else f" of {len(here.index):,} of {here.size:,} weights, drawn by lot"
        return (
            f"At step {here.step:,}: what the loss gains without the weight, to second order{some}. {how}. "
            f"{order(here)} {made(here)}."
        )

    def table(i: int) -> dict[str, Any]:
        here = nearest(i)
        return {
            "weight": here.index, "layer": [here.layers[n] for n in here.point_layers],
            "w [units of weight]": here.values,
            "H_ii [loss per squared unit of weight]": here.diagonal, "standard error of H_ii": here.errors,
            "w^2 H_ii / 2 [loss]": here.worth, "pruned": here.pruned,
        }  # fmt: skip

    def draw(i: int) -> Any:
        return plot.worth(nearest(i), theme=scene.theme)

    def title(i: int) -> str:
        return "What weights are worth" + (f" at step {nearest(i).step:,}" if found.saliencies else "")

    return Card("worth", title, draw, caption, table,
                move=(lambda i: redrawn(draw(i))) if len(found.saliencies) > 1 else None,
                about="Size of every weight against its second-order saliency")  # fmt: skip


def order(found: Saliency) -> str:
    """Whether pruning follows curvature: how often a pruned weight is worth less than a kept one."""
    gone = found.pruned == 1
    if not gone.any() or gone.all():
        return "No weight of them is pruned." if not gone.any() else "All of them are pruned."
    value = np.abs(found.worth)
    ranks = np.argsort(np.argsort(value, kind="stable"), kind="stable")
    pairs = int(gone.sum()) * int((~gone).sum())
    below = ranks[~gone].sum() - (~gone).sum() * ((~gone).sum() - 1) / 2
    return f"A pruned weight is worth less than a kept one in {100 * float(below) / pairs:.0f} % of pairs."


def against_card(found: Found) -> Card:
    scene = found.scene

    def columns() -> tuple[list[int], Any, Any, Any]:
        found.need()
        steps = list(found.structures)
        share = np.array([100 * s.share(plot.zeros(s)) for s in found.structures.values()])
        sharpness = np.array([getattr(scene.curvature_at(s), "sharpness", np.nan) for s in steps])
        accuracy = np.array([scene.at(s, "test_accuracy") for s in steps])
        if not np.isfinite(sharpness).any() and not np.isfinite(accuracy).any():
            raise Missing("Neither spectra nor test accuracies of these checkpoints.", scene.command("spectrum"))
        return steps, share, sharpness, accuracy

    def draw(i: int) -> Any:
        steps, share, sharpness, accuracy = columns()
        return plot.against(share, steps, sharpness, accuracy, selected=scene.step(i), theme=scene.theme)

    def caption(_i: int) -> str:
        _steps, _share, sharpness, _accuracy = columns()
        known = int(np.isfinite(sharpness).sum())
        text = "Each point is a checkpoint, joined in the order of training; orange: the selected step"
        return text + (f". λmax at {known} of them" if known else f". For λmax: {scene.command('spectrum')}") + "."

    def table(_i: int) -> dict[str, Any]:
        steps, share, sharpness, accuracy = columns()
        return {"step": steps, "zero weights [%]": share, "sharpness [loss per squared unit of weight]": sharpness,
                "test accuracy": accuracy}  # fmt: skip

    return Card("against", "Sharpness and accuracy against sparsity", draw, caption, table,
                move=lambda i: plot.move_against(list(found.structures), scene.step(i), theme=scene.theme),
                about="Largest eigenvalue and test accuracy against the share of zero weights")  # fmt: skip


def small(value: float) -> str:
    """A tolerance as text: 1e−6."""
    return f"{value:g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}")


def made(record: Record) -> str:
    """The command that made a record, and how."""
    how = facts.evidence(record)
    return f"Made by {record.meta.get('command', 'an unknown command')}" + (f" ({how})" if how else "")
