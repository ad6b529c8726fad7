"""Classes or numbers from examples: loss and score by the target's kind, scaling by the training part, a split by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evosearch.judging.tasks import Data, Split, Task, accuracy

# Base rates for data that nobody tuned: between those of the built-in tasks on the same architecture.
RATES = {
    "mlp": 1e-2, "deep-mlp": 1e-2, "plain-cnn": 1e-2, "resnet": 1e-2, "mobilenet": 2e-2, "efficientnet": 1e-2, "convnext": 1e-2, "vit": 5e-3,
    "stages": 1e-2,
}  # fmt: skip
CUTS = (0.7, 0.85)  # train up to the first, validation up to the second, test after it


def task_of(name: str, load: Callable[[str], Data], architectures: Iterable[str], rates: Mapping[str, float], batch_size: int, what: str, license: str) -> Task:
    """The task of data that nobody tuned: default rates but for those that are given."""
    base = {architecture: {**RATES, **rates}[architecture] for architecture in architectures}
    return Task(name, license, load, loss, score, batch_size, base, what)


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy for classes (whole numbers `(N,)`), squared error for numbers `(N, K)`."""
    return F.mse_loss(output, target) if target.is_floating_point() else F.cross_entropy(output, target)


def score(output: Tensor, target: Tensor) -> float:
    """Accuracy for classes, R2 for numbers, both in percent."""
    if not target.is_floating_point():
        return accuracy(output, target)
    error, spread = (output.double() - target.double()).square().mean(0), target.double().var(0, correction=0)
    return float((1 - error / spread.clamp_min(1e-12)).mean() * 100)


def standardized(train: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Mean 0 and deviation 1 for each column or color (dimension 1), by the first part, which is the only one looked at."""
    dims = (0, *range(2, train.dim()))
    center, spread = train.mean(dims, keepdim=True), train.std(dims, keepdim=True, correction=0)
    spread = torch.where(spread > 8 * torch.finfo(train.dtype).eps * center.abs(), spread, torch.ones_like(spread))  # a constant column stays constant
    return tuple((part - center) / spread for part in (train, *others))


def by_content(rows: NDArray[np.generic], cuts: tuple[float, ...] = CUTS) -> list[NDArray[np.int64]]:
    """Row numbers of the regions. The order is that of the rows' hashes, and equal rows stay together: no row is in two regions."""
    packed = np.ascontiguousarray(rows).reshape(len(rows), -1)
    digests = np.array([hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in packed], dtype="S8")
    # numpy's S8 drops trailing zero bytes, in comparisons too: harmless, for equal rows stay equal
    order = np.argsort(digests, kind="stable")
    places = []
    for cut in cuts:
        place = round(cut * len(order))
        while 0 < place < len(order) and digests[order[place]] == digests[order[place - 1]]:
            place += 1
        places.append(place)
    return [np.sort(part) for part in np.split(order, places)]


def scaled(train: Split, validation: Split, test: Split) -> tuple[Split, Split, Split]:
    """The regions with inputs, and targets that are numbers, standardized by the training part."""
    inputs = standardized(train[0], validation[0], test[0])
    targets: tuple[Tensor, ...] = (train[1], validation[1], test[1])
    if targets[0].is_floating_point():
        targets = standardized(*targets)
    first, second, third = zip(inputs, targets, strict=True)
    return first, second, third


def check(found: object, name: str, classes: bool) -> Data:
    """The user's data, if it can be trained on. Raises ValueError with the rule, what was received, and of which region."""
    if not isinstance(found, Data):
        raise ValueError(
            f"{name}: `load` returns evosearch.judging.tasks.Data(train, validation, test, outputs), each region a pair (inputs, targets); "
            f"received {type(found).__name__}"
        )
    for region, split in (("train", found.train), ("validation", found.validation), ("test", found.test)):
        fault = _split_fault(split) or (_classes_fault(split[1], found.outputs) if classes else _numbers_fault(split[1], found.outputs))
        if fault:
            raise ValueError(f"{name}, {region}: {fault}")
    if classes and len(found.train[1].unique()) < 2:  # type: ignore[no-untyped-call]
        raise ValueError(f"{name}, train: there is one class alone; nothing can be learned")
    return found


def _split_fault(split: object) -> str | None:
    if not (isinstance(split, tuple) and len(split) == 2 and all(isinstance(part, Tensor) for part in split)):
        return f"a region is a pair of tensors, inputs and targets; received {type(split).__name__}"
    inputs, targets = split
    if not len(inputs) or len(inputs) != len(targets):
        return f"one target an input, and at least one; received {len(inputs)} inputs and {len(targets)} targets"
    if not inputs.is_floating_point() or inputs.dim() < 2:
        return f"inputs are floats `(N, ...)`; received {inputs.dtype} {tuple(inputs.shape)}"
    if not torch.isfinite(inputs).all():
        return "inputs hold NaN or infinity; fill or drop them"
    return None


def _classes_fault(targets: Tensor, outputs: int) -> str | None:
    if targets.is_floating_point() or targets.dim() != 1:
        return f"classes are whole numbers `(N,)`; received {targets.dtype} {tuple(targets.shape)}"
    low, high = int(targets.min()), int(targets.max())
    return f"classes run from 0 to outputs - 1 = {outputs - 1}; received {low} to {high}" if low < 0 or high >= outputs else None


def _numbers_fault(targets: Tensor, outputs: int) -> str | None:
    if not targets.is_floating_point() or targets.dim() != 2 or targets.shape[1] != outputs:
        return f"numbers are floats `(N, {outputs})`; received {targets.dtype} {tuple(targets.shape)}"
    return None if torch.isfinite(targets).all() else "targets hold NaN or infinity; drop those rows"
