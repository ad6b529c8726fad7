"""Several proposers that share the asks, by what they earned or by fixed shares; all of them hear every outcome but those of controls."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evosearch.proposers import SCREENED, Outcome, Proposal, Proposer

CONTROL = "control:"  # begins the proposer of a row that the search is measured against

_GOOD = 0.1  # an outcome among the best tenth so far is a success
_FEW = 10  # outcomes before anyone is judged
_MEMORY = 0.98  # of earlier successes and failures, an outcome: who was good long ago has to be so again


class Control:
    """A proposer whose functions are no finds: it learns from no result, and nobody learns from its results."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self.name = CONTROL + proposer.name

    def tell(self, outcome: Outcome) -> None:
        """Nothing is learned."""

    def ask(self, rng: random.Random) -> Proposal:
        return replace(self.proposer.ask(rng), proposer=self.name)


@dataclass
class Earnings:
    """What a member's outcomes were: discounted successes and failures."""

    successes: float = 0.0
    failures: float = 0.0

    def add(self, is_success: bool) -> None:
        """One more outcome; the earlier ones count a little less."""
        self.successes, self.failures = _MEMORY * self.successes + is_success, _MEMORY * self.failures + (not is_success)

    def draw(self, rng: random.Random) -> float:
        """A rate of success that the outcomes allow (Thompson sampling; before any, a tenth)."""
        return rng.betavariate(1.0 + self.successes, 1 / _GOOD - 1 + self.failures)


class Portfolio:
    """Which member is asked is drawn from the ask's own randomness: a control by its share, a proposer by its share times what it earned.

    `shares` of the members add up to 1, those of the controls are multiples of all members together. With `by_earnings` a
    member's share is weighed with the square of its rate of success, an outcome among the best tenth of all.
    """

    name = "portfolio"

    def __init__(self, members: Sequence[tuple[Proposer, float]], controls: Sequence[tuple[Control, float]] = (), by_earnings: bool = False) -> None:
        if not members:
            raise ValueError("a portfolio needs at least one proposer with a share above 0")
        self.members = [member for member, _ in members]
        self.shares = [share for _, share in members]
        self.controls = list(controls)
        self.by_earnings = by_earnings
        self.earnings = {member.name: Earnings() for member in self.members}
        self._means: list[float] = []

    def tell(self, outcome: Outcome) -> None:
        if outcome.proposer.startswith(CONTROL):
            return  # else the search would have the control's budget too
        if outcome.index != SCREENED:
            self._credit(outcome)
        for member in self.members:
            member.tell(outcome)

    def _credit(self, outcome: Outcome) -> None:
        mean = outcome.objectives.get("mean", -math.inf) if outcome.status == "ok" else -math.inf
        earned = self.earnings.get(outcome.proposer.partition(":")[0])  # `islands:2` is of `islands`
        if earned is not None and len(self._means) >= _FEW:
            earned.add(mean > -math.inf and bisect_left(self._means, mean) >= (1 - _GOOD) * len(self._means))
        insort(self._means, mean)

    def ask(self, rng: random.Random) -> Proposal:
        asked = rng.choices([None, *(control for control, _ in self.controls)], [sum(self.shares), *(share for _, share in self.controls)])[0]
        if asked is not None:
            return asked.ask(rng)
        shares = self.shares
        if self.by_earnings and len(self.members) > 1:
            shares = [share * self.earnings[member.name].draw(rng) ** 2 for member, share in zip(self.members, self.shares, strict=True)]
        return rng.choices(self.members, shares)[0].ask(rng)
