"""What stands in an architecture's slots: the layer under judgment, or the fixed layers around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from evosearch.language.candidate import Choice

MakeLayer = Callable[..., nn.Module]  # (num_features), and (num_features, apply_act=False) in the slot norm_act
Builder = Callable[["Filler", int, int | None, Tensor, int], nn.Module]  # slots, width, depth, sample, outputs


class SlotsError(ValueError):
    """A network fills other slots than its architecture has."""


@dataclass(frozen=True)
class Layers:
    """The layers of a network: what makes those of act0, act1, ... (a single one is for every place), and what it chooses."""

    makers: Sequence[MakeLayer]
    choices: Mapping[str, Choice] = field(default_factory=dict)


class InOrder:
    """`make_layer` of an architecture without stages: each call makes the layer of the next slot."""

    def __init__(self, makers: Sequence[MakeLayer]) -> None:
        self.makers, self.made = makers, 0

    def __call__(self, *features: int, **options: bool) -> nn.Module:
        self.made += 1
        if len(self.makers) == 1:
            return self.makers[0](*features, **options)
        if self.made > len(self.makers):
            return nn.Identity()  # how many there are to be is said once they are counted
        return self.makers[self.made - 1](*features, **options)

    def check(self, architecture: str) -> None:
        """Raises SlotsError when there were more or fewer calls than slots."""
        if len(self.makers) not in (1, self.made):
            raise SlotsError(
                f"the network {architecture} makes {self.made} activations, so its slots are {_named(self.made)}; received {_named(len(self.makers))}"
            )


def _named(count: int) -> str:
    return "act0" if count == 1 else f"act0 to act{count - 1}" if count > 2 else "act0, act1" if count else "none"


def check_stages(makers: Sequence[MakeLayer], stages: int, architecture: str) -> None:
    """Raises SlotsError unless there is a layer for every place, or one for each stage."""
    if len(makers) not in (1, stages):
        raise SlotsError(f"the slots of {architecture} are its stages, {_named(stages)}; received {_named(len(makers))}")


@dataclass(frozen=True)
class Filler:
    """The layers of each place, by the slot that `make` is for; those of `stages` and `choices` are a network's."""

    make: MakeLayer
    slot: str
    stages: Sequence[MakeLayer] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def of_stage(self, number: int) -> MakeLayer:
        """What makes the activations of a stage, for an architecture whose slots are its stages."""
        return self.stages[number] if len(self.stages) > 1 else self.make

    def act(self, channels: int) -> nn.Module:
        """An activation without a norm before it."""
        return self.make(channels)

    def norm_act(self, channels: int) -> list[nn.Module]:
        """BatchNorm and activation."""
        return [self.make(channels)] if self.slot == "norm_act" else [nn.BatchNorm2d(channels), self.make(channels)]

    def norm(self, channels: int) -> nn.Module:
        """BatchNorm without activation."""
        return self.make(channels, apply_act=False) if self.slot == "norm_act" else nn.BatchNorm2d(channels)


class Product(nn.Module):
    """`x * y`: the plainest of gates, where any layer does."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class FeedForward(nn.Module):
    """Two linear maps around the slot, over rows `(N, C)`; gated `act(a x, b x)` in the slot `gate` (arXiv 2002.05202).

    Where the slot is elsewhere, in the attention, they are around a GELU.
    """

    def __init__(self, fill: Filler, width: int) -> None:
        super().__init__()
        self.gated = fill.slot == "gate"
        hidden = 8 * width // 3 if self.gated else 4 * width
        self.act = nn.GELU() if fill.slot == "attention" else fill.make(hidden)
        self.rise, self.fall = nn.Linear(width, 2 * hidden if self.gated else hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.rise(x)
        y: Tensor = self.fall(self.act(*hidden.chunk(2, 1)) if self.gated else self.act(hidden))
        return y


def initialized(model: nn.Module) -> nn.Module:
    """LeCun normal weights and zero biases everywhere: the same start for every activation."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
