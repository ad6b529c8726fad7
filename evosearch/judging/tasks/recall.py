"""recall: which of 4 values stood beside the key that is asked for, after a few pairs of a key and a value (arXiv 2312.04927).

Made by a fixed seed, for what attention does and pooling does not: without looking at the scores a network knows little more than
which value is frequent. Variant `long`: ten pairs in place of six.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from evosearch.judging.tasks import Data, Split, Task, accuracy

PATCH, VALUES, PAIRS = 4, 4, {"": 6, "long": 10}
SIZES = {"train": 8192, "validation": 1024, "test": 1024}


@cache
def load(variant: str = "") -> Data:
    """Images `(N, 1, 4, 4 (1 + pairs))` of one patch a place, the first with the key that is asked for, and the values."""
    train, validation, test = (_drawn(size, PAIRS[variant], seed) for seed, size in enumerate(SIZES.values()))
    return Data(train, validation, test, outputs=VALUES)


def _drawn(count: int, pairs: int, seed: int) -> Split:
    """A patch holds a key in its upper half and a value in its lower one, both rows of a Hadamard matrix; no key stands twice."""
    generator = torch.Generator().manual_seed(seed)
    rows = _hadamard(PATCH * PATCH // 2)
    codes, which = torch.cat([rows, -rows]), torch.arange(count)
    keys = torch.rand(count, len(codes), generator=generator).argsort(1)[:, :pairs]
    values = torch.randint(VALUES, (count, pairs), generator=generator)
    asked = torch.randint(pairs, (count,), generator=generator)
    patches = torch.zeros(count, 1 + pairs, PATCH * PATCH)
    patches[:, 0, : len(rows)] = codes[keys[which, asked]]
    patches[:, 1:, : len(rows)], patches[:, 1:, len(rows) :] = codes[keys], rows[values]
    images = patches.view(count, 1 + pairs, PATCH, PATCH).transpose(1, 2).reshape(count, 1, PATCH, -1)
    return images, values[which, asked]


def _hadamard(size: int) -> Tensor:
    found = torch.ones(1, 1)
    while len(found) < size:
        found = torch.cat([torch.cat([found, found], 1), torch.cat([found, -found], 1)])
    return found


TASK = Task(
    name="recall",
    what="which value stood beside a key (made by a fixed seed)",
    license="none needed: made here",
    load=load,
    loss=F.cross_entropy,
    score=accuracy,
    batch_size=32,
    rates={"vit": 6e-3},
)
