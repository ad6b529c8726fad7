"""Small real networks with named slots, one file a family: `build(architecture, make_layer, ...)` fills the slots."""

from __future__ import annotations

from torch import Tensor, nn

from evosearch.judging.architectures import attention, convolutional, dense, factory, modern
from evosearch.judging.architectures.slots import Filler, MakeLayer
from evosearch.judging.objectives import WIDTHS

BUILDERS = {**dense.BUILDERS, **convolutional.BUILDERS, **modern.BUILDERS, **attention.BUILDERS}

__all__ = ["BUILDERS", "MakeLayer", "build"]


def build(architecture: str, make_layer: MakeLayer, width: int | None, sample: Tensor, outputs: int, slot: str = "act", depth: int | None = None) -> nn.Module:
    """The network of that name; `sample` is a batch of inputs, from which sizes are read. Which slots it has: `objectives.SLOTS`.

    - slot `act`: `make_layer(num_features)` is an activation, after the architecture's own normalization.
    - slot `norm_act`: it replaces each BatchNorm and activation; `make_layer(num_features, apply_act=False)` a BatchNorm without one.
    - slot `gate`: it takes the two halves `x, y` of a feed-forward layer, which is 2/3 as wide, so that parameters stay as many.

    Layers see the channels at dimension 1: `(N, C, H, W)` in convolutional networks, `(N, C)` elsewhere. A `module:function`
    is the user's own, see `factory.build`.
    """
    if ":" in architecture:
        return factory.build(architecture, make_layer, width, depth, sample, outputs, slot)
    return BUILDERS[architecture](Filler(make_layer, slot), width or WIDTHS[architecture], depth, sample, outputs)
