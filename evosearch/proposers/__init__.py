"""What proposes candidates: ask / tell, nothing else. A proposer knows neither torch, nor executors, nor the log.

The law of the seam: `ask(rng)` is a pure function of what was told so far, in the order it was told, and of `rng`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

SCREENED = -1  # the index of what the driver turned away: it was not dispatched
STAGES = ("quick_mean", "mean", "first_rate_mean", "first_seed_mean", "full_mean")  # objectives by how far a candidate came; `mean` is of the quality test


@dataclass(frozen=True)
class Outcome:
    """A committed result, or the driver's verdict on a proposal, as a proposer sees it; every objective is finite and to be maximized."""

    index: int
    candidate: str
    proposer: str
    status: str
    objectives: Mapping[str, float]
    noise: float = 0.0  # of `mean` and `worst`: their standard error by the luck of a seed


@dataclass(frozen=True)
class Proposal:
    """A candidate's text, the canonical ids it descends from, and the proposer that made it."""

    candidate: str
    parents: tuple[str, ...]
    proposer: str


class Proposer(Protocol):
    """Ask / tell."""

    name: str

    def tell(self, outcome: Outcome) -> None:
        """Takes one committed outcome, in index order; and at once what the driver turned away (`duplicate`, `rejected`)."""

    def ask(self, rng: random.Random) -> Proposal:
        """The next candidate; all randomness comes from `rng`."""
