"""Align one network with another by weight matching: permute the units of B so that its weights come closest to A's.

    min over permutations of ||theta_A - pi(theta_B)||^2, one group of units after another, each exactly by the
    Hungarian method, until nothing changes (Ainsworth et al. 2023; Entezari et al. 2022)

The function of B stays as it is; `check_preserved` proves it in float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..errors import ProblemError
from ..loss.batches import tensors
from ..loss.problem import Problem
from .symmetries import Permutations, Symmetries

SWEEPS = 100  # of coordinate descent; it ends earlier, each step lowers a distance that has finitely many values


@dataclass(frozen=True)
class Alignment:
    """Permutations of B's units, and how much nearer to A they bring it."""

    permutations: Permutations
    before: float  # ||theta_A - theta_B||
    after: float  # ||theta_A - pi(theta_B)||

    @property
    def moved(self) -> int:
        """Units that changed their place."""
        return sum(int((p != torch.arange(len(p))).sum()) for p in self.permutations)

    @property
    def digest(self) -> str:
        """Fingerprint of the permutations."""
        content = b"".join(p.numpy().astype("<i8").tobytes() for p in self.permutations)
        return hashlib.sha256(content).hexdigest()[:16]


def align(
    symmetries: Symmetries, state_a: Mapping[str, Tensor], state_b: Mapping[str, Tensor], weights: Iterable[str],
    *, seeds: int = 5, seed: int = 0,
) -> Alignment:
    """The best of several descents: from a greedy start in the network's order, from identity, from random ones.

    Args:
        weights: names of the tensors that count; running statistics are permuted, but say nothing about distance.
        seeds: descents; each visits the groups in an order of its own, drawn from (seed, number).
    """
    a, b = ({n: state[n].detach().cpu().double() for n in weights} for state in (state_a, state_b))
    match = _Matching(symmetries, a, b)
    best, found = match.distance(symmetries.identity()), symmetries.identity()
    before = best
    for number in range(max(seeds, 1) if symmetries.sizes else 0):
        generator = np.random.default_rng([seed, number])
        start = (match.greedy(), symmetries.identity())[number] if number < 2 else [
            torch.from_numpy(generator.permutation(size)) for size in symmetries.sizes
        ]  # fmt: skip
        tried = match.descend(start, generator)
        distance = match.distance(tried)
        if distance < best:
            best, found = distance, tried
    return Alignment(found, before**0.5, best**0.5)


class _Matching:
    """Distances between A and permuted copies of B, and the assignment that lowers them for one group."""

    def __init__(self, symmetries: Symmetries, a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
        self.symmetries, self.a, self.b = symmetries, a, b
        self.tensors: list[list[str]] = [
            [n for n, factors in symmetries.factors.items() if n in a and any(g == group for _, g in factors)]
            for group in range(len(symmetries.sizes))
        ]

    def distance(self, permutations: Permutations) -> float:
        """||theta_A - pi(theta_B)||^2."""
        permuted = self.symmetries.permute(self.b, permutations)
        return float(sum(((self.a[n] - permuted[n]) ** 2).sum() for n in self.a))

    def gains(self, group: int, permutations: Permutations, names: Iterable[str]) -> Tensor:
        """(unit, unit): inner product that place i of A gains when unit j of B comes there, all else as it is."""
        size = self.symmetries.sizes[group]
        total = torch.zeros(size, size, dtype=torch.float64)
        for name in names:
            factors = self.symmetries.factors[name]
            for place in (d for d, (_size, g) in enumerate(factors) if g == group):
                ours, theirs = (self.symmetries.blocks(name, x[name]) for x in (self.a, self.b))
                for d, (_size, g) in enumerate(factors):
                    if g is not None and d != place:
                        theirs = theirs.index_select(d, permutations[g])
                total += ours.movedim(place, 0).reshape(size, -1) @ theirs.movedim(place, 0).reshape(size, -1).T
        return total

    def greedy(self) -> Permutations:
        """One pass in which each group sees only tensors whose other groups are settled: exact for a permuted copy."""
        permutations, settled, left = self.symmetries.identity(), set[int](), set(range(len(self.symmetries.sizes)))
        while left:
            known = {g: [n for n in self.tensors[g] if self._others(n, g) <= settled] for g in left}
            group = max(sorted(left), key=lambda g: len(known[g]) / max(len(self.tensors[g]), 1))
            permutations[group] = _assign(self.gains(group, permutations, known[group] or self.tensors[group]))
            settled.add(group)
            left.remove(group)
        return permutations

    def _others(self, name: str, group: int) -> set[int]:
        """Groups that must be known before a tensor can tell about `group`; itself where it has two axes of it."""
        groups = [g for _size, g in self.symmetries.factors[name] if g is not None]
        groups.remove(group)
        return set(groups)

    def descend(self, permutations: Permutations, generator: np.random.Generator) -> Permutations:
        """Coordinate descent, from groups in random order, until a whole sweep changes nothing."""
        permutations = list(permutations)
        now = self.distance(permutations)
        for _ in range(SWEEPS):
            changed = False
            for group in generator.permutation(len(permutations)).tolist():
                trial = list(permutations)
                trial[group] = _assign(self.gains(group, permutations, self.tensors[group]))
                then = self.distance(trial)  # two axes of one group in a tensor: the gains are only their first order
                if then < now * (1 - 1e-12):
                    permutations, now, changed = trial, then, True
            if not changed:
                break
        return permutations


def _assign(gains: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(gains.numpy(), maximize=True)[1])


def check_preserved(problem: Problem, state: Mapping[str, Tensor], permuted: Mapping[str, Tensor]) -> float:
    """Largest relative change of loss and outputs on the first batch, in float64, by a permutation of the weights.

    Raises:
        ProblemError: beyond rounding; then the graph was read wrongly and the permutation must not be used.
    """
    exact = problem.first_batch().to(dtype=torch.float64)
    found = []
    for weights in (state, permuted):
        exact.load(weights)
        with torch.no_grad():
            loss, outputs = exact.outcome(exact.vector_from(weights), exact.batches[0])
        found.append([loss, *tensors(outputs)])
    change = max(
        float((one - two).abs().max() / one.abs().max().clamp(min=1e-300)) if one.numel() else 0.0
        for one, two in zip(*found, strict=True)
    )
    if not change < 1e-8:
        raise ProblemError(
            f"the permutation changes the network's outputs by {change:.1e} of their size: its forward does something "
            "that its traced graph does not show; leave --align out for this model"
        )
    return change
