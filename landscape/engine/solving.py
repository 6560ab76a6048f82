"""Krylov spaces of an operator at one checkpoint, the results so far, and the state to go on with both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..krylov import probes as probes_module
from ..krylov.extremes import Extremes, Search, extremes
from ..krylov.lanczos import BlockLanczos
from .combination import Operator
from .saving import Keeper, State, Stored

Array = NDArray[np.float64]
Rule = tuple[Array, Array, Array]  # nodes (m,), signed components of the probes (b, m), residuals (m,)
_PAIRS = ("values", "residuals", "lowest_values", "lowest_residuals")


def digest(vector: Tensor) -> str:
    """A hash of weights, by which a saved state knows them again."""
    return hashlib.sha256(vector.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


class Solving:
    """Densities and eigenpairs of one operator, block step by block step; `fits` says what decides their numbers.

    `spent` counts products, `resumed` those of them that an earlier start of the job has made.
    """

    def __init__(
        self, curvature: Operator, seed: int, keeper: Keeper, fits: Mapping[str, Any],
        on_matvecs: Callable[[int], None], spent: int,
    ) -> None:  # fmt: skip
        self.curvature, self.seed, self.keeper, self.on_matvecs = curvature, seed, keeper, on_matvecs
        self.fits = {
            "operator": curvature.name, "size": curvature.size, "seed": seed, "weights": digest(curvature.vector),
            "dtype": str(curvature.vector.dtype),
            "settings": json.dumps(dict(keeper.settings), sort_keys=True, default=str),
            **fits,
        }  # fmt: skip
        self.rules: list[Rule] = []
        self.pairs: Extremes | None = None
        self.space: BlockLanczos | None = None
        self.search = Search()
        self.spent = spent  # in the spaces that are finished
        self.resumed = 0
        self._found: Stored | None = keeper.load(self.fits)
        if self._found is not None:
            self._read(self._found)

    # ------------------------------------------------------------------ steps

    def begin(self, start: Callable[[], Tensor], capacity: int) -> BlockLanczos:
        """The space that was saved, or a new one on the start block (part, b)."""
        like, reduce = self.curvature.vector[self.curvature.part], self.curvature.reduce
        if self._found is not None and "space" in self._found.numbers:
            found, self._found = self._found, None
            arrays = {name: found.arrays[f"space/{name}"] for name in ("projected", "coupling")}
            self.space = BlockLanczos.resumed(
                self.curvature.matvec, capacity, reduce, found.numbers["space"], arrays,
                lambda rows: self._fill(found, "basis", rows), like,
            )  # fmt: skip
        else:
            self.search = Search()
            self.space = BlockLanczos(self.curvature.matvec, start().to(like), capacity, reduce)
        return self.space

    def rule(self, iterations: int) -> None:
        """Run the recurrence for the density; ends early when the space is invariant (the rule is then exact)."""
        space = self.space
        assert space is not None
        while space.filled < iterations * space.block and space.ahead and space.room:
            space.expand()
            self._step()
        ritz = space.ritz()
        self.rules.append((ritz.values, space.start_components(ritz), ritz.residuals))

    def extremes(
        self, top: int, bottom: int, tolerance: float, max_matvecs: int, allowed: float | None = None
    ) -> None:
        """Go on until the wanted pairs have converged and one is missing with no more than an `allowed` probability."""
        assert self.space is not None
        self.pairs = extremes(
            self.space, top, bottom, tolerance, max_matvecs, self._fresh, self.curvature.size, self._step, self.search,
            allowed, self.curvature.lowest,
        )  # fmt: skip

    def end(self) -> None:
        """The space is done with: its memory goes back."""
        assert self.space is not None
        self.spent += self.space.matvecs
        self.space = None

    def _fresh(self, number: int) -> Tensor:
        """A random vector (part, 1) beyond the numbered probes."""
        index = 2**30 + number
        drawn = probes_module.probe(index, self.curvature.size, self.seed, self.curvature.part)
        return drawn.to(self.curvature.vector)[:, None]

    def _step(self, search: Search | None = None) -> None:
        assert self.space is not None
        self.on_matvecs(self.spent + self.space.matvecs)
        self.keeper.boundary(self.state)

    # ------------------------------------------------------------------ state

    def state(self) -> State:
        """Everything needed to go on from here."""
        numbers: dict[str, Any] = {"fits": self.fits, "spent": self.spent, "search": dataclasses.asdict(self.search)}
        arrays: dict[str, NDArray[Any]] = {}
        shards: dict[str, NDArray[Any]] = {}
        for i, rule in enumerate(self.rules):
            arrays |= {f"rules/{i}/{k}": array for k, array in enumerate(rule)}
        if self.pairs is not None:
            arrays |= {f"pairs/{name}": getattr(self.pairs, name) for name in _PAIRS}
            numbers["pairs"] = {name: getattr(self.pairs, name) for name in ("converged", "matvecs", "missed")}
            shards["vectors"] = self.pairs.vectors.cpu().numpy()
        if self.space is not None:
            space = self.space.state()
            numbers["space"] = space.numbers
            arrays |= {f"space/{name}": array for name, array in space.arrays.items()}
            shards["basis"] = space.rows.cpu().numpy()
        done = self.spent + (self.space.matvecs if self.space is not None else 0)
        told = f"step {self.fits['step']} after {done} products"
        return State(numbers, arrays, shards, self.curvature.part, told)

    def _read(self, found: Stored) -> None:
        numbers, arrays = found.numbers, found.arrays
        count = len({name.split("/")[1] for name in arrays if name.startswith("rules/")})
        self.rules = [
            (arrays[f"rules/{i}/0"], arrays[f"rules/{i}/1"], arrays[f"rules/{i}/2"]) for i in range(count)
        ]
        self.search = Search(**numbers["search"])
        if "pairs" in numbers:
            k = len(arrays["pairs/values"]) + len(arrays["pairs/lowest_values"])
            like = self.curvature.vector[self.curvature.part]
            vectors = like.new_empty((k, len(like)))
            self._fill(found, "vectors", vectors)
            high, above, low, below = (arrays[f"pairs/{name}"] for name in _PAIRS)
            self.pairs = Extremes(high, above, low, below, vectors, **numbers["pairs"])
        self.resumed = int(numbers["spent"]) + int(numbers.get("space", {}).get("matvecs", 0))
        self.spent += int(numbers["spent"])

    def _fill(self, found: Stored, name: str, rows: Tensor) -> None:
        with self.curvature.comm.together():
            host = rows if rows.device.type == "cpu" else torch.empty_like(rows, device="cpu")
            found.fill(name, host.numpy(), self.curvature.part)
            if host is not rows:
                rows.copy_(host)
