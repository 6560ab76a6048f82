"""An attention head: its rows of query, key and value with their biases, and its columns of the output layer.

Read from `torch.nn.MultiheadAttention`, and from any module that offers `heads` and `head_blocks()`: for its tensors by
name the two numbers around the heads, as in (before, heads, after).
"""

from __future__ import annotations

from torch import nn

from ._base import Part


def parts(model: nn.Module) -> list[Part]:
    found = []
    for name, module in model.named_modules():
        for tensor, (heads, before, after) in _blocks(module).items():
            names = tuple(f"{name}.head{h}" for h in range(heads))
            found.append(Part(f"{name}.{tensor}" if name else tensor, before, names, after))
    return found


def _blocks(module: nn.Module) -> dict[str, tuple[int, int, int]]:
    """tensor -> (heads, before, after)."""
    if isinstance(module, nn.MultiheadAttention):
        heads, width, size = module.num_heads, module.embed_dim, module.head_dim
        found = {"out_proj.weight": (heads, width, size)}
        if module.in_proj_weight is not None:
            found["in_proj_weight"] = (heads, 3, size * width)
        else:
            for leaf in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                found[leaf] = (heads, 1, module.get_parameter(leaf).numel() // heads)
        if module.in_proj_bias is not None:
            found["in_proj_bias"] = (heads, 3, size)
        return found
    if hasattr(module, "head_blocks"):
        return {t: (module.heads, *around) for t, around in module.head_blocks().items()}  # type: ignore[operator,misc]
    return {}
