"""Later convolutional networks: `efficientnet` and `convnext`. Depth counts blocks a stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evosearch.judging.architectures.slots import Builder, Filler, initialized


class _SqueezeExcite(nn.Module):
    """Channels weighed by a gate that sees their means (arXiv 1709.01507); the slot holds its inner activation too."""

    def __init__(self, fill: Filler, channels: int, squeezed: int) -> None:
        super().__init__()
        inner = nn.SiLU() if fill.slot == "norm_act" else fill.act(squeezed)  # no norm stands here
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), inner, nn.Conv2d(squeezed, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gate(x)
        return y


class _MBConv(nn.Module):
    """Expand, depthwise, squeeze-excite, project, around a shortcut (arXiv 1905.11946)."""

    def __init__(self, fill: Filler, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), *fill.norm_act(wide),
            nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), *fill.norm_act(wide),
            _SqueezeExcite(fill, wide, max(4, channels // 4)),
            nn.Conv2d(wide, channels, 1, bias=False), fill.norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def efficientnet(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """A stem, two stages of inverted residuals with squeeze-excite, a head."""
    c, blocks = width, range(depth or 1)
    return initialized(
        nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1, bias=False), *fill.norm_act(c),
            *[_MBConv(fill, c) for _ in blocks], nn.AvgPool2d(2), *[_MBConv(fill, c) for _ in blocks],
            nn.Conv2d(c, 2 * c, 1, bias=False), *fill.norm_act(2 * c),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, outputs),
        )
    )  # fmt: skip


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of `(N, C, H, W)`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class _ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, inverted bottleneck with one activation, scaled, around a shortcut (arXiv 2201.03545)."""

    def __init__(self, fill: Filler, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 7, 1, 3, groups=channels), _ChannelNorm(channels, eps=1e-6),
            nn.Conv2d(channels, wide, 1), fill.act(wide), nn.Conv2d(wide, channels, 1),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))  # the paper's 1e-6 is for hundreds of thousands of steps

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.scale * self.body(x)
        return y


def convnext(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """A patch stem, two stages of blocks, LayerNorm before each change of scale."""
    c, blocks = width, range(depth or 1)
    return initialized(
        nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 2, 2), _ChannelNorm(c, eps=1e-6), *[_ConvNeXtBlock(fill, c) for _ in blocks],
            _ChannelNorm(c, eps=1e-6), nn.Conv2d(c, 2 * c, 2, 2), *[_ConvNeXtBlock(fill, 2 * c) for _ in blocks],
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(2 * c), nn.Linear(2 * c, outputs),
        )
    )  # fmt: skip


BUILDERS: dict[str, Builder] = {"efficientnet": efficientnet, "convnext": convnext}
