"""Plain networks without normalization: `mlp`, `deep-mlp`, `inr`. Depth counts hidden layers."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from evosearch.judging.architectures.slots import Builder, Filler, initialized


def _stack(fill: Filler, sizes: list[int], outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, size in pairwise(sizes):
        layers += [nn.Linear(inputs, size), fill.act(size)]
    return initialized(nn.Sequential(*layers, nn.Linear(sizes[-1], outputs)))


def mlp(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """Inputs of any shape, flattened."""
    return nn.Sequential(nn.Flatten(), _stack(fill, [sample[0].numel(), *[width] * (depth or 2)], outputs))


def deep_mlp(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """Deep and plain: what the activation does to the signal decides whether it trains (SELU, arXiv 1706.02515)."""
    return nn.Sequential(nn.Flatten(), _stack(fill, [sample[0].numel(), *[width] * (depth or 12)], outputs))


class _Scale(nn.Module):
    """Coordinates times 2 pi: the range over which sine features are neither constant nor aliased."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 * math.pi)


def inr(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """An implicit representation: coordinates `(N, D)` in [-1, 1] to values."""
    return nn.Sequential(_Scale(), _stack(fill, [sample.shape[1], *[width] * (depth or 3)], outputs))


BUILDERS: dict[str, Builder] = {"mlp": mlp, "deep-mlp": deep_mlp, "inr": inr}
