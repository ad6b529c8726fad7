"""Exhaustion: every function of the space once, the smallest first."""

from __future__ import annotations

import random
from collections.abc import Iterator

from evosearch.language.candidate import Candidate
from evosearch.language.graph import Graph
from evosearch.meaning.numeric import equal, fingerprints
from evosearch.meaning.screen import numeric
from evosearch.proposers import Outcome, Proposal
from evosearch.space import SearchSpace
from evosearch.space.trees import smallest_first

_FRONT = 32  # proposals are drawn from so many of the smallest: those that are on their way are not told yet
_LARGEST = 64  # productions of a tree


class EnumerateProposer:
    """One representative of each function, the shortest; what is constant, affine or not finite is no function worth asking."""

    name = "enumerate"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._told: set[str] = set()
        self._waiting: list[str] = []
        self._coming = self._representatives()

    def tell(self, outcome: Outcome) -> None:
        """What was asked, by whom ever, and what the driver turned away is not proposed again."""
        self._told.add(outcome.candidate)

    def ask(self, rng: random.Random) -> Proposal:
        self._waiting = [text for text in self._waiting if text not in self._told]
        while len(self._waiting) < _FRONT and (text := next(self._coming, None)) is not None:
            if text not in self._told:
                self._waiting.append(text)
        return Proposal(rng.choice(self._waiting) if self._waiting else str(self.space.sample(rng)), (), self.name)

    def _representatives(self) -> Iterator[str]:
        """The candidates' texts in order; a function of the space alone."""
        seen: set[str] = set()
        functions: dict[bytes | None, list[Graph]] = {}
        for tree in smallest_first(self.space.productions, self.space.root, _LARGEST):
            candidate = self.space.build(tree)
            if candidate is None or str(candidate) in seen:
                continue
            seen.add(str(candidate))
            if self._is_new(candidate, functions):
                yield str(candidate)

    def _is_new(self, candidate: Candidate, functions: dict[bytes | None, list[Graph]]) -> bool:
        if set(candidate.slots) != {"act"} or candidate.choices:
            return True  # a network is its text
        graph = candidate.graph
        if numeric(graph) is not None:
            return False
        same = functions.setdefault(fingerprints([graph])[0], [])
        if any(equal(graph, other) for other in same):
            return False
        same.append(graph)
        return True
