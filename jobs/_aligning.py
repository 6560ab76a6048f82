"""A network's units in the order of another's: what `path --align` and `surface --plane minima --align` do alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def aligned(problem: Any, state_a: Any, state_b: Any, *, seeds: int, seed: int) -> tuple[Any, dict[str, Any]]:
    """B's state with its units in the order of A's, and what that did, for the meta of a record.

    Raises:
        ProblemError: the permuted network computes something else.
    """
    from landscape.networks.alignment import align, check_preserved
    from landscape.networks.symmetries import symmetries_of

    symmetries = symmetries_of(problem)
    names = [name for name, _shape, _slice in problem.named_slices()]
    done = align(symmetries, state_a, state_b, names, seeds=seeds, seed=seed)
    permuted = symmetries.permute(state_b, done.permutations)
    return permuted, {
        "digest": done.digest, "groups": symmetries.sizes, "moved": done.moved,
        "distance_before": done.before, "distance_after": done.after,
        "unpermuted": symmetries.unpermuted, "obstacles": symmetries.obstacles,
        "output_change": check_preserved(problem, state_b, permuted),
    }  # fmt: skip


def warn(told: dict[str, Any], note: Callable[[str], Any]) -> None:
    """Say what could not be permuted."""
    for obstacle in told["obstacles"]:
        still = ", ".join(told["unpermuted"]) or "no whole layer"
        note(f"warning: not aligned beyond {obstacle}; unpermuted: {still}")
