"""Several proposers that share the asks by fixed weights; all of them hear every outcome but those of controls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from evosearch.proposers import Outcome, Proposal, Proposer

CONTROL = "control:"  # begins the proposer of a row that the search is measured against


class Control:
    """A proposer whose functions are no finds: it learns from no result, and nobody learns from its results."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self.name = CONTROL + proposer.name

    def tell(self, outcome: Outcome) -> None:
        """Nothing is learned."""

    def ask(self, rng: random.Random) -> Proposal:
        return replace(self.proposer.ask(rng), proposer=self.name)


class Portfolio:
    """A weighted mixture: which member is asked is drawn from the ask's own randomness."""

    name = "portfolio"

    def __init__(self, members: Sequence[tuple[Proposer, float]]) -> None:
        if not members:
            raise ValueError("a portfolio needs at least one proposer with a share above 0")
        self.members = [member for member, _ in members]
        self.shares = [share for _, share in members]

    def tell(self, outcome: Outcome) -> None:
        if outcome.proposer.startswith(CONTROL):
            return  # else the search would have the control's budget too
        for member in self.members:
            member.tell(outcome)

    def ask(self, rng: random.Random) -> Proposal:
        return rng.choices(self.members, self.shares)[0].ask(rng)
