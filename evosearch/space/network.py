"""A network: a layer for each of its slots, each of a space of its own, and choices such as depth or width."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from evosearch.language.candidate import Candidate, Choice
from evosearch.space import Production, SearchSpace, Tree

_ROOT = "network"


@dataclass(frozen=True)
class NetworkSpace:
    """`slots` by name, each with the space of its layer, and `choices` by name with their values. Slots that share a space exchange parts."""

    slots: Mapping[str, SearchSpace]
    choices: Mapping[str, tuple[Choice, ...]]
    slot: str = "act"

    root = _ROOT

    def __post_init__(self) -> None:
        if not self.slots and not self.choices:
            raise ValueError("a network space has slots or choices; received neither")
        both = set(self.slots) & set(self.choices)
        if both:
            raise ValueError(f"`{min(both)}` is a slot and a choice; name one otherwise")

    @cached_property
    def _spaces(self) -> list[SearchSpace]:
        """The spaces of the slots, each once."""
        found: list[SearchSpace] = []
        for space in self.slots.values():
            if not any(space is other for other in found):
                found.append(space)
        return found

    def _prefix(self, space: SearchSpace) -> str:
        return f"{next(i for i, other in enumerate(self._spaces) if other is space)}:"

    @property
    def max_nodes(self) -> int:
        """The size of the largest formula of a slot."""
        return max((space.max_nodes for space in self._spaces), default=1)

    @property
    def max_parameters(self) -> int:
        """The most learnable parameters of a formula of a slot."""
        return max((space.max_parameters for space in self._spaces), default=0)

    @property
    def per_channel(self) -> bool:
        return any(space.per_channel for space in self._spaces)

    @cached_property
    def numeric(self) -> frozenset[str]:
        """Those of the slots' spaces."""
        return frozenset(self._prefix(space) + kind for space in self._spaces for kind in space.numeric)

    @cached_property
    def productions(self) -> Mapping[str, tuple[Production, ...]]:
        """The network, what the slots' spaces make, and each choice's values."""
        slots = tuple(self._prefix(space) + space.root for space in self.slots.values())
        found: dict[str, tuple[Production, ...]] = {_ROOT: (Production(_ROOT, (*slots, *self.choices)),)}
        for space in self._spaces:
            prefix = self._prefix(space)
            for kind, ways in space.productions.items():
                found[prefix + kind] = tuple(Production(way.name, tuple(prefix + arg for arg in way.args)) for way in ways)
        return found | {name: tuple(Production(repr(value)) for value in values) for name, values in self.choices.items()}

    def build(self, tree: Tree) -> Candidate | None:
        """The candidate of a tree; None where a slot's formula breaks a limit of its space."""
        parts = list(tree[1])
        layers = {name: space.build(part) for (name, space), part in zip(self.slots.items(), parts, strict=False)}
        chosen = zip(self.choices.items(), parts[len(layers) :], strict=True)
        choices = {name: next(value for value in values if repr(value) == part[0]) for (name, values), part in chosen}
        slots = {name: layer.graph for name, layer in layers.items() if layer is not None}
        return Candidate(slots, choices) if len(slots) == len(layers) else None

    def derive(self, candidate: Candidate) -> Tree | None:
        """A tree that builds the candidate; None for one that is not in the space."""
        if set(candidate.slots) != set(self.slots) or set(candidate.choices) != set(self.choices):
            return None
        layers = [space.derive(Candidate({"act": candidate.slots[name]})) for name, space in self.slots.items()]
        found = [layer for layer in layers if layer is not None]
        if len(found) < len(layers) or any(candidate.choices[name] not in values for name, values in self.choices.items()):
            return None
        return _ROOT, (*found, *((repr(candidate.choices[name]), ()) for name in self.choices))

    def contains(self, candidate: Candidate) -> bool:
        """Whether its slots and choices are those of the space, and each layer and value lies in it."""
        return self.derive(candidate) is not None

    def sample(self, rng: random.Random) -> Candidate:
        """Every layer and every choice at random. Raises ValueError where a slot's space does."""
        slots = {name: space.sample(rng).graph for name, space in self.slots.items()}
        return Candidate(slots, {name: rng.choice(values) for name, values in self.choices.items()})
