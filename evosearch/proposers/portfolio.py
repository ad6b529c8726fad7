"""Several proposers that share the asks by fixed weights; all of them hear every outcome."""

from __future__ import annotations

import random
from collections.abc import Sequence

from evosearch.proposers import Outcome, Proposal, Proposer


class Portfolio:
    """A weighted mixture: which member is asked is drawn from the ask's own randomness."""

    name = "portfolio"

    def __init__(self, members: Sequence[tuple[Proposer, float]]) -> None:
        if not members:
            raise ValueError("a portfolio needs at least one proposer with a share above 0")
        self.members = [member for member, _ in members]
        self.shares = [share for _, share in members]

    def tell(self, outcome: Outcome) -> None:
        for member in self.members:
            member.tell(outcome)

    def ask(self, rng: random.Random) -> Proposal:
        return rng.choices(self.members, self.shares)[0].ask(rng)
