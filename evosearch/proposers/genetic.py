"""Genetic programming: parents by NSGA-II, children by typed crossover and mutation."""

from __future__ import annotations

import random

from evosearch.proposers import Outcome, Proposal
from evosearch.proposers.neighbours import Neighbours
from evosearch.proposers.selection import POPULATION, Parent, parent_of, taken_in, tournament
from evosearch.proposers.variation import Variation
from evosearch.space import SearchSpace

FOUNDERS = 16  # random candidates before selection has anything to say
HOPEFUL = 0.8  # share of asks that propose the most hopeful of several children, not one as it comes


class GeneticProposer:
    """Parents by NSGA-II over the mean and the `goals` of committed outcomes, children by typed crossover and mutation."""

    name = "genetic"

    def __init__(self, space: SearchSpace, goals: tuple[str, ...] = ("worst", "complexity")) -> None:
        self.space, self.objectives = space, ("mean", *goals)
        self.population: list[Parent] = []
        self.variation = Variation(space)
        self.neighbours = Neighbours(space)

    def tell(self, outcome: Outcome) -> None:
        """Takes an outcome into the population if it lies in the space, is measured and none like it is better; NSGA-II says who stays."""
        parent = parent_of(outcome, self.space, self.objectives)
        if parent is not None:
            parent.place = self.neighbours.tell(parent.parsed, parent.mean)
        self.population = taken_in(self.population, outcome, parent, POPULATION)

    def ask(self, rng: random.Random) -> Proposal:
        if len(self.population) < FOUNDERS:
            return Proposal(str(self.space.sample(rng)), (), self.name)
        hopeful = self.neighbours if rng.random() < HOPEFUL else None
        return self.variation.child(lambda: tournament(self.population, rng), rng, self.name, hopeful)
