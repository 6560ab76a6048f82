"""Sums and scalings of operators: anything that multiplies a sharded block can be added and scaled, as can words.

    Curvature(problem, vector, comm, "hessian") + 0.1 * Curvature(problem, vector, comm, "gauss_newton")
    spectrum_at(problem, vector, comm, operator="hessian + 0.1*gauss_newton")
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..distributed.parallel import Comm
from ..errors import UsageError

_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*\*\s*)?([A-Za-z]\w*)\s*", re.I)


class Operator:
    """A symmetric operator (size, size) at fixed weights, applied to blocks of which each rank holds its rows.

    `vector` (size,) are the weights, `name` is what records call the operator, and no eigenvalue is below `lowest` as
    far as that is known beforehand.
    """

    lowest = -math.inf

    def __init__(self, name: str, vector: Tensor, comm: Comm) -> None:
        self.name, self.vector, self.comm = name, vector.detach(), comm
        self.size = len(vector)
        self.part = comm.part(self.size)

    def matvec(self, block: Tensor) -> Tensor:
        """Product with this rank's rows of a block: (part, b) -> (part, b), in the block's dtype."""
        raise NotImplementedError

    def on(self, problem: Any, vector: Tensor) -> Operator:
        """The same operator of another problem at `vector` (size,), on this rank alone; itself where it knows none."""
        return self

    def covector(self, part: Tensor) -> Tensor | None:
        """A gradient's rows (part,) in the coordinates of the operator's eigenvectors; None where there are none."""
        return part

    def forget(self) -> None:
        """Drop what is kept between products: the next one is computed from the model and the data again."""

    def reduce(self, matrix: Tensor) -> Tensor:
        """Sum of a small float64 matrix over ranks."""
        return self.comm.sum(matrix)

    def __add__(self, other: Operator) -> Operator:
        return Combination([(1.0, self), (1.0, other)])

    def __sub__(self, other: Operator) -> Operator:
        return Combination([(1.0, self), (-1.0, other)])

    def __mul__(self, factor: float) -> Operator:
        return Combination([(float(factor), self)])

    __rmul__ = __mul__

    def __neg__(self) -> Operator:
        return -1.0 * self


class Combination(Operator):
    """sum_i factor_i A_i of operators at the same weights.

    Raises:
        UsageError: operators of different sizes.
    """

    def __init__(self, terms: Sequence[tuple[float, Operator]]) -> None:
        self.terms = [(f * g, a) for f, operator in terms for g, a in _terms_of(operator)]
        first = self.terms[0][1]
        sizes = {a.size for _, a in self.terms}
        if len(sizes) > 1:
            raise UsageError(f"operators of different sizes cannot be added: {', '.join(map(str, sorted(sizes)))}")
        super().__init__(written([(f, a.name) for f, a in self.terms]), first.vector, first.comm)
        if all(f > 0 for f, _ in self.terms):
            self.lowest = sum(f * a.lowest for f, a in self.terms)

    def on(self, problem: Any, vector: Tensor) -> Operator:
        """The same sum of another problem, on this rank alone."""
        combined = Combination([(factor, operator.on(problem, vector)) for factor, operator in self.terms])
        combined.name = self.name
        return combined

    def covector(self, part: Tensor) -> Tensor | None:
        """The rows as they are, unless a term scales them: then terms have coordinates of their own."""
        return part if all(operator.covector(part) is part for _, operator in self.terms) else None

    def forget(self) -> None:
        for _, operator in self.terms:
            operator.forget()

    def matvec(self, block: Tensor) -> Tensor:
        total = torch.zeros_like(block, dtype=torch.float64)
        for factor, operator in self.terms:
            total.add_(operator.matvec(block), alpha=factor)
        return total.to(block.dtype)


def _terms_of(operator: Operator) -> list[tuple[float, Operator]]:
    return operator.terms if isinstance(operator, Combination) else [(1.0, operator)]


def read(text: str) -> list[tuple[float, str]]:
    """'hessian - 0.5*fisher' as [(1.0, 'hessian'), (-0.5, 'fisher')].

    Raises:
        UsageError: text that is no sum of names with factors.
    """
    terms: list[tuple[float, str]] = []
    place = 0
    while place < len(text) or not terms:
        found = _TERM.match(text, place)
        if found is None or (terms and not found[1]):
            raise UsageError(
                f"cannot read the operator '{text}': say a name such as hessian, or a sum of names with factors such "
                "as 'hessian - 0.5*gauss_newton'"
            )
        terms.append(((-1.0 if found[1] == "-" else 1.0) * float(found[2] or 1.0), found[3]))
        place = found.end()
    return terms


def written(terms: Sequence[tuple[float, str]]) -> str:
    """The sum as people write it; `read` reads it back."""
    out = ""
    for factor, name in terms:
        sign = "-" if factor < 0 else "+"
        out += f" {sign} " if out else sign.replace("+", "")
        out += name if abs(factor) == 1 else f"{abs(factor):g}*{name}"
    return out


def named(text: str, block: str = "") -> str:
    """How records call an operator, restricted to a block of weights or not: 'hessian[0.*]'."""
    terms = read(text)
    name = written(terms)
    if not block:
        return name
    return f"{name}[{block}]" if len(terms) == 1 and terms[0][0] == 1 else f"({name})[{block}]"
