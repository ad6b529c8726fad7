"""Genetic programming on several islands: each has parents of its own, and every so often a child goes to all of them."""

from __future__ import annotations

import random
import zlib

from evosearch.proposers import Outcome, Proposal
from evosearch.proposers.genetic import HOPEFUL
from evosearch.proposers.neighbours import Neighbours
from evosearch.proposers.selection import Parent, parent_of, taken_in, tournament
from evosearch.proposers.variation import Variation
from evosearch.space import SearchSpace

_ISLANDS = 4
_SIZE = 24  # parents of an island
_FOUNDERS = 8
_MIGRATION = 20  # every twentieth outcome is told to all islands


class IslandsProposer:
    """NSGA-II on each island; which one a child belongs to stands in its proposer's name, `islands:2`."""

    name = "islands"

    def __init__(self, space: SearchSpace, goals: tuple[str, ...] = ("worst", "complexity")) -> None:
        self.space, self.objectives = space, ("mean", *goals)
        self.islands: list[list[Parent]] = [[] for _ in range(_ISLANDS)]
        self.variation = Variation(space)
        self.neighbours = Neighbours(space)

    def tell(self, outcome: Outcome) -> None:
        """A child goes to the island of its parents, any other function where its text says."""
        parent = parent_of(outcome, self.space, self.objectives)
        if parent is not None:
            parent.place = self.neighbours.tell(parent.parsed, parent.mean)
        name, _, island = outcome.proposer.partition(":")
        home = int(island) if name == self.name and island.isdigit() else zlib.crc32(outcome.candidate.encode())
        for i, population in enumerate(self.islands):
            if i == home % _ISLANDS or outcome.index % _MIGRATION == 0 or any(other.candidate == outcome.candidate for other in population):
                self.islands[i] = taken_in(population, outcome, parent, _SIZE)

    def ask(self, rng: random.Random) -> Proposal:
        island = rng.randrange(_ISLANDS)
        population, name = self.islands[island], f"{self.name}:{island}"
        if len(population) < _FOUNDERS:
            return Proposal(str(self.space.sample(rng)), (), name)
        hopeful = self.neighbours if rng.random() < HOPEFUL else None
        return self.variation.child(lambda: tournament(population, rng), rng, name, hopeful)
