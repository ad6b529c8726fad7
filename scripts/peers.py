"""The searches that ours are measured against, as asks and tells over the rows of a table: few lines each on DEAP and Optuna.

A row may be asked twice: a second ask costs no evaluation, and the peer is reminded of what it was told (or that no one knows yet). Where a peer has a
size to choose, `bench_proposers.py --peers all` tries several on the table itself: in their favour.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from deap import algorithms, base, creator, tools
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)
creator.create("Better", base.Fitness, weights=(1.0,))
creator.create("Choice", list, fitness=creator.Better)

Choice = tuple[int, ...]


@dataclass(frozen=True)
class Ground:
    """What a peer may know: the options at each place, the row of a choice, the number of rows, and a curve for each row
    (of a network: its operations, one mark an edge)."""

    sizes: tuple[int, ...]
    row: Callable[[Choice], int]
    rows: int
    curves: NDArray[np.float32] | None = field(default=None, repr=False)

    def random(self, rng: random.Random) -> Choice:
        return tuple(rng.randrange(size) for size in self.sizes)


class Peer(Protocol):
    """Rows asked, values told: higher is better; `index` numbers the evaluations."""

    def ask(self) -> int: ...

    def tell(self, row: int, value: float, index: int) -> None:
        """The value of a row that was asked, the first time."""

    def again(self, row: int, value: float | None) -> None:
        """The row of the last ask is known already, or asked and not known yet (None): it costs nothing, and the peer is asked again."""


class Random:
    """Rows in random order, none twice."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self.order = list(range(ground.rows))
        random.Random(seed).shuffle(self.order)

    def ask(self) -> int:
        return self.order.pop()

    def tell(self, row: int, value: float, index: int) -> None: ...

    def again(self, row: int, value: float | None) -> None: ...


class Evolution:
    """Regularized evolution (arXiv 1802.01548): the best of a sample is mutated at one place, the oldest dies."""

    def __init__(self, ground: Ground, seed: int, population: int = 10, sample: int = 3) -> None:
        self.ground, self.rng, self.sample, self.founders = ground, random.Random(seed), sample, population
        self.population: deque[tuple[Choice, float]] = deque(maxlen=population)
        self.choice: dict[int, Choice] = {}

    def ask(self) -> int:
        if len(self.choice) < self.founders or not self.population:
            child = self.ground.random(self.rng)
        else:
            several = self.rng.sample(list(self.population), min(self.sample, len(self.population)))
            parent = max(several, key=lambda member: member[1])[0]
            place = self.rng.randrange(len(parent))
            other = self.rng.choice([i for i in range(self.ground.sizes[place]) if i != parent[place]])
            child = (*parent[:place], other, *parent[place + 1 :])
        row = self.ground.row(child)
        self.choice.setdefault(row, child)
        return row

    def tell(self, row: int, value: float, index: int) -> None:
        self.population.append((self.choice.get(row) or self.ground.random(self.rng), value))

    def again(self, row: int, value: float | None) -> None: ...


class EaSimple:
    """DEAP's eaSimple with its own variation and selection; each generation's unknown children are asked one by one."""

    def __init__(self, ground: Ground, seed: int, population: int = 20) -> None:
        random.seed(seed)  # DEAP draws from the global generator
        self.ground, self.size, self.rng = ground, population, random.Random(seed)
        self.box = base.Toolbox()
        self.box.register("clone", lambda c: creator.Choice(c) if not c.fitness.valid else _copied(c))
        self.box.register("mate", tools.cxUniform, indpb=0.5)
        self.box.register("mutate", tools.mutUniformInt, low=[0] * len(ground.sizes), up=[s - 1 for s in ground.sizes], indpb=1 / len(ground.sizes))
        self.box.register("select", tools.selTournament, tournsize=3)
        self.population: list[Any] = [creator.Choice(ground.random(self.rng)) for _ in range(population)]
        self.waiting = list(self.population)
        self.asked: dict[int, list[Any]] = {}

    def ask(self) -> int:
        while not self.waiting:
            parents = [c for c in self.population if c.fitness.valid]  # the others are still being trained
            if not parents:
                self.population = self.waiting = [creator.Choice(self.ground.random(self.rng)) for _ in range(self.size)]
                self.waiting = list(self.waiting)
                break
            pending = [c for c in self.population if not c.fitness.valid]
            children = algorithms.varAnd(self.box.select(parents, self.size), self.box, cxpb=0.5, mutpb=0.2)
            self.waiting = [c for c in children if not c.fitness.valid]
            self.population = children + pending
        child = self.waiting.pop()
        row = self.ground.row(tuple(child))
        self.asked.setdefault(row, []).append(child)
        return row

    def tell(self, row: int, value: float, index: int) -> None:
        for child in self.asked.get(row, []):
            child.fitness.values = (value,)
        self.asked[row] = []

    def again(self, row: int, value: float | None) -> None:
        if value is not None:
            self.tell(row, value, -1)


