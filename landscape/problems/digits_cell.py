"""Architecture search in small: a network of cells on the digits, every edge the sum of its candidate operations.

`landscape derive` reads the architecture off a run of it, and the setting `genotype` builds what was found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ProblemError, UsageError
from ..loss.problem import Problem
from ._cell import OPERATIONS, CellNetwork, Style, plans_of, whole
from ._data import digits
from ._layers import set_seed

FORMS = ("search", "scaled", "final")
Genotype = dict[str, list[list[Any]]]


def build(
    cells: int = 2,
    reduce: int = 0,
    nodes: int = 2,
    channels: int = 8,
    operations: str | list[str] = "none,skip,maxpool,conv3,dil3",
    genotype: str | Genotype | None = None,
    form: str = "search",
    seed: int | None = None,
    batch_size: int = 256,
) -> Problem:
    """A stem of stride 2, cells, the mean over the image and a linear layer with cross-entropy.

    A cell has two inputs (what the two cells before it gave) and `nodes` nodes, each of which sums over all places
    before it, and over all operations on those edges. The operation of an edge is shared by all cells of one kind.

    Args:
        cells: in all.
        reduce: how many of them halve the image, evenly spread.
        nodes: of every cell.
        channels: of every node.
        operations: the candidates on every edge, of none, skip, maxpool, avgpool, conv1, conv3, conv5, dil3, dil5.
        genotype: an architecture in place of all candidates: {"normal": [[source, target, operation], ...]}, or the
            name of a JSON file that holds one.
        form: 'search': a learnable scale for operations without weights, normalisation without weights; 'scaled': a
            scale for convolutions too, without which the size of their weights changes nothing; 'final': no scales,
            and weights in the normalisation.
        seed: of the initial weights; None takes them from torch's generator, which `landscape train --seed` sets.
        batch_size: samples a batch of the curvature jobs; it changes no number.
    """
    names = tuple(operations.split(",") if isinstance(operations, str) else operations)
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown or not names:
        raise UsageError(f"unknown operation '{', '.join(unknown)}'; the choices are {', '.join(OPERATIONS)}")
    if min(cells, nodes, channels) < 1 or not 0 <= reduce < max(cells, 1) or form not in FORMS:
        raise UsageError(
            f"cells, nodes and channels must be at least 1, reduce less than cells and form one of "
            f"{', '.join(FORMS)}, got "
            f"{cells}, {nodes}, {channels}, {reduce} and '{form}'"
        )
    halving = {(i + 1) * cells // (reduce + 1) for i in range(reduce)}  # with two: a third and two thirds of the way
    kinds = tuple("reduce" if i in halving else "normal" for i in range(cells))
    known = whole(kinds, nodes, names) if genotype is None else _read(genotype)
    missing = [kind for kind in kinds if kind not in known]
    if missing:
        raise UsageError(f"the genotype has no '{missing[0]}' cell; it has {', '.join(known) or 'none'}")
    set_seed(seed)
    style = Style(channels, form != "final", form == "scaled")
    model = CellNetwork(kinds, plans_of(known, nodes), nodes, style)
    (inputs, targets), test = digits(0.2, 0)
    train, held_out = (inputs.view(-1, 1, 8, 8), targets), test and (test[0].view(-1, 1, 8, 8), test[1])
    return Problem(model, nn.functional.cross_entropy, train, batch_size=batch_size, test_data=held_out,
                   name="digits_cell")  # fmt: skip


def _read(genotype: str | Genotype) -> Genotype:
    if not isinstance(genotype, str):
        return genotype
    try:
        found: Genotype = json.loads(Path(genotype).read_text(encoding="utf-8"))["genotype"]
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProblemError(
            f"'{genotype}' is no file with a genotype ({type(error).__name__}); `landscape derive` writes one"
        ) from error
