"""Which neurons to split under a budget of operations: minimise sum b_i lam_i with sum b_i e_i <= B, 0 <= b_i <= 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .chains import chains_of, hidden_of

Array = NDArray[np.float64]
WHOLE = 0.99  # a neuron whose b is at least this is split, as in the published code


def flops(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Floating-point operations of every linear layer and convolution, by name, for these inputs (n, ...).

    Two operations a multiplication and addition, as torch counts them.
    """
    names = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    before = model.training
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(inputs)
    finally:
        model.train(before)
    counts, root = counter.get_flop_counts(), type(model).__name__
    return {name: sum(counts.get(f"{root}.{name}" if name else root, {}).values()) for name in names}


def split_costs(model: nn.Module, sample: Tensor) -> dict[str, float]:
    """Operations that one more unit of each hidden layer costs: its share of its own layer and of its reader.

    Args:
        sample: inputs of one sample (1, ...).
    """
    counts, names = flops(model, sample), {id(m): n for n, m in model.named_modules()}
    return {h.name: (counts[h.name] + counts[names[id(h.reader)]]) / h.units for h in hidden_of(chains_of(model))}


def select(
    values: Mapping[str, Tensor], costs: Mapping[str, float], share: float, *, cap: float = 1.0, root: bool = True,
    groups: Sequence[Sequence[str]] | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Neurons to split, layer -> (units,) bool: a linear programme for each group of layers, its integer part.

    Args:
        values: smallest eigenvalues lam_i of the splitting matrices, layer -> (units,); only negative ones are split.
        costs: operations that a split costs in each layer.
        share: the budget of a group, in units of the cost of splitting all its neurons.
        cap: largest share of a layer's neurons that may be split.
        root: cost e_i is the square root of the operations, as published for CIFAR; false: the operations.
        groups: layers with a budget of their own each; None: one budget for all.
    """
    found: dict[str, Tensor] = {}
    for group in groups or [list(values)]:
        gains = [values[name].detach().double().cpu().numpy() for name in group]
        prices = [np.full(len(g), costs[n] ** (0.5 if root else 1.0)) for n, g in zip(group, gains, strict=True)]
        owner = np.repeat(np.arange(len(group)), [len(g) for g in gains])
        price = np.concatenate(prices)
        limits = np.array([cap * len(g) for g in gains])
        chosen = relaxed(np.concatenate(gains), price, share * price.sum(), owner, limits) >= WHOLE
        for number, name in enumerate(group):
            found[name] = torch.from_numpy(chosen[owner == number])
    return found


def relaxed(
    values: Array, costs: Array, budget: float, owner: NDArray[np.intp] | None = None, limits: Array | None = None
) -> Array:
    """b (n,) in [0, 1] with the least sum b_i lam_i such that sum b_i e_i <= budget and sum b_i <= limit per owner."""
    rows, bounds = [costs / costs.max()], [budget / costs.max()]
    if owner is not None and limits is not None:
        rows += [(owner == k).astype(float) for k in range(len(limits))]
        bounds += list(limits)
    size = max(float(np.abs(values).max()), 1e-300)
    result = linprog(values / size, A_ub=np.stack(rows), b_ub=np.array(bounds), bounds=(0, 1), method="highs")
    chosen: Array = np.where(values < 0, result.x, 0.0)
    return chosen


def knapsack(values: Array, costs: Array, budget: float) -> Array:
    """The same without limits, in closed form: negative lam_i / e_i in rising order until the budget is spent."""
    chosen = np.zeros(len(values))
    for i in np.argsort(values / costs):
        if values[i] >= 0 or budget <= 0:
            break
        chosen[i] = min(1.0, budget / costs[i])
        budget -= chosen[i] * costs[i]
    return chosen
