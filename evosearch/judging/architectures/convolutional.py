"""Convolutional networks: `plain-cnn`, `resnet`, `mobilenet`, and `dncnn` from image to image. Depth counts blocks a stage."""

from __future__ import annotations

from torch import Tensor, nn

from evosearch.judging.architectures.slots import Builder, Filler, initialized


def plain_cnn(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """Convolutions without normalization; depth counts them (default 3)."""
    c, more = width, range((depth or 3) - 2)
    return initialized(
        nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1), fill.act(c),
            nn.Conv2d(c, 2 * c, 3, 2, 1), fill.act(2 * c),
            *[m for _ in more for m in (nn.Conv2d(2 * c, 2 * c, 3, 1, 1), fill.act(2 * c))],
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, outputs),
        )
    )  # fmt: skip


class _PreActivation(nn.Module):
    """BatchNorm, activation, convolution, twice, around a shortcut (arXiv 1603.05027)."""

    def __init__(self, fill: Filler, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *fill.norm_act(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            *fill.norm_act(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )  # fmt: skip
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


class ResNet(nn.Module):
    """A stem, two stages of pre-activation blocks, a pooled linear head."""

    def __init__(self, fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> None:
        super().__init__()
        c, more = width, range((depth or 1) - 1)
        self.layers = nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1, bias=False),
            _PreActivation(fill, c, c, 1), *[_PreActivation(fill, c, c, 1) for _ in more],
            _PreActivation(fill, c, 2 * c, 2), *[_PreActivation(fill, 2 * c, 2 * c, 1) for _ in more],
            *fill.norm_act(2 * c), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, outputs),
        )  # fmt: skip
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class _InvertedResidual(nn.Module):
    """Expand, depthwise, project, each with BatchNorm, around a shortcut (arXiv 1801.04381)."""

    def __init__(self, fill: Filler, channels: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), *fill.norm_act(wide),
            nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), *fill.norm_act(wide),
            nn.Conv2d(wide, channels, 1, bias=False), fill.norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def mobilenet(fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """A stem, two stages of inverted residuals."""
    c, blocks = width, range(depth or 1)
    return initialized(
        nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1, bias=False), *fill.norm_act(c),
            *[_InvertedResidual(fill, c, 2) for _ in blocks], nn.AvgPool2d(2), *[_InvertedResidual(fill, c, 2) for _ in blocks],
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, outputs),
        )
    )  # fmt: skip


class DnCNN(nn.Module):
    """Predicts the noise and takes it away (arXiv 1608.03981); image to image, depth counts the layers in between."""

    def __init__(self, fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> None:
        super().__init__()
        c, colors = width, sample.shape[1]
        self.noise = nn.Sequential(
            nn.Conv2d(colors, c, 3, 1, 1), fill.act(c),
            *[m for _ in range(depth or 2) for m in (nn.Conv2d(c, c, 3, 1, 1, bias=False), *fill.norm_act(c))],
            nn.Conv2d(c, colors, 3, 1, 1),
        )  # fmt: skip
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x - self.noise(x)
        return y


BUILDERS: dict[str, Builder] = {"plain-cnn": plain_cnn, "resnet": ResNet, "mobilenet": mobilenet, "dncnn": DnCNN}
