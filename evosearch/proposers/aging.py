"""Regularized evolution: the oldest dies, not the worst (Real et al., arXiv 1802.01548), with the tournament of EvoNorms."""

from __future__ import annotations

import random
from collections import deque

from evosearch.proposers import Outcome, Proposal
from evosearch.proposers.genetic import FOUNDERS
from evosearch.proposers.selection import Parent, parent_of, tournament
from evosearch.proposers.variation import Variation
from evosearch.space import SearchSpace

_ALIVE = 64


class AgingProposer:
    """The parents are the latest `_ALIVE` measured functions: a lucky score dies of age."""

    name = "aging"

    def __init__(self, space: SearchSpace, goals: tuple[str, ...] = ("worst", "complexity")) -> None:
        self.space, self.objectives = space, ("mean", *goals)
        self.alive: deque[Parent] = deque(maxlen=_ALIVE)
        self.variation = Variation(space)

    def tell(self, outcome: Outcome) -> None:
        """The newest joins, the oldest leaves."""
        parent = parent_of(outcome, self.space, self.objectives)
        if parent is not None:
            self.alive.append(parent)

    def ask(self, rng: random.Random) -> Proposal:
        if len(self.alive) < FOUNDERS:
            return Proposal(str(self.space.sample(rng)), (), self.name)
        return self.variation.child(lambda: tournament(self.alive, rng), rng, self.name)
