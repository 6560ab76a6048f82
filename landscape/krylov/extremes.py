"""The ends of a spectrum from a Krylov space, with residual bounds, and a check that none was missed.

A single start vector sees one copy of a multiple eigenvalue, and may be blind to an eigenvector by chance. So when the
wanted pairs have converged, a random vector is made orthogonal to all that has been multiplied and starts a recurrence
of its own there. What waits to be multiplied is not taken out of it: a missing eigenvector may lie in just that. An
eigenvector u that is still missing, of an eigenvalue above x, has a share (u.v)^2 of that vector v which exceeds
2 t^2 / n except with probability below t, while the recurrence's moments bound the share above x by the Christoffel
function 1 / sum p_i(x)^2. The search ends when the two leave a probability below 1 % (a rough search: up to 5 %); when
the recurrence finds something, it joins the space, and another vector checks again. Any multiplicity is counted in this
way. A search whose check had to end with more than 5 % has not converged.

Converged pairs stay in the space as deflated rows: they cost no product, and their residuals stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .gram_schmidt import Reduce
from .lanczos import BlockLanczos, Ritz

Array = NDArray[np.float64]
_CERTAIN = 0.01  # a check goes on until a wanted pair is missing with at most this probability
_CONTENT = 0.05  # up to this it counts as passed, and a rough search does not ask for more
_STEPS = 32  # products that any check may take


@dataclass(frozen=True)
class Extremes:
    """The wanted ends of the spectrum, each pair with its residual; vectors as rows of this rank's shard.

    Residuals include rounding: within `residuals` of each value lies an eigenvalue. `missed` bounds the probability
    that an eigenvalue beyond those found is not among them, None where no check was asked for; `converged` says that
    all residuals are as small as asked and that `missed`, if known, is at most 5 % or what was allowed.
    """

    values: Array  # (top,) descending
    residuals: Array
    lowest_values: Array  # (bottom,) ascending
    lowest_residuals: Array
    vectors: Tensor  # (top + bottom, part)
    converged: bool
    matvecs: int
    missed: float | None = 0.0


@dataclass
class Search:
    """Where a search stands beside its Krylov space: enough to go on with it after a restart of the job."""

    draws: int = 0  # random vectors used
    check: int = -1  # first row of the running check's recurrence; -1 when none runs
    began: int = 0  # products before it
    converged: bool = False
    missed: float = 1.0


def extremes(
    space: BlockLanczos,
    top: int,
    bottom: int,
    tolerance: float,
    max_matvecs: int,
    fresh: Callable[[int], Tensor],
    size: int,
    on_block: Callable[[Search], None] = lambda search: None,
    search: Search | None = None,
    allowed: float | None = None,
    lowest: float = -np.inf,
) -> Extremes:
    """Go on with a Krylov space until its `top` largest and `bottom` smallest Ritz pairs have converged; check them.

    A pair has converged when its residual is at most tolerance * norm(A).

    Args:
        fresh: the random vector (part, 1) of a number.
        size: dimension of the operator.
        on_block: called after every block product.
        search: where to go on.
        allowed: probability to miss a pair with which the search may end; by default 1 %, of a rough search up to 5 %.
            With 1 or more nothing is checked.
        lowest: no eigenvalue is below it, so that none is missing below a pair that comes near it.
    """
    goal = float(np.clip(50 * tolerance, _CERTAIN, _CONTENT)) if allowed is None else allowed
    search = Search() if search is None else search
    top, bottom = min(top, size), min(bottom, size - min(top, size))
    while space.filled < size and top + bottom:
        if space.filled:
            ritz = space.ritz()
            bound = tolerance * space.scale
            search.converged = space.filled >= top + bottom and _converged(ritz, top, bottom, bound)
            if search.converged and goal >= 1:
                break
            if search.check >= 0:
                found, search.missed = _missed(space, search, ritz, top, bottom, bound, size, lowest)
                if found or not search.converged:  # what it has found joins, and another vector is to check
                    search.check, search.missed = -1, 1.0
                elif search.missed <= goal or not _goes_on(space, search):
                    break
        if space.matvecs >= max_matvecs:
            break
        _step(space, search, fresh, top, bottom, tolerance, size)
        on_block(search)
    if space.filled >= size or not top + bottom:
        search.converged, search.missed = True, 0.0
    return _result(space, search, top, bottom, goal)


def _step(
    space: BlockLanczos, search: Search, fresh: Callable[[int], Tensor], top: int, bottom: int, tolerance: float,
    size: int,
) -> None:  # fmt: skip
    """One block product: of the check, or of what the pairs that have not converged need."""
    if search.check < 0 and (search.converged or not space.ahead):
        if search.converged:
            _make_room_for_check(space, top, bottom, size)
            space.lead(fresh(search.draws))
            search.draws += 1
            search.check, search.began = space.filled, space.matvecs
        else:
            wanted = min(space.block, size - space.filled)
            _make_room(space, 2 * wanted, top, bottom)
            for _ in range(wanted):
                space.widen(fresh(search.draws))
                search.draws += 1
    if not space.ahead:  # nothing is left outside the space
        raise RuntimeError("a Krylov space lost rank")
    if search.check >= 0:
        if space.filled > search.check:
            space.turn(space.coupling[:, -1])  # the recurrence's next vector
        chosen = np.array([space.ahead - 1])
    elif space.filled:
        if not space.fits(space.ahead):
            _make_room(space, space.ahead, top, bottom)
        chosen = _useful(space, top, bottom, tolerance)
    else:
        chosen = np.arange(space.ahead)
    space.expand(chosen)


def _make_room(space: BlockLanczos, rows: int, top: int, bottom: int) -> None:
    if not space.fits(rows):
        ritz = space.ritz()
        space.restart(ritz, _kept(len(ritz.values), top, bottom, len(space.basis) - space.ahead - rows, space.block))


def _make_room_for_check(space: BlockLanczos, top: int, bottom: int, size: int) -> None:
    """Forget only what says least, so that a check needs no restart: all that stays known shortens it."""
    if space.fits(min(_STEPS + 2, size - space.filled - space.ahead)):
        return
    room = len(space.basis) - space.ahead - 2
    filled = max(room - _STEPS, room // 2)
    if space.filled > filled:
        ritz = space.ritz()
        m = len(ritz.values)
        wanted = np.concatenate([np.arange(bottom), np.arange(m - top, m)])
        order = np.argsort(-np.abs(ritz.values))
        order = np.concatenate([wanted, order[~np.isin(order, wanted)]])
        space.restart(ritz, np.sort(order[: max(filled, len(wanted))]))


def _useful(space: BlockLanczos, top: int, bottom: int, tolerance: float) -> NDArray[np.intp]:
    """The waiting rows that the residuals of the pairs that have not converged consist of."""
    ritz = space.ritz()
    m = len(ritz.values)
    wanted = np.concatenate([np.arange(max(m - top - 2, 0), m), np.arange(min(bottom, m))])
    open_pairs = wanted[ritz.residuals[wanted] > tolerance * space.scale]
    if not len(open_pairs):
        return np.arange(space.ahead)
    parts = np.linalg.norm(space.coupling @ ritz.vectors[:, open_pairs], axis=1)
    return np.flatnonzero(parts >= 0.1 * parts.max())


def _converged(ritz: Ritz, top: int, bottom: int, bound: float) -> bool:
    r = ritz.residuals
    wanted = np.concatenate([r[len(r) - top :], r[:bottom]])
    return bool((wanted <= bound).all())


def _kept(m: int, top: int, bottom: int, limit: int, block: int) -> NDArray[np.intp]:
    """Indices of the Ritz vectors that survive a restart: the wanted ones and a generous surplus at both ends."""
    limit = max(min(limit, m - 1), min(top + bottom, m))
    high = min(top + max(top // 2, 2 * block), limit - bottom)
    low = min(bottom + block, limit - high) if bottom else 0
    return np.concatenate([np.arange(low), np.arange(m - high, m)])


# ---------------------------------------------------------------------- the check


def _missed(
    space: BlockLanczos, search: Search, ritz: Ritz, top: int, bottom: int, bound: float, size: int, lowest: float
) -> tuple[bool, float]:
    """Whether the check has found a wanted eigenvalue; the probability at most that there is another beyond them."""
    rows = slice(search.check, space.filled)
    square = space.projected[rows, rows]  # tridiagonal, the operator on what was unknown when the check began
    ahead = float(np.linalg.norm(space.coupling[:, -1])) if space.ahead else 0.0
    seen, left = np.linalg.eigvalsh(square), size - search.check
    found, total = False, 0.0
    if top:
        found |= bool(seen[-1] > ritz.values[-top] + bound)
        total += _share(square, ahead, ritz.values[-top] + bound, left)
    if bottom and ritz.values[bottom - 1] - bound > lowest:
        found |= bool(seen[0] < ritz.values[bottom - 1] - bound)
        total += _share(-square, ahead, -ritz.values[bottom - 1] + bound, left)
    return found, total


def _share(square: Array, ahead: float, x: float, left: int) -> float:
    """Probability that an eigenvector of an eigenvalue >= x has too small a part of the start to be seen there."""
    if not ahead:
        return 0.0  # invariant: a random vector has a part of every eigenvector, and none is beyond x
    alpha, beta = np.diag(square), np.append(np.abs(np.diag(square, 1)), ahead)
    before, now, total = 0.0, 1.0, 1.0
    for k, (a, b) in enumerate(zip(alpha, beta, strict=True)):
        before, now = now, ((x - a) * now - (beta[k - 1] * before if k else 0.0)) / b
        total += now * now
    return float(min(1.0, np.sqrt(2 * left / (np.pi * total))))


def _goes_on(space: BlockLanczos, search: Search) -> bool:
    """A check may cost so many products or a quarter of the search, and no restart."""
    spent = space.matvecs - search.began
    return space.ahead > 0 and space.fits(1) and spent < max(_STEPS, search.began // 4)


# ---------------------------------------------------------------------- the result


def _result(space: BlockLanczos, search: Search, top: int, bottom: int, goal: float) -> Extremes:
    if not space.filled:
        space.expand()
    ritz = space.ritz()
    m = len(ritz.values)
    highest = np.arange(m - 1, max(m - 1 - top, -1), -1)
    lowest = np.arange(min(bottom, max(m - top, 0)))
    chosen = np.concatenate([highest, lowest])
    # Of the products in working precision, and of the projected matrix in float64.
    rounding = 4 * torch.finfo(space.basis.dtype).eps + np.sqrt(m) * np.finfo(np.float64).eps
    residuals = ritz.residuals + rounding * space.scale
    return Extremes(
        ritz.values[highest], residuals[highest], ritz.values[lowest], residuals[lowest],
        _signed(space.ritz_vectors(ritz.vectors[:, chosen]), space.reduce),
        search.converged and search.missed <= max(_CONTENT, goal), space.matvecs,
        search.missed if search.missed < 1 or goal < 1 else None,
    )  # fmt: skip


def _signed(vectors: Tensor, reduce: Reduce) -> Tensor:
    """Each row's sign chosen so that the sum of its cubes is positive: the same on any number of ranks."""
    if not len(vectors):
        return vectors
    cubes = reduce(torch.stack([row.double().pow(3).sum() for row in vectors]))
    return vectors.mul_(torch.where(cubes < 0, -1.0, 1.0).to(vectors.dtype)[:, None])
