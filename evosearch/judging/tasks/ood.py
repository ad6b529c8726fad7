"""ood: synthetic functions, fitted on one range and scored outside it (the fitness of arXiv 2602.05688). The one synthetic task.

Variants `poly` (default), `harmonic`, `feynman`; three functions of two inputs each, fitted at once. Train: the square
of side 2 around zero; validation: the ring around it to side 3; test: the ring around that to side 4. No point is in two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from evosearch.judging.tasks import Data, Split, Task, relative_error

POINTS = {"train": 1024, "validation": 512, "test": 512}
RINGS = {"train": (0.0, 1.0), "validation": (1.0, 1.5), "test": (1.5, 2.0)}  # in the larger of |u|, |v|

FUNCTIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], ...]] = {
    "poly": (lambda u, v: u * u - u * v, lambda u, v: u**3 - v, lambda u, v: u * u * v + v * v),
    "harmonic": (
        lambda u, v: torch.sin(math.pi * u),
        lambda u, v: torch.cos(math.pi * (u + v)),
        lambda u, v: torch.sin(math.pi * u) * torch.cos(math.pi * v),
    ),
    # after equations of the Feynman lectures (arXiv 1905.11481), in units without dimension, u and v moved off the poles
    "feynman": (
        lambda u, v: torch.exp(-u * u / 2) / math.sqrt(2 * math.pi) + 0.5 * v * v,  # I.6.2, I.13.4
        lambda u, v: (3 + u) * (3 + v) / (9 + u * u),  # I.9.18: attraction
        lambda u, v: torch.sqrt(1 + u * u + v * v - 2 * u * v * torch.cos(u - v)),  # I.29.16: superposed waves
    ),
}


@cache
def load(variant: str = "") -> Data:
    """Points `(N, 2)` and values `(N, 3)`, the values standardized by the training range."""
    generator = torch.Generator().manual_seed(0)
    splits = {region: _ring(variant or "poly", *RINGS[region], POINTS[region], generator) for region in RINGS}
    center, spread = splits["train"][1].mean(0), splits["train"][1].std(0)
    train, validation, test = ((points, (values - center) / spread) for points, values in splits.values())
    return Data(train, validation, test, outputs=3)


def _ring(variant: str, inner: float, outer: float, number: int, generator: torch.Generator) -> Split:
    points = (torch.rand(16 * number, 2, generator=generator) * 2 - 1) * outer
    reach = points.abs().amax(1)
    points = points[(reach > inner) & (reach <= outer)][:number]
    return points, torch.stack([f(points[:, 0], points[:, 1]) for f in FUNCTIONS[variant]], 1)


TASK = Task(
    name="ood",
    what="synthetic polynomials, harmonics and equations after Feynman, scored outside the range they are fitted on",
    license="synthetic, made here: no license needed",
    load=load,
    loss=F.mse_loss,
    score=relative_error,
    batch_size=128,
    rates={"mlp": 1e-2, "deep-mlp": 3e-3},
)
