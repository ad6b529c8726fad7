"""Uniform random walks through the grammar: the control that every other proposer has to beat."""

from __future__ import annotations

import random

from evosearch.proposers import Outcome, Proposal
from evosearch.space import SearchSpace


class RandomProposer:
    """Draws each candidate afresh; learns nothing."""

    name = "random"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def tell(self, outcome: Outcome) -> None:
        """Nothing to learn."""

    def ask(self, rng: random.Random) -> Proposal:
        return Proposal(str(self.space.sample(rng)), (), self.name)
