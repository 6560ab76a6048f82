"""Filters and layers of a network, and random directions scaled to their norms (Li et al. 2018).

A filter is all that feeds one output unit of a layer, its weights and its bias together: the smallest part of a
ReLU network that can be rescaled against the next layer without changing the function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ProblemError
from ..loss.problem import Problem


def normalised_pair(origin: Tensor, filters: Tensor, seed: int) -> Tensor:
    """Two orthogonal random directions, (2, size) float64 on the CPU; every filter has the norm it has in `origin`.

    `filters` (size,) numbers the filter (or the layer) of each weight, -1 where the directions are zero. The second
    direction is made orthogonal to the first inside every filter before it is scaled, so that both properties hold at
    once.

    Raises:
        ProblemError: nearly all filters hold a single weight, which leaves no room for orthogonal directions.
    """
    weights = origin.detach().cpu().double()
    count = int(filters.max()) + 1 if len(filters) else 0
    norms = _filter_norms(weights, filters, count)
    covered = filters >= 0
    first, second = (_normal(seed, axis, len(filters)) * covered for axis in (0, 1))
    first = first * _ratio(norms, _filter_norms(first, filters, count))[filters]
    overlap = torch.zeros(count, dtype=torch.float64).index_add_(0, filters[covered], (first * second)[covered])
    second = second - first * _ratio(overlap, norms**2)[filters]
    entries = torch.bincount(filters[covered], minlength=count)
    second[entries[filters.clamp(min=0)] == 1] = 0.0  # no room for an orthogonal partner: rounding dust only
    second = second * _ratio(norms, _filter_norms(second, filters, count))[filters]
    second = _balance_single(first, second, filters, entries, norms)
    return torch.stack([first, second])


def _normal(seed: int, axis: int, size: int) -> Tensor:
    """Random numbers named by (seed, axis), so that every rank draws the same; always drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + axis)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def _filter_norms(vector: Tensor, filters: Tensor, count: int) -> Tensor:
    """Norm of every filter's part of a vector (size,): (count,)."""
    inside = filters >= 0
    squares = torch.zeros(count, dtype=torch.float64).index_add_(0, filters[inside], vector[inside] ** 2)
    return squares.sqrt()


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and 0 where below is 0; one more 0 at the end serves the number -1 of frozen weights."""
    ratio = torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)
    return torch.cat([ratio, ratio.new_zeros(1)])


def _balance_single(first: Tensor, second: Tensor, filters: Tensor, entries: Tensor, norms: Tensor) -> Tensor:
    """Give filters of a single weight their norm in `second` too, and keep the two directions orthogonal.

    Such a filter has no room to be orthogonal inside itself: +-norm is all there is. Signs are chosen so that their
    products nearly cancel; the rest is cancelled by turning all other filters by one small angle.
    """
    single = torch.where(entries == 1, norms, 0.0)
    if not bool(single.any()):
        return second
    rest = 0.0
    sign = torch.zeros_like(norms)
    for i in single.argsort(descending=True)[: int((single > 0).sum())].tolist():
        sign[i] = -1.0 if rest > 0 else 1.0
        rest += float(sign[i] * single[i] ** 2)
    wide = float((norms**2).sum() - (single**2).sum())
    if not abs(rest) < wide:
        raise ProblemError(
            "nearly every filter of the model holds a single weight, so two orthogonal filter-normalised directions "
            "do not exist; use the eigen or the pca plane"
        )
    cosine = -rest / wide
    is_single = torch.cat([entries == 1, entries.new_zeros(1, dtype=torch.bool)])[filters]
    turned = cosine * first + (1 - cosine**2) ** 0.5 * second
    return torch.where(is_single, torch.cat([sign, sign.new_zeros(1)])[filters] * first, turned)


_NORMALISATION = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)


def filter_numbers(problem: Problem) -> Tensor:
    """The number of the filter that each weight belongs to, (size,); -1 for frozen ones.

    A filter is one output unit's row of a linear, recurrent or attention matrix, or one output channel of a
    convolution, joined by its entry of the layer's bias. An embedding is a linear layer on one-hot inputs, so its
    filters are columns. Normalisation layers, and vectors that are no bias of a matrix, are frozen.
    """
    numbers = torch.full((problem.size,), -1, dtype=torch.long)
    slices = {name: (shape, where) for name, shape, where in problem.named_slices()}
    count = 0
    for name, (shape, where) in slices.items():
        path, _, leaf = name.rpartition(".")
        module = problem.model.get_submodule(path)
        if len(shape) < 2 or isinstance(module, _NORMALISATION):
            continue
        units = _units(module, shape)  # broadcasts to `shape`
        filters = int(units.max()) + 1 if units.numel() else 0
        numbers[where] = (count + units).expand(shape).reshape(-1)
        bias = slices.get(f"{path}.{leaf.replace('weight', 'bias')}".lstrip("."))
        if bias is not None and "weight" in leaf and bias[0] == (filters,):
            numbers[bias[1]] = count + torch.arange(filters)
        count += filters
    return numbers


def layer_numbers(problem: Problem) -> Tensor:
    """The number of the layer that each weight belongs to, (size,): its weight matrix joined by its bias; -1 frozen.

    Frozen are the same weights as in `filter_numbers`. Attention and recurrent layers have a number for each matrix.
    """
    filters = filter_numbers(problem)
    numbers = torch.full_like(filters, -1)
    owners: dict[int, int] = {}  # first filter of a matrix -> its layer
    for _name, _shape, where in problem.named_slices():
        inside = filters[where]
        if bool((inside >= 0).any()):
            first = int(inside.min())
            numbers[where] = owners.setdefault(first, len(owners))
    return numbers


def _units(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Output unit of every entry of a weight of at least two axes, in a shape that broadcasts to the weight's."""
    tail = (1,) * (len(shape) - 2)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):  # (in, out / groups, ...)
        group = torch.arange(shape[0]) // (shape[0] // module.groups)
        return (group[:, None] * shape[1] + torch.arange(shape[1])).view(*shape[:2], *tail)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return torch.arange(shape[1]).view(1, -1)
    return torch.arange(shape[0]).view(-1, 1, *tail)
