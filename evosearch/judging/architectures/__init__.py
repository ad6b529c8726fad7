"""Small real networks with named slots, one file a family: `build(architecture, make_layer, ...)` fills the slots."""

from __future__ import annotations

from torch import Tensor, nn

from evosearch.judging.architectures import attention, convolutional, dense, factory, modern, staged
from evosearch.judging.architectures.slots import Filler, InOrder, Layers, MakeLayer, check_stages
from evosearch.judging.networks import STAGES
from evosearch.judging.objectives import WIDTHS

BUILDERS = {**dense.BUILDERS, **convolutional.BUILDERS, **modern.BUILDERS, **attention.BUILDERS, **staged.BUILDERS}

__all__ = ["BUILDERS", "Layers", "MakeLayer", "build"]


def build(
    architecture: str, make_layer: MakeLayer | Layers, width: int | None, sample: Tensor, outputs: int, slot: str = "act", depth: int | None = None
) -> nn.Module:
    """The network of that name; `sample` is a batch of inputs, from which sizes are read. Which slots it has: `objectives.SLOTS`.

    - slot `act`: `make_layer(num_features)` is an activation, after the architecture's own normalization.
    - slot `norm_act`: it replaces each BatchNorm and activation; `make_layer(num_features, apply_act=False)` a BatchNorm without one.
    - slot `gate`: it takes the two halves `x, y` of a feed-forward layer, which is 2/3 as wide, so that parameters stay as many.
    - slot `attention`: it makes weights of scores `(N, heads, queries, keys)`, along the last axis; `make_layer(heads)`.

    The others see the channels at dimension 1: `(N, C, H, W)` in convolutional networks, `(N, C)` elsewhere. A `module:function`
    is the user's own, see `factory.build`.

    A network comes as `Layers`, one for each stage of an architecture with stages, elsewhere one for each activation in the order
    in which they are made; its choices are the architecture's own (`networks.KNOBS`). Raises SlotsError for too few or too many.
    """
    if not isinstance(make_layer, Layers):
        return _build(architecture, Filler(make_layer, slot), width, sample, outputs, depth)
    in_order = InOrder(make_layer.makers)
    if architecture in STAGES:
        check_stages(make_layer.makers, STAGES[architecture], architecture)
        return _build(architecture, Filler(make_layer.makers[0], slot, make_layer.makers, make_layer.choices), width, sample, outputs, depth)
    model = _build(architecture, Filler(in_order, slot, (), make_layer.choices), width, sample, outputs, depth)
    in_order.check(architecture)
    return model


def _build(architecture: str, fill: Filler, width: int | None, sample: Tensor, outputs: int, depth: int | None) -> nn.Module:
    if ":" in architecture:
        return factory.build(architecture, fill, width, depth, sample, outputs)
    return BUILDERS[architecture](fill, width or WIDTHS[architecture], depth, sample, outputs)
