"""What stands in an architecture's slots: the layer under judgment, or the fixed layers around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

MakeLayer = Callable[..., nn.Module]  # (num_features), and (num_features, apply_act=False) in the slot norm_act
Builder = Callable[["Filler", int, int | None, Tensor, int], nn.Module]  # slots, width, depth, sample, outputs


@dataclass(frozen=True)
class Filler:
    """The layers of each place, by the slot that `make` is for."""

    make: MakeLayer
    slot: str

    def act(self, channels: int) -> nn.Module:
        """An activation without a norm before it."""
        return self.make(channels)

    def norm_act(self, channels: int) -> list[nn.Module]:
        """BatchNorm and activation."""
        return [self.make(channels)] if self.slot == "norm_act" else [nn.BatchNorm2d(channels), self.make(channels)]

    def norm(self, channels: int) -> nn.Module:
        """BatchNorm without activation."""
        return self.make(channels, apply_act=False) if self.slot == "norm_act" else nn.BatchNorm2d(channels)


class FeedForward(nn.Module):
    """Two linear maps around the slot, over rows `(N, C)`; gated `act(a x, b x)` in the slot `gate` (arXiv 2002.05202)."""

    def __init__(self, fill: Filler, width: int) -> None:
        super().__init__()
        self.gated = fill.slot == "gate"
        hidden = 8 * width // 3 if self.gated else 4 * width
        self.rise, self.act, self.fall = nn.Linear(width, 2 * hidden if self.gated else hidden), fill.make(hidden), nn.Linear(hidden, width)

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
