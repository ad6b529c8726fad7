"""digits: 8x8 handwritten digits (scikit-learn), 10 classes. Saturates with wide networks; the smoke test, and the deep plain MLP."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from evosearch.judging.tasks import Data, Task, accuracy


@cache
def load(variant: str = "") -> Data:
    """Pixels `(N, 64)` with mean 0 and deviation about 1; 1,000 / 400 / 397 images by a fixed permutation."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    inputs, targets = torch.from_numpy(pixels).float()[order] / 6 - 0.8, torch.from_numpy(labels)[order]
    first, second, third = (slice(a, b) for a, b in ((0, 1000), (1000, 1400), (1400, None)))
    train, validation, test = ((inputs[part], targets[part]) for part in (first, second, third))
    return Data(train, validation, test, outputs=10)


TASK = Task(
    name="digits",
    what="8x8 handwritten digits (scikit-learn)",
    license="UCI optical digits, by way of scikit-learn: CC BY 4.0",
    load=load,
    loss=F.cross_entropy,
    score=accuracy,
    batch_size=64,
    rates={"mlp": 1e-2, "deep-mlp": 1e-2},
)
