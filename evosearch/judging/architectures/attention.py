"""Networks of attention: `transformer` over characters, `vit` over patches of an image. Depth counts blocks (default 2).

In the slot `attention` the layer stands where softmax stands: it makes the weights of the keys out of the scores, row by row. A
query of the transformer sees the keys up to its own place, and its row holds those alone: what is masked enters no statistic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from evosearch.judging.architectures.slots import Builder, FeedForward, Filler, initialized


class _Weights(nn.Module):
    """The values of the keys summed with the weights that the layer makes of scores `(N, heads, queries, keys)`."""

    def __init__(self, layer: nn.Module, causal: bool) -> None:
        super().__init__()
        self.layer, self.causal = layer, causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if not self.causal:
            y: Tensor = self.layer(scores) @ v
            return y
        return torch.cat([self.layer(scores[..., i : i + 1, : i + 1]) @ v[..., : i + 1, :] for i in range(q.shape[-2])], -2)


class _Softmax(nn.Module):
    """What usually stands there, fused."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


class _Block(nn.Module):
    """Pre-norm attention and feed-forward; the slot stands in the feed-forward or, as `attention`, in place of softmax."""

    def __init__(self, fill: Filler, width: int, causal: bool) -> None:
        super().__init__()
        self.heads = next(h for h in (3, 2, 1) if width % h == 0)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mix = _Weights(fill.make(self.heads), causal) if fill.slot == "attention" else _Softmax(causal)
        self.feed = FeedForward(fill, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.attention(self.norm1(x)).view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.output(self.mix(q, k, v).transpose(1, 2).reshape(n, t, w))
        y: Tensor = x + self.feed(self.norm2(x).flatten(0, 1)).view(n, t, w)
        return y


class Transformer(nn.Module):
    """A language model of causal blocks; tokens `(N, T)` to logits `(N, T, letters)`."""

    def __init__(self, fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> None:
        super().__init__()
        w = width
        self.letters, self.places = nn.Embedding(outputs, w), nn.Parameter(torch.randn(sample.shape[1], w) * 0.02)
        self.blocks = nn.Sequential(*[_Block(fill, w, causal=True) for _ in range(depth or 2)])
        self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, outputs)
        initialized(self)
        nn.init.normal_(self.letters.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.blocks(self.letters(tokens) + self.places)))
        return y


class ViT(nn.Module):
    """Patches of 4x4 pixels, blocks, the mean of the places, a linear head (arXiv 2010.11929 with the pooling of 2205.01580)."""

    def __init__(self, fill: Filler, width: int, depth: int | None, sample: Tensor, outputs: int) -> None:
        super().__init__()
        w = width
        self.patches = nn.Conv2d(sample.shape[1], w, 4, 4)
        self.places = nn.Parameter(torch.randn((sample.shape[2] // 4) * (sample.shape[3] // 4), w) * 0.02)
        self.blocks = nn.Sequential(*[_Block(fill, w, causal=False) for _ in range(depth or 2)])
        self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, outputs)
        initialized(self)

    def forward(self, x: Tensor) -> Tensor:
        places = self.patches(x).flatten(2).transpose(1, 2) + self.places
        y: Tensor = self.head(self.norm(self.blocks(places)).mean(1))
        return y


BUILDERS: dict[str, Builder] = {"transformer": Transformer, "vit": ViT}
