"""SearchSpace: what may be built. Every space is a typed grammar, so that one walk samples, one crossover crosses and one count counts.

A candidate is grown as a tree of productions: `operators` builds free formulas of the operator table, `grammar` formulas of forms
with holes that a YAML states, `network` several of them together with named choices.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from evosearch.language.candidate import Candidate

# (name of a production, the tree of each of its inputs)
Tree = tuple[str, tuple["Tree", ...]]  # type: ignore[misc]


@dataclass(frozen=True)
class Production:
    """One way to make a value of a type: its name is its own within that type; `args` are the types of its inputs, none for a leaf."""

    name: str
    args: tuple[str, ...] = ()


class SearchSpace(Protocol):
    """What may be built."""

    @property
    def slot(self) -> str:
        """The place of a network that is filled: `act`, `norm_act`, `gate`."""

    @property
    def max_nodes(self) -> int:
        """The size of the largest formula."""

    @property
    def max_parameters(self) -> int:
        """The most learnable parameters of a formula."""

    @property
    def per_channel(self) -> bool:
        """Whether a formula may hold one value a channel: a layer then has to be told how many channels there are."""

    @property
    def root(self) -> str:
        """The type of a whole candidate."""

    @property
    def productions(self) -> Mapping[str, tuple[Production, ...]]:
        """The typed grammar: the ways to make a value, by type."""

    @property
    def numeric(self) -> frozenset[str]:
        """Types whose leaves are named by a number; any finite number of the language may stand there, not only those listed."""

    def build(self, tree: Tree) -> Candidate | None:
        """The candidate of a tree; None where it breaks a limit of the space."""

    def derive(self, candidate: Candidate) -> Tree | None:
        """A tree that builds the candidate; None for one that is not in the space."""

    def contains(self, candidate: Candidate) -> bool:
        """Whether the space can say it."""

    def sample(self, rng: random.Random) -> Candidate:
        """One at random. Raises ValueError when 1,000 walks find none that fits."""
