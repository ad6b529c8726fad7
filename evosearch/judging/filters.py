"""The torch-side filters before any training: each returns None or a reason code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

_SHAPE = (4, 8, 6, 6)


def finite(make_layer: Callable[[int], nn.Module], dtype: torch.dtype = torch.float32) -> str | None:
    """Values and gradients on a probe of `_SHAPE` (deviation 3, one zero channel) are finite in `dtype`."""
    x = torch.randn(_SHAPE, generator=torch.Generator().manual_seed(0)) * 3
    x[:, 0] = 0
    layer = make_layer(_SHAPE[1]).to(dtype)
    leaves = [x.to(dtype).requires_grad_(), *layer.parameters()]
    out = layer(leaves[0])
    if not torch.isfinite(out).all():
        return f"nonfinite:forward:{_short(dtype)}"
    grads = torch.autograd.grad(out.float().sum(), leaves, allow_unused=True)
    if any(g is not None and not torch.isfinite(g).all() for g in grads):
        return f"nonfinite:gradient:{_short(dtype)}"
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def saved_per_element(layer: nn.Module, channels: int = 8) -> float:
    """Tensors the size of the input that eager autograd keeps for the backward, counted once each, on the plain form.

    That is what the scripted and exported forms cost; eager training by the lean backward always keeps 1.
    """
    x = torch.randn(4, channels, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.data_ptr(), tensor)
        return tensor

    plain = getattr(layer, "_plain", layer)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        plain(x)
    return round(sum(t.numel() for t in kept.values()) / x.numel(), 3)
