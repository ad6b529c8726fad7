"""Small real networks with a slot for the activation: `build(architecture, ...)` fills it with `make_layer(num_features)`."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

MakeLayer = Callable[[int], nn.Module]


def build(architecture: str, make_layer: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """The network of that name; `sample` is a batch of inputs, from which sizes are read.

    Activations see the channels at dimension 1: `(N, C, H, W)` in convolutional networks, `(N, C)` elsewhere.
    """
    builders = {
        "plain-cnn": _plain_cnn, "resnet": ResNet, "mobilenet": _mobilenet, "mlp": _mlp, "deep-mlp": _deep_mlp, "inr": _inr,
        "transformer": Transformer,
    }  # fmt: skip
    return builders[architecture](make_layer, width, sample, outputs)


def _initialize(model: nn.Module) -> nn.Module:
    """LeCun normal weights and zero biases everywhere: the same start for every activation."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def _plain_cnn(make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> nn.Module:
    c = width or 16
    return _initialize(
        nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1), make(c),
            nn.Conv2d(c, 2 * c, 3, 2, 1), make(2 * c),
            nn.Conv2d(2 * c, 2 * c, 3, 1, 1), make(2 * c),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, outputs),
        )
    )  # fmt: skip


class _PreActivation(nn.Module):
    """BatchNorm, activation, convolution, twice, around a shortcut (arXiv 1603.05027)."""

    def __init__(self, make: MakeLayer, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), make(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs), make(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )  # fmt: skip
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


class ResNet(nn.Module):
    """A stem, two pre-activation blocks, a pooled linear head."""

    def __init__(self, make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> None:
        super().__init__()
        c = width or 16
        self.layers = nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1, bias=False), _PreActivation(make, c, c, 1), _PreActivation(make, c, 2 * c, 2),
            nn.BatchNorm2d(2 * c), make(2 * c), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, outputs),
        )  # fmt: skip
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class _InvertedResidual(nn.Module):
    """Expand, depthwise, project, each with BatchNorm, around a shortcut (arXiv 1801.04381)."""

    def __init__(self, make: MakeLayer, channels: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), make(wide),
            nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), make(wide),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def _mobilenet(make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> nn.Module:
    c = width or 16
    return _initialize(
        nn.Sequential(
            nn.Conv2d(sample.shape[1], c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), make(c),
            _InvertedResidual(make, c, 2), nn.AvgPool2d(2), _InvertedResidual(make, c, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, outputs),
        )
    )  # fmt: skip


def _stack(make: MakeLayer, sizes: list[int], outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, size in pairwise(sizes):
        layers += [nn.Linear(inputs, size), make(size)]
    return _initialize(nn.Sequential(*layers, nn.Linear(sizes[-1], outputs)))


def _mlp(make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> nn.Module:
    w = width or 64
    features = sample[0].numel()
    return nn.Sequential(nn.Flatten(), _stack(make, [features, w, w], outputs))


def _deep_mlp(make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> nn.Module:
    return _stack(make, [sample[0].numel(), *[width or 24] * 12], outputs)


class _Scale(nn.Module):
    """Coordinates times 2 pi: the range over which sine features are neither constant nor aliased."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 * math.pi)


def _inr(make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> nn.Module:
    w = width or 64
    return nn.Sequential(_Scale(), _stack(make, [sample.shape[1], w, w, w], outputs))


class _Block(nn.Module):
    """Pre-norm attention and feed-forward; the activation stands in the feed-forward."""

    def __init__(self, make: MakeLayer, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.act, self.fall = nn.Linear(width, 4 * width), make(4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.attention(self.norm1(x)).view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(n, t, w))
        hidden = self.rise(self.norm2(x)).flatten(0, 1)
        y: Tensor = x + self.fall(self.act(hidden)).view(n, t, w)
        return y


class Transformer(nn.Module):
    """A language model of two causal blocks; tokens `(N, T)` to logits `(N, T, letters)`."""

    def __init__(self, make: MakeLayer, width: int | None, sample: Tensor, outputs: int) -> None:
        super().__init__()
        w = width or 48
        self.letters, self.places = nn.Embedding(outputs, w), nn.Parameter(torch.randn(sample.shape[1], w) * 0.02)
        heads = next(h for h in (3, 2, 1) if w % h == 0)
        self.blocks = nn.Sequential(_Block(make, w, heads), _Block(make, w, heads))
        self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, outputs)
        _initialize(self)
        nn.init.normal_(self.letters.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.blocks(self.letters(tokens) + self.places)))
        return y
