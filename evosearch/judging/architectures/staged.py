"""`stages`: a convolutional network whose depth, width, kernel, blocks, normalization and residual form a candidate chooses.

A stem at half the size, two stages of blocks (the second at half the size again and twice as wide), a pooled linear head. The
layer of slot act0 stands in the stem and the first stage, that of act1 in the second.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from evosearch.judging.architectures.slots import Builder, Filler, MakeLayer, initialized
from evosearch.judging.networks import KNOBS
from evosearch.judging.objectives import WIDTHS

EXPANSION = 4  # of an inverted residual's inner width, and what a bottleneck's is divided by
GROUPS = 8
SCALE = 0.1  # where the factor of a scaled block starts


@dataclass(frozen=True)
class Form:
    """The choices of one network, those that nobody made at their usual values."""

    depth: int
    width: int
    kernel: int
    block: str
    norm: str
    placement: str
    residual: str

    @staticmethod
    def of(fill: Filler, width: int, depth: int | None) -> Form:
        """A pair's width and depth are factors: `stages.32x2` is twice as wide and twice as deep as what is chosen."""
        chosen = {name: fill.choices.get(name, knob.usual) for name, knob in KNOBS["stages"].items()}
        chosen["width"] = max(4, round(int(chosen["width"]) * width / WIDTHS["stages"]))
        chosen["depth"] = int(chosen["depth"]) * (depth or 1)
        return Form(**chosen)  # type: ignore[arg-type]

    def convolutions(self, inputs: int, outputs: int, stride: int) -> list[nn.Conv2d]:
        """Those of a block, in order."""
        k = self.kernel
        if self.block == "conv":
            return [self.convolution(inputs, outputs, k, stride), self.convolution(outputs, outputs, k)]
        if self.block == "separable":
            return [self.convolution(inputs, inputs, k, stride, inputs), self.convolution(inputs, outputs, 1)]
        if self.block == "inverted":
            wide = EXPANSION * inputs
            return [self.convolution(inputs, wide, 1), self.convolution(wide, wide, k, stride, wide), self.convolution(wide, outputs, 1)]
        narrow = max(1, outputs // EXPANSION)
        return [self.convolution(inputs, narrow, 1), self.convolution(narrow, narrow, k, stride), self.convolution(narrow, outputs, 1)]

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """Of the same size or half of it; with a bias where no normalization follows."""
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=self.norm == "none")

    def norm_act(self, make: MakeLayer, channels: int, number: int) -> list[tuple[str, nn.Module]]:
        """The normalization and the activation after it."""
        return [*self.normalization(channels, number), (f"act{number}", make(channels))]

    def normalization(self, channels: int, number: int) -> list[tuple[str, nn.Module]]:
        """None, or one."""
        if self.norm == "none":
            return []
        groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        return [(f"norm{number}", nn.BatchNorm2d(channels) if self.norm == "batch" else nn.GroupNorm(groups, channels))]


class _Block(nn.Module):
    """The body of a block, and what it is added to; with `post` placement the last activation follows the addition."""

    def __init__(self, form: Form, make: MakeLayer, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        convolutions = form.convolutions(inputs, outputs, stride)
        for number, conv in enumerate(convolutions, 1):
            if form.placement == "pre":
                layers += form.norm_act(make, conv.in_channels, number)
            layers.append((f"conv{number}", conv))
            if form.placement == "post":
                last = number == len(convolutions)
                layers += form.normalization(conv.out_channels, number) if last else form.norm_act(make, conv.out_channels, number)
        self.body = nn.Sequential(OrderedDict(layers))
        self.adds, changes = form.residual != "none", inputs != outputs or stride > 1
        self.shortcut = form.convolution(inputs, outputs, 1, stride) if self.adds and changes else None
        self.scale = nn.Parameter(torch.full((outputs, 1, 1), SCALE)) if form.residual == "scaled" else None
        self.act = make(outputs) if form.placement == "post" else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        if self.scale is not None:
            y = y * self.scale
        if self.adds:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return y if self.act is None else self.act(y)


def stages(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """The network of the filler's choices; without any, of the usual ones."""
    form = Form.of(fill, width, depth)
    makes = [fill.of_stage(0), fill.of_stage(1)]
    widths = [form.width, form.width, 2 * form.width]
    stem: list[tuple[str, nn.Module]] = [("conv", form.convolution(sample.shape[1], widths[0], form.kernel, 2))]
    stem += form.norm_act(makes[0], widths[0], 1) if form.placement == "post" else []
    parts: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(OrderedDict(stem)))]
    for number, ((before, after), make) in enumerate(zip(pairwise(widths), makes, strict=True), 1):
        blocks = [_Block(form, make, before if i == 0 else after, after, 2 if number > 1 and i == 0 else 1) for i in range(form.depth)]
        parts.append((f"stage{number}", nn.Sequential(OrderedDict((f"block{i}", block) for i, block in enumerate(blocks, 1)))))
    if form.placement == "pre":
        parts.append(("end", nn.Sequential(OrderedDict(form.norm_act(makes[-1], widths[-1], 1)))))
    parts += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("head", nn.Linear(widths[-1], outputs))]
    return initialized(nn.Sequential(OrderedDict(parts)))


BUILDERS: dict[str, Builder] = {"stages": stages}
