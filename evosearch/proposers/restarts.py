"""A search that gains nothing for long begins anew: how long a search takes has a heavy tail, for its first good candidates decide where it goes.

Restarts cut that tail (Gomes et al., "Heavy-Tailed Phenomena in Satisfiability and Constraint Satisfaction Problems", J. Autom. Reasoning 2000).
What was found is in the log, and what is proposed again is a duplicate to the driver.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from evosearch.proposers import Outcome, Proposal, Proposer
from evosearch.proposers.portfolio import CONTROL

_PATIENCE = 300  # measured outcomes without a gain
_FOUNDERS = 16  # outcomes before a gain is spoken of
_GAIN = 0.05  # of what was gained so far, over the founders' best: less is polish


@dataclass
class Course:
    """How the best score went since the beginning."""

    founders: float = -math.inf
    best: float = -math.inf  # at the last gain
    told: int = 0
    gained: int = 0  # how many were told by the last gain

    def tell(self, score: float) -> None:
        """One more measured outcome."""
        self.told += 1
        if self.told <= _FOUNDERS:
            self.founders = max(self.founders, score)
            self.best, self.gained = self.founders, self.told
        elif score > self.best + _GAIN * (self.best - self.founders):
            self.best, self.gained = score, self.told

    @property
    def is_over(self) -> bool:
        """Whether nothing was gained for long."""
        return self.told - self.gained >= _PATIENCE


class Restarting:
    """What `make` makes, made again when nothing was gained for long."""

    def __init__(self, make: Callable[[], Proposer]) -> None:
        self._make = make
        self._begin()
        self.name = self.proposer.name

    def _begin(self) -> None:
        self.proposer, self._course = self._make(), Course()

    def tell(self, outcome: Outcome) -> None:
        """As the proposer; the last outcome of a course is told to nobody."""
        if outcome.status == "ok" and "mean" in outcome.objectives and not outcome.proposer.startswith(CONTROL):
            self._course.tell(outcome.objectives["mean"])
        if self._course.is_over:
            self._begin()
        else:
            self.proposer.tell(outcome)

    def ask(self, rng: random.Random) -> Proposal:
        return self.proposer.ask(rng)
