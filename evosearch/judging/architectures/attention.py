"""Networks of attention: `transformer` over characters, `vit` over patches of an image. Depth counts blocks (default 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evosearch.judging.architectures.slots import Builder, FeedForward, Filler, initialized


class _Block(nn.Module):
    """Pre-norm attention and feed-forward; the slot stands in the feed-forward."""

    def __init__(self, fill: Filler, width: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = next(h for h in (3, 2, 1) if width % h == 0), causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = FeedForward(fill, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.attention(self.norm1(x)).view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.output(mixed.transpose(1, 2).reshape(n, t, w))
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
