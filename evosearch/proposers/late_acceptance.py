"""Late-acceptance hill climbing, with which SAFS searches activations (Loni et al. 2023): a step is taken when it is no worse than some steps ago."""

from __future__ import annotations

import random
from collections import deque

from evosearch.proposers import Outcome, Proposal
from evosearch.proposers.selection import Parent, parent_of
from evosearch.proposers.variation import TRIES, Variation
from evosearch.space import SearchSpace

_LATE = 8  # steps


class LateAcceptanceProposer:
    """One function walks: its mutants are proposed, and one that was measured no worse than where the walk stood `_LATE` steps ago is the next."""

    name = "late-acceptance"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.current: Parent | None = None
        self.past: deque[float] = deque(maxlen=_LATE)
        self.variation = Variation(space)

    def tell(self, outcome: Outcome) -> None:
        """A step of its own; the walk begins at the first function of any proposer."""
        parent = parent_of(outcome, self.space, ("mean",))
        if parent is None or (self.current is not None and outcome.proposer != self.name):
            return
        if self.current is None or parent.mean >= min(self.current.mean, self.past[0]):
            self.current = parent
        self.past.append(self.current.mean)

    def ask(self, rng: random.Random) -> Proposal:
        if self.current is not None:
            for _ in range(TRIES):
                found = self.variation.mutant(self.current.tree, rng)
                if found is not None and str(found) != self.current.candidate:
                    return Proposal(str(found), (self.current.canonical_id,), self.name)
        return Proposal(str(self.space.sample(rng)), (), self.name)
