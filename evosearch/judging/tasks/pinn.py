"""pinn: the wave function of a one-dimensional Schroedinger well, from the equation alone, by second derivatives.

`-1/2 psi'' + V psi = E psi` at an energy known in closed form. Variants: `box` (default), the third state of walls at -1
and 1, E = 9 pi^2 / 8; `harmonic`, the third state of V = x^2 / 2 between walls at -5 and 5, E = 5/2. The trial function is
the network times a boundary factor that is zero at the walls; the loss is the mean square of what the equation leaves,
over the mean square of the trial function. Training never sees the wave function; validation and test compare with its
closed form at points of their own, up to scale and sign. The layer must be differentiable twice (`create_graph`). No data.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evosearch.judging.tasks import Data, Task

POINTS = 600
STRETCH = {"box": 1.0, "harmonic": 5.0}  # half the distance of the walls; the network sees places in [-1, 1]


@cache
def load(variant: str = "") -> Data:
    """Places `(N, 1)` in [-1, 1]. Targets: `2 (E - V) stretch^2` `(N, 1)` to train on; the boundary factor and psi `(N, 2)` to score.

    Of every six places along the line, four are for training, one for validation, one for test.
    """
    box = variant != "harmonic"
    x = ((torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS * 2 - 1)[:, None]
    if box:
        energy, potential, psi = 9 * math.pi**2 / 8, torch.zeros_like(x), torch.cos(1.5 * math.pi * x)
    else:
        z = x * STRETCH["harmonic"]
        energy, potential, psi = 2.5, z * z / 2, (2 * z * z - 1) * torch.exp(-z * z / 2)
    wave = 2 * (energy - potential) * STRETCH["box" if box else "harmonic"] ** 2
    turn = torch.arange(POINTS) % 6
    known = torch.cat([_boundary(x), psi], 1)
    train, validation, test = turn % 3 != 1, turn == 1, turn == 4
    x = x.float()
    return Data((x[train], wave[train].float()), (x[validation], known[validation]), (x[test], known[test]), outputs=1)


def _boundary(x: Tensor) -> Tensor:
    return 1 - x * x


def residual(model: nn.Module, x: Tensor, wave: Tensor) -> Tensor:
    """What the equation leaves of the trial function, relative to it; the trial function is scaled to mean square 1."""
    x = x.detach().requires_grad_()
    psi = model(x) * _boundary(x)
    (slope,) = torch.autograd.grad(psi.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    left: Tensor = (bend + wave * psi).square().mean() / psi.square().mean().clamp_min(1e-12) / WAVE
    return left


WAVE = 100.0  # about the square of 2 E: brings the loss to the size of one


def error(output: Tensor, known: Tensor) -> float:
    """Distance of the trial function from psi in percent of psi, after the best scale: 0 is exact, 100 is orthogonal to it."""
    trial, psi = output[:, 0].double() * known[:, 0], known[:, 1]
    likeness = float((trial @ psi).square() / ((trial @ trial) * (psi @ psi)).clamp_min(1e-30))
    return 100 * math.sqrt(max(0.0, 1 - likeness))


TASK = Task(
    name="pinn",
    what="wave functions of a particle between walls and of an oscillator, from the Schroedinger equation",
    license="an equation: no license needed",
    load=load,
    loss=F.mse_loss,
    score=error,
    batch_size=128,
    rates={"mlp": 1e-2},
    objective=residual,
)
