"""Which told candidates are parents: NSGA-II and NSGA-III by DEAP, crowding by what candidates compute, the tournament of EvoNorms."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from deap import base, tools

from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.meaning.numeric import Array
from evosearch.proposers import SCREENED, Outcome
from evosearch.space import SearchSpace, Tree

POPULATION = 48
TOURNAMENT = 5
MANY = 4  # objectives, for NSGA-III
NOISY = ("mean", "worst")
GREED = 0.5
_ALIKE = 0.1  # squared distance of two curves, of which 1 is usual: one parent of such is enough


class _Fitness(base.Fitness):  # type: ignore[misc]
    def __init__(self, values: tuple[float, ...]) -> None:
        self.weights = (1.0,) * len(values)
        super().__init__(values)


@dataclass(eq=False)
class Parent:
    """A told candidate in the shape that DEAP's selection wants."""

    candidate: str
    parsed: Candidate
    canonical_id: str
    tree: Tree
    mean: float  # as it was told; in `fitness` scores closer than the noise are equal
    fitness: Any
    place: Array | None = None  # where what it computes lies among others

    def is_like(self, other: Parent) -> bool:
        """Whether the two compute nearly the same."""
        if self.canonical_id == other.canonical_id or self.place is None or other.place is None:
            return self.canonical_id == other.canonical_id
        return float(((self.place - other.place) ** 2).sum()) < _ALIKE


def parent_of(outcome: Outcome, space: SearchSpace, objectives: Sequence[str]) -> Parent | None:
    """A parent, where the outcome is measured and lies in the space."""
    if outcome.status != "ok" or any(name not in outcome.objectives for name in objectives):
        return None
    candidate = parse_candidate(outcome.candidate)
    tree = space.derive(candidate)
    if tree is None:
        return None
    values = tuple(_boxed(outcome.objectives[name], outcome.noise if name in NOISY else 0.0) for name in objectives)
    return Parent(outcome.candidate, candidate, candidate.canonical_id, tree, outcome.objectives["mean"], _Fitness(values))


def _boxed(value: float, width: float) -> float:
    """The lower end of the value's box: of two in one box neither dominates by it, and the simpler one wins (epsilon-dominance, Laumanns et al. 2002)."""
    return math.floor(value / width) * width if width > 0 else value


def survivors(population: list[Parent], size: int) -> list[Parent]:
    """Who stays: fronts first, then the lonely ones of the last, by NSGA-II; with four objectives or more by NSGA-III's directions.

    The non-dominated sort takes O(n log n).
    """
    if len(population) <= size:
        return population
    objectives = len(population[0].fitness.wvalues)
    if objectives < MANY:
        return list(tools.selNSGA2(population, size, nd="log"))
    divisions = max(p for p in range(1, size) if math.comb(objectives + p - 1, p) <= size)
    before = numpy.random.get_state()  # DEAP shuffles by NumPy's global generator, which is lent to it
    numpy.random.seed(len(population))
    try:
        return list(tools.selNSGA3(population, size, tools.uniform_reference_points(objectives, divisions), nd="log"))
    finally:
        numpy.random.set_state(before)


def taken_in(population: list[Parent], outcome: Outcome, parent: Parent | None, size: int) -> list[Parent]:
    """The population after an outcome that is `parent`, or none: what it said of the same function before is forgotten.

    Of parents that compute nearly the same (where places are known) the best by the objectives in their order stays, of equals the latest
    (crowding): else the neighbourhood of the first good one is soon all there is.
    """
    if outcome.index == SCREENED:
        return population
    others = [other for other in population if other.candidate != outcome.candidate]
    alike = [other for other in others if parent is not None and parent.is_like(other)]
    if parent is None or any(other.fitness.wvalues > parent.fitness.wvalues for other in alike):
        return others
    return survivors([*(other for other in others if other not in alike), parent], size)


def front(population: Sequence[Parent]) -> list[Parent]:
    """Those that no other dominates."""
    return list(tools.sortLogNondominated(list(population), len(population), first_front_only=True)) if population else []


def tournament(population: Sequence[Parent], rng: random.Random) -> Parent:
    """Of some drawn at random the one with the best mean, or any that none of them dominates (EvoNorms, arXiv 2004.02967, section 3.3)."""
    drawn = [rng.choice(population) for _ in range(TOURNAMENT)]
    return max(drawn, key=lambda parent: parent.mean) if rng.random() < GREED else rng.choice(front(drawn))
