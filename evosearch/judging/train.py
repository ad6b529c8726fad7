"""One training run: a pair, a layer, a seed, a learning rate, a number of steps. Deterministic on one thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor, nn

from evosearch.compiler.module import compile_graph, differentiable_twice
from evosearch.judging.architectures import Layers, MakeLayer, build, factory
from evosearch.judging.measured import Network, answers, measure, noting
from evosearch.judging.objectives import parse_pair
from evosearch.judging.state import Saved, SavedState
from evosearch.judging.tasks import Split, Task, task
from evosearch.judging.tasks.plugin import Budget, Loop
from evosearch.language.candidate import Candidate


def _adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True)


def _sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Momentum 0.9; tuned rates are Adam's."""
    return torch.optim.SGD(model.parameters(), lr=SGD_OVER_ADAM * rate, momentum=0.9)


SGD_OVER_ADAM = 10.0  # the best for ReLU, GELU and tanh is 1 to 30 times Adam's rate
OPTIMIZERS = {"adam": _adam, "sgd": _sgd}


class NonFinite(ArithmeticError):
    """Training met a loss or a score that is not finite."""


def _unknown_network(names: Sequence[str]) -> dict[str, float]:
    raise ValueError(f"a training loop of its own does not give its network away; {', '.join(names)} cannot be measured on it")


@dataclass(frozen=True)
class Trained:
    """A trained network's validation score in the task's unit; `test()` scores the test split, for whoever may look.

    `measure(names)` gives further objectives of the network on the validation split (see `measured`), and `model` is that network,
    in evaluation mode; there is none of a user's whole training loop.
    """

    validation: float
    test: Callable[[], float] = field(compare=False)
    curve: tuple[float, ...] = ()  # mean training loss of each eighth of the steps
    measure: Callable[[Sequence[str]], dict[str, float]] = field(default=_unknown_network, compare=False)
    model: nn.Module | None = field(default=None, compare=False, repr=False)


def train(
    pair: str, make_layer: MakeLayer | Layers, seed: int, rate: float, steps: int, device: str = "cpu", slot: str = "act",
    *, optimizer: str = "adam", gain: float = 1.0, state: SavedState | None = None,
) -> Trained:  # fmt: skip
    """Trains the pair's network at `rate` times the task's tuned rate, with warm-up and cosine decay.

    - `slot`: which places of the architecture `make_layer` fills, see `architectures.build`. A network is given as `Layers`.
    - `optimizer`: a key of OPTIMIZERS. A task's own training loop has its own.
    - `gain`: the initial weights behind the first layer are so many times as large; 1 / sqrt(E f^2) keeps the variance of an
      activation `f` (the networks begin with LeCun's initialization, which is right for the identity).
    - `state`: where a long training is kept, see `state`; of this layer alone, since the file is named by all else.

    The seed fixes initial weights and batches, and touches no generator outside. Raises NonFinite.
    """
    named = parse_pair(pair)
    job = task(named.task)
    if job.loop is not None:
        if isinstance(make_layer, Layers):
            raise ValueError(f"{job.name} is a training loop of its own, which takes one layer; a network is trained on other pairs")
        return _own_loop(job.name, job.loop, make_layer, seed, Budget(steps, rate, device))
    data = job.load(named.variant)
    base = factory.base_rate(named.architecture) if named.is_own_model else job.rates[named.architecture]
    slots: list[nn.Module] = []
    with _seeded(seed):
        model = network(pair, noting(make_layer, slots), slot).to(device)
        _scale(model, gain)
        if job.objective is not None:
            differentiable_twice(model)
        name = f"{pair}, seed {seed}, rate {rate!r}, steps {steps}, {optimizer}, gain {gain!r}, slot {slot}"
        fit = _Fit(model, job, OPTIMIZERS[optimizer](model, rate * base), steps, device, named.batch or job.batch_size)
        losses = fit.run(data.train, seed, Saved(state, name) if state else None)
    model.eval()
    measured = partial(measure, Network(model, slots, data.validation, job.score, device, seed))
    test = partial(_score, model, job, data.test, device)
    return Trained(_score(model, job, data.validation, device), test, _eighths(losses), measured, model)


def layers_of(candidate: Candidate, compiled: Callable[..., nn.Module] = compile_graph) -> MakeLayer | Layers:
    """What makes the candidate's layers: of a network, in each of its slots."""
    makers = {graph: partial(compiled, graph) for graph in candidate.sites}
    return makers[candidate.graph] if candidate.is_layer else Layers([makers[graph] for graph in candidate.sites], candidate.choices)


def untrained(pair: str, candidate: Candidate) -> nn.Module:
    """The pair's network of this candidate, as the seed 0 makes it."""
    with _seeded(0):
        return network(pair, layers_of(candidate))


def network(pair: str, make_layer: MakeLayer | Layers, slot: str = "act") -> nn.Module:
    """The pair's network, freshly initialized from torch's generator."""
    named = parse_pair(pair)
    data = task(named.task).load(named.variant)
    return build(named.architecture, make_layer, named.width, data.train[0][:2], data.outputs, slot, named.depth)


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


@torch.no_grad()
def _scale(model: nn.Module, gain: float) -> None:
    """Multiplies the weights of every linear and convolutional layer behind the first."""
    for module in [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))][1:]:
        module.weight.mul_(gain)


@dataclass(frozen=True)
class _Fit:
    """What is trained, and how."""

    model: nn.Module
    job: Task
    optimizer: torch.optim.Optimizer
    steps: int
    device: str
    size: int  # of a batch

    def run(self, split: Split, seed: int, saved: Saved | None) -> list[float]:
        """Trains from where it was `saved`, or from the start; the losses of all steps."""
        inputs, targets = split
        generator = torch.Generator().manual_seed(seed + 1)
        losses = saved.load(self.model, self.optimizer, generator) if saved else []
        rate = self.optimizer.defaults["lr"]
        self.model.train()
        for step in range(len(losses), self.steps):
            warm = min(1.0, (step + 1) / (0.05 * self.steps))
            for group in self.optimizer.param_groups:
                group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            batch = torch.randint(len(inputs), (self.size,), generator=generator)
            loss = _loss(self.model, self.job, inputs[batch].to(self.device), targets[batch].to(self.device))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise NonFinite(f"the loss of {self.job.name} at step {step} is {losses[-1]}")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if saved:
                saved.keep(self.model, self.optimizer, generator, losses, at_end=step == self.steps - 1)
        return losses


def _loss(model: nn.Module, job: Task, inputs: Tensor, targets: Tensor) -> Tensor:
    return job.loss(model(inputs), targets) if job.objective is None else job.objective(model, inputs, targets)


@torch.no_grad()
def _score(model: nn.Module, job: Task, split: Split, device: str) -> float:
    output = answers(model, split[0], device)
    # accuracy and a clipped PSNR are finite even for a network that answers NaN or infinity
    return _finite(job.name, job.score(output, split[1]) if torch.isfinite(output).all() else math.nan)


def _finite(name: str, score: float) -> float:
    if not math.isfinite(score):
        raise NonFinite(f"the score of {name} is {score}")
    return score
