"""Networks and their hardware searched together (after Jiang et al. 2019, arXiv 1907.04650), in small.

A child is a chain of linear layers; its hardware is a pipeline with one array of t x t multipliers a layer. A layer of
m inputs and n outputs takes ceil(m / t) ceil(n / t) cycles a sample, the pipeline as many as its slowest stage. A
controller (a table of probabilities a choice) samples children; at the fast level none is trained: the best hardware is
found exactly, children that no hardware makes fast enough are turned away, and the controller learns from the cost
alone. At the slow level the others are trained, and the controller learns from accuracy and cost (REINFORCE).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

WIDTHS = (8, 16, 32, 64)  # of a hidden layer
MOST_LAYERS = 3
TILES = (1, 2, 4, 8)  # t
MULTIPLY, READ, IDLE = 1.0, 2.0, 0.1  # energy of a multiplication, of reading a weight, and of a multiplier's cycle

Widths = tuple[int, ...]
Tiles = tuple[int, ...]
Hardware = TypeVar("Hardware")


@dataclass(frozen=True)
class Cost:
    """Of one sample through a pipeline."""

    cycles: int  # of the slowest stage: samples follow each other at this distance
    latency: int  # cycles from the first stage to the last
    area: int  # multipliers
    energy: float  # in multiplications
    use: float  # share of the multipliers' cycles that do work


def cost(widths: Sequence[int], tiles: Sequence[int]) -> Cost:
    """The analytic model; `widths` are those of all layers, inputs and outputs included.

    Raises:
        UsageError: not one tile a layer.
    """
    if len(tiles) != len(widths) - 1:
        raise UsageError(f"{len(widths) - 1} layers need as many tiles, got {len(tiles)}")
    shapes = list(itertools.pairwise(widths))
    stages = [-(-m // t) * -(-n // t) for (m, n), t in zip(shapes, tiles, strict=True)]
    area, work = sum(t * t for t in tiles), sum(m * n for m, n in shapes)
    cycles = max(stages)
    energy = (MULTIPLY + READ) * work + IDLE * area * cycles
    return Cost(cycles, sum(stages), area, energy, work / (area * cycles))


def best(found: Iterable[tuple[Hardware, Cost]]) -> tuple[Hardware, Cost] | None:
    """That of fewest cycles, then of least energy; of equals the smaller."""
    return min(found, key=_order, default=None)


def undominated(found: Iterable[tuple[Hardware, Cost]]) -> list[tuple[Hardware, Cost]]:
    """What no others beat in both cycles and energy, by cycles."""
    kept: list[tuple[Hardware, Cost]] = []
    for some, price in sorted(found, key=_order):
        if not kept or price.energy < kept[-1][1].energy:
            kept.append((some, price))
    return kept


def _order(pair: tuple[Any, Cost]) -> Any:
    return pair[1].cycles, pair[1].energy, pair[0]


def best_hardware(widths: Sequence[int], area: int, tiles: Iterable[int] = TILES) -> tuple[Tiles, Cost] | None:
    """The tiles of fewest cycles, then of least energy, within an area; None where none fits. Exact, by trying all."""
    return best(_within(widths, area, tiles))


def hardware_front(widths: Sequence[int], area: int, tiles: Iterable[int] = TILES) -> list[tuple[Tiles, Cost]]:
    """The tiles within an area that no others beat in both cycles and energy, by cycles."""
    return undominated(_within(widths, area, tiles))


def _within(widths: Sequence[int], area: int, tiles: Iterable[int]) -> Iterator[tuple[Tiles, Cost]]:
    for some in itertools.product(tuple(tiles), repeat=len(widths) - 1):
        price = cost(widths, some)
        if price.area <= area:
            yield some, price


@dataclass(frozen=True)
class Child:
    """One that the controller has sampled; `accuracy` is None for those that were never trained."""

    hidden: Widths
    tiles: Tiles | None  # None: no hardware fits
    cost: Cost | None
    accuracy: float | None = None


class Controller:
    """Independent choices (layers, and the width of each) with probabilities softmax(table); REINFORCE with a mean."""

    def __init__(self, seed: int, rate: float = 0.3) -> None:
        self._random, self.rate = np.random.default_rng(seed), rate
        self.tables = [np.zeros(MOST_LAYERS), *(np.zeros(len(WIDTHS)) for _ in range(MOST_LAYERS))]
        self._mean: float | None = None

    def sample(self) -> list[int]:
        """Numbers of the choices; of the widths those of the layers that there are."""
        layers = self._draw(0)
        return [layers, *(self._draw(k) for k in range(1, layers + 2))]

    def _draw(self, table: int) -> int:
        return int(self._random.choice(len(self.tables[table]), p=self.probabilities(table)))

    def probabilities(self, table: int) -> NDArray[np.float64]:
        exponential = np.exp(self.tables[table] - self.tables[table].max())
        found: NDArray[np.float64] = exponential / exponential.sum()
        return found

    def learn(self, choices: Sequence[int], reward: float) -> None:
        """table += rate (reward - mean reward) grad log probability."""
        mean = reward if self._mean is None else self._mean
        for table, choice in enumerate(choices):
            gradient = -self.probabilities(table)
            gradient[choice] += 1
            self.tables[table] += self.rate * (reward - mean) * gradient
        self._mean = 0.9 * mean + 0.1 * reward


def explore(
    accuracy: Callable[[Widths], float], inputs: int, outputs: int, *, most_cycles: int, area: int, trained: int,
    tiles: Sequence[int] = TILES, fast: int = 5, weight: float = 0.7, seed: int = 0,
) -> list[Child]:  # fmt: skip
    """All children that were sampled, in order: `fast` updates without a training before each of `trained` with one.

    Args:
        accuracy: trains a child of these hidden widths and measures it.
        most_cycles: the specification; a child that needs more on its best hardware is a violator.
        area: most multipliers.
        tiles: sizes to choose from; one of them alone is hardware that is fixed.
        weight: of the accuracy in the reward; the rest is 1 - cycles / most_cycles.
    """
    controller, found, done = Controller(seed), list[Child](), 0
    tries = 0
    while done < trained and tries < 200 * trained:
        tries += 1
        choices = controller.sample()
        hidden = tuple(WIDTHS[c] for c in choices[1:])
        hardware = best_hardware((inputs, *hidden, outputs), area, tiles)
        if hardware is None or hardware[1].cycles > most_cycles:
            found.append(Child(hidden, *(hardware or (None, None))))
            controller.learn(choices, -1.0)
            continue
        speed = 1 - hardware[1].cycles / most_cycles
        if tries % (fast + 1):
            found.append(Child(hidden, *hardware))
            controller.learn(choices, (1 - weight) * speed + weight * hardware[1].use)  # use: no accuracy is known
            continue
        measured = accuracy(hidden)
        done += 1
        found.append(Child(hidden, *hardware, measured))
        controller.learn(choices, weight * measured + (1 - weight) * speed)
    return found


class Built(Protocol):
    """A network on its hardware; `accuracy` is None where it was never trained."""

    @property
    def cost(self) -> Cost | None: ...
    @property
    def accuracy(self) -> float | None: ...


Network = TypeVar("Network", bound=Built)


def dominates(a: Built, b: Built) -> bool:
    """Whether a is at least as accurate and at least as cheap as b in cycles and energy."""
    assert a.cost and b.cost and a.accuracy is not None and b.accuracy is not None  # noqa: PT018
    return a.accuracy >= b.accuracy and a.cost.cycles <= b.cost.cycles and a.cost.energy <= b.cost.energy


def front(networks: Iterable[Network]) -> list[Network]:
    """Trained ones that no other dominates, by cycles; of equals the first."""
    known = list(dict.fromkeys(one for one in networks if one.accuracy is not None))
    kept: list[Network] = []
    for i, one in enumerate(known):
        others = [j for j, other in enumerate(known) if j != i and dominates(other, one)]
        if not any(not dominates(one, known[j]) or j < i for j in others):
            kept.append(one)
    return sorted(kept, key=lambda c: (c.cost.cycles if c.cost else 0, c.accuracy or 0.0))
