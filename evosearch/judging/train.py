"""One training run: a pair, a layer, a seed, a learning rate, a number of steps. Deterministic on one thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor, nn

from evosearch.compiler.module import differentiable_twice
from evosearch.judging.architectures import MakeLayer, build
from evosearch.judging.objectives import parse_pair
from evosearch.judging.tasks import Split, Task, task
from evosearch.judging.tasks.plugin import Budget, Loop


class NonFinite(ArithmeticError):
    """Training met a loss or a score that is not finite."""


@dataclass(frozen=True)
class Trained:
    """A trained network's validation score in the task's unit; `test()` scores the test split, for whoever may look."""

    validation: float
    test: Callable[[], float] = field(compare=False)
    curve: tuple[float, ...] = ()  # mean training loss of each eighth of the steps


def train(pair: str, make_layer: MakeLayer, seed: int, rate: float, steps: int, device: str = "cpu", slot: str = "act") -> Trained:
    """Trains the pair's network by Adam at `rate` times the task's tuned rate, with warm-up and cosine decay.

    `slot` says which places of the architecture `make_layer` fills, see `architectures.build`. The seed fixes initial
    weights and batches, and touches no generator outside. Raises NonFinite.
    """
    named = parse_pair(pair)
    job = task(named.task)
    if job.loop is not None:
        return _own_loop(job.name, job.loop, make_layer, seed, Budget(steps, rate, device))
    data = job.load(named.variant)
    with _seeded(seed):
        model = build(named.architecture, make_layer, named.width, data.train[0][:2], data.outputs, slot, named.depth).to(device)
    if job.objective is not None:
        differentiable_twice(model)
    losses = _fit(model, job, data.train, seed, rate * job.rates[named.architecture], steps, device, named.batch or job.batch_size)
    model.eval()
    return Trained(_score(model, job, data.validation, device), partial(_score, model, job, data.test, device), _eighths(losses))


def _eighths(losses: list[float]) -> tuple[float, ...]:
    cuts = [len(losses) * k // 8 for k in range(9)]
    return tuple(fmean(losses[a:b]) for a, b in pairwise(cuts) if b > a)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every CUDA device, for good
        yield


def _own_loop(name: str, loop: Loop, make_layer: MakeLayer, seed: int, budget: Budget) -> Trained:
    with _seeded(seed):
        found = loop(lambda *places, **options: differentiable_twice(make_layer(*places, **options)), seed, budget)

    def test() -> float:
        score = found["test"]
        return _finite(name, float(score() if callable(score) else score))

    return Trained(_finite(name, float(found["validation"])), test)


def _fit(model: nn.Module, job: Task, split: Split, seed: int, rate: float, steps: int, device: str, size: int) -> list[float]:
    """Trains; the losses of all steps."""
    inputs, targets = split
    losses = []
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    model.train()
    for step in range(steps):
        warm = min(1.0, (step + 1) / (0.05 * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = torch.randint(len(inputs), (size,), generator=generator)
        loss = _loss(model, job, inputs[batch].to(device), targets[batch].to(device))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise NonFinite(f"the loss of {job.name} at step {step} is {losses[-1]}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses


def _loss(model: nn.Module, job: Task, inputs: Tensor, targets: Tensor) -> Tensor:
    return job.loss(model(inputs), targets) if job.objective is None else job.objective(model, inputs, targets)


@torch.no_grad()
def _score(model: nn.Module, job: Task, split: Split, device: str) -> float:
    output = torch.cat([model(part.to(device)).cpu() for part in split[0].split(1024)])  # type: ignore[no-untyped-call]
    # accuracy and a clipped PSNR are finite even for a network that answers NaN or infinity
    return _finite(job.name, job.score(output, split[1]) if torch.isfinite(output).all() else math.nan)


def _finite(name: str, score: float) -> float:
    if not math.isfinite(score):
        raise NonFinite(f"the score of {name} is {score}")
    return score