def _copied(choice: Any) -> Any:
    copy = creator.Choice(choice)
    copy.fitness.values = choice.fitness.values
    return copy


class Sampler:
    """One of Optuna's samplers over a categorical variable for each place; a known row's value is told again, or `once` only."""

    def __init__(self, ground: Ground, sampler: optuna.samplers.BaseSampler, once: bool = False) -> None:
        self.ground, self.once = ground, once
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.space: dict[str, Any] = {f"place{i}": CategoricalDistribution(list(range(size))) for i, size in enumerate(ground.sizes)}
        self.trials: dict[int, list[optuna.Trial]] = {}
        self.told: set[int] = set()

    def ask(self) -> int:
        trial = self.study.ask(self.space)
        row = self.ground.row(tuple(trial.params[name] for name in self.space))
        self.trials.setdefault(row, []).append(trial)
        return row

    def tell(self, row: int, value: float, index: int) -> None:
        self.told.add(row)
        for trial in self.trials.pop(row, []):
            self.study.tell(trial, value)

    def again(self, row: int, value: float | None) -> None:
        waits = value is None and len(self.trials[row]) > 1  # one trial waits for the value, the second is dropped
        if waits or (self.once and value is not None and row in self.told):
            self.study.tell(self.trials[row].pop(), state=TrialState.FAIL)
        elif value is not None:
            self.tell(row, value, -1)


class Neighbors:
    """AQuaSurF's rule on output curves: after some random rows the highest mean of the `k` nearest known ones, among all rows never asked."""

    def __init__(self, ground: Ground, seed: int, k: int = 3, founders: int = 5) -> None:
        assert ground.curves is not None
        self.curves, self.k, self.founders, self.rng = ground.curves, k, founders, np.random.default_rng(seed)
        self.free = np.ones(ground.rows, bool)
        self.values: list[float] = []
        self.distances: list[NDArray[np.float32]] = []

    def ask(self) -> int:
        left = np.flatnonzero(self.free)
        if len(self.values) < self.founders:
            row = int(self.rng.choice(left))
        else:
            near = np.stack(self.distances)[:, left]
            nearest = np.argpartition(near, min(self.k, len(near)) - 1, axis=0)[: self.k]
            mean = np.asarray(self.values)[nearest].mean(0)
            row = int(self.rng.choice(left[mean >= mean.max() - 1e-12]))
        self.free[row] = False
        return row

    def tell(self, row: int, value: float, index: int) -> None:
        self.free[row] = False
        self.values.append(value)
        self.distances.append(np.linalg.norm(self.curves - self.curves[row], axis=1))

    def again(self, row: int, value: float | None) -> None:
        self.free[row] = False


def tpe(ground: Ground, seed: int, once: bool = False, **options: Any) -> Peer:
    return Sampler(ground, optuna.samplers.TPESampler(seed=seed, **options), once)


def nsga2(ground: Ground, seed: int, population: int = 20) -> Peer:
    return Sampler(ground, optuna.samplers.NSGAIISampler(population_size=population, seed=seed))


def knn(ground: Ground, seed: int, **options: Any) -> Peer:
    return Neighbors(ground, seed, **options)


MakePeer = Callable[[Ground, int], Peer]
PEERS: dict[str, MakePeer] = {
    "random": Random,
    "eaSimple": EaSimple,
    "evolution": Evolution,
    "tpe": tpe,
    "nsga2": nsga2,
    "knn": knn,
}
VARIANTS: dict[str, MakePeer] = {
    **{f"eaSimple {n}": lambda g, s, n=n: EaSimple(g, s, n) for n in (10, 40)},  # type: ignore[misc]
    **{f"evolution {n}/{k}": lambda g, s, n=n, k=k: Evolution(g, s, n, k) for n, k in ((20, 5), (20, 10), (40, 10))},  # type: ignore[misc]
    "tpe 5 founders": lambda g, s: tpe(g, s, n_startup_trials=5),
    "tpe univariate": lambda g, s: tpe(g, s, multivariate=False),
    "tpe told once": lambda g, s: tpe(g, s, once=True),
    **{f"nsga2 {n}": lambda g, s, n=n: nsga2(g, s, n) for n in (10, 50)},  # type: ignore[misc]
    **{f"knn {k}/{f}": lambda g, s, k=k, f=f: knn(g, s, k=k, founders=f) for k, f in ((1, 5), (5, 10), (3, 10))},  # type: ignore[misc]
}


def named(names: Sequence[str]) -> dict[str, MakePeer]:
    """Peers by name; `peers` is one of each kind, `all` their variants too."""
    every = PEERS | VARIANTS
    found: dict[str, MakePeer] = {}
    for name in names:
        found |= PEERS if name == "peers" else every if name == "all" else {name: every[name]} if name in every else {}
    return found
