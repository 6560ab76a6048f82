"""A model's weights and buffers: of one kind, whether a state dict fits them, what a pattern means, kept unmoved."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import ProblemError


def one_kind(weights: Iterable[Tensor], who: str) -> tuple[torch.dtype, torch.device]:
    """The dtype and the device that all weights have; `who` names their model.

    Raises:
        ProblemError: there are several.
    """
    kinds = {(w.dtype, w.device) for w in weights}
    if len(kinds) > 1:
        raise ProblemError(
            f"{who} has weights of several dtypes or devices ({', '.join(sorted(f'{d} on {v}' for d, v in kinds))}); "
            "convert the model to one, e.g. model.float()"
        )
    (kind,) = kinds
    return kind


def check_state(state: Mapping[str, Tensor], own: Mapping[str, Tensor], who: str) -> None:
    """Whether a state dict has the names and shapes of a model's `own`, and finite values; `who` names the model.

    Raises:
        ProblemError: names or shapes do not fit, or a weight is not finite.
    """
    _check_names(state, own, who)
    wrong = [n for n in own if tuple(own[n].shape) != tuple(state[n].shape)]
    if wrong:
        n = wrong[0]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ProblemError(
            f"the checkpoint does not fit {who}: '{n}' has shape {tuple(state[n].shape)} in the checkpoint "
            f"and {tuple(own[n].shape)} in the model{more}. Was it trained with other problem settings?"
        )
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ProblemError(
                f"the checkpoint's tensor '{name}' has {bad} of {value.numel()} values that are not finite "
                "(NaN or infinity): training diverged before it; choose an earlier checkpoint"
            )


def _check_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor], who: str) -> None:
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if not (missing or extra):
        return
    fix = "Was it made by another architecture?"
    if all(k.startswith("module.") for k in state) and not any(k.startswith("module.") for k in own) and state:
        fix = f"All {len(state)} names start with 'module.' (DataParallel): save model.module.state_dict()."
    first = f"'{missing[0]}' is missing in it" if missing else f"'{extra[0]}' is unknown to the model"
    raise ProblemError(
        f"the checkpoint does not fit {who}: {len(missing)} tensors missing, {len(extra)} unknown; {first}. {fix}"
    )


def matches(name: str, pattern: str) -> bool:
    """Whether a shell pattern means a weight: it fits its name or that of the module that owns it."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern)


def listed(names: Iterable[str]) -> str:
    """Names for a message; of many the first and the last."""
    names = list(names)
    shown = names if len(names) <= 20 else [*names[:15], f"... {len(names) - 18} more ...", *names[-3:]]
    return ", ".join(shown)


@contextlib.contextmanager
def unmoved_buffers(model: nn.Module) -> Iterator[list[str]]:
    """Buffers of a model end as they began; those that were moved in between are in the list afterwards."""
    buffers = dict(model.named_buffers())
    before = {name: buffer.detach().clone() for name, buffer in buffers.items()}
    moved: list[str] = []
    try:
        yield moved
    finally:
        moved += [n for n, b in buffers.items() if not _same(b.detach(), before[n])]
        with torch.no_grad():
            for name in moved:
                buffers[name].copy_(before[name])


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())  # NaN is itself here
