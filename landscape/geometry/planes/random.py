"""Plane of two random directions, normalised filter by filter or layer by layer (Li et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ProblemError, UsageError
from ...loss.problem import Problem
from ...networks.filters import filter_numbers, layer_numbers, normalised_pair
from ..plane import Plane

NORMALISATIONS = {  # name -> groups of weights that share a norm, and the rule in words
    "filter": (filter_numbers, "per output unit"),
    "layer": (layer_numbers, "per layer"),
}


def random_plane(
    problem: Problem, origin: Tensor, *, seed: int = 0, step: int = 0, normalise: str = "filter", variant: str = ""
) -> Plane:
    """Plane of two random directions, each scaled filter by filter (or layer by layer) to the norm of the weights' own.

    Stored are d / norm(d); `info["scale"]` = norm(d1) = norm(d2) turns u, v into normalised units: u / scale.
    The mean curvature of such a plane is about trace / size: it hides the sharp directions.

    Raises:
        ProblemError: nothing to normalise to: all filters are zero or hold a single weight.
        UsageError: no such normalisation.
    """
    if normalise not in NORMALISATIONS:
        raise UsageError(f"a random plane is normalised per {' or per '.join(NORMALISATIONS)}, not per '{normalise}'")
    numbered, unit = NORMALISATIONS[normalise]
    groups = numbered(problem)  # (size,)
    if not bool((groups >= 0).any()):
        raise ProblemError(f"the model has no weight matrix, hence no {normalise}s; use the eigen or the pca plane")
    pair = normalised_pair(origin, groups, seed)  # (2, size)
    scale = float(torch.linalg.norm(pair[0]))
    if not scale > 0:
        raise ProblemError(f"all {normalise}s at step {step} are zero: no random plane; use the eigen or the pca plane")
    info = {
        "scale": scale,
        "seed": seed,
        f"{normalise}s": int(groups.max()) + 1,
        "covered": int((groups >= 0).sum()),
        "rule": f"{unit}, bias joined to its {normalise}; normalisation layers and lone vectors frozen",
    }
    labels = [f"random direction {i}, {normalise}-normalised" for i in (1, 2)]
    return Plane("random", step, labels, origin.clone(), (pair / scale).to(origin.device, origin.dtype), info, variant)
