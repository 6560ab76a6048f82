"""Whether eigenpairs are all there: what a record says of its residuals and of what it may have missed. Numpy only."""

from __future__ import annotations

import numpy as np

from ..records import Eigenpairs
from .shares import in_percent


def doubts(pairs: Eigenpairs) -> str:
    """What the eigenpairs lack, in words; empty when they have converged and hardly any can be missing."""
    if pairs.meta.get("converged", True):
        return ""
    tolerance, missed = pairs.meta.get("tolerance", 0.0), pairs.meta.get("missed")
    every = np.concatenate([pairs.residuals, pairs.lowest_residuals])
    scale = np.abs(np.concatenate([pairs.values, pairs.lowest_values])).max(initial=0.0)
    if missed is None or missed >= 1 or (every > 2 * tolerance * scale).any():
        return f"the eigenpairs have not converged (residual {every.max(initial=0.0):.2g})"
    return f"an eigenpair beyond those found may be missing (probability at most {in_percent(missed)} %)"


def completeness(pairs: Eigenpairs) -> str:
    """The same as a sentence beside the numbers, with the good news as well; empty where the record does not say."""
    if text := doubts(pairs):
        return f"Warning: {text}."
    missed = pairs.meta.get("missed")
    if missed is None and "missed" in pairs.meta:
        return "All have converged; whether one beyond them is missing was not checked."
    if not isinstance(missed, (int, float)):
        return ""
    return f"All have converged; one beyond them is missing with a probability of at most {in_percent(missed)} %."
