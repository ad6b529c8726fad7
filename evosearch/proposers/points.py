"""Candidates as points: two are near where their layers do alike and their choices agree. One coordinate system a space."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.language.candidate import Candidate
from evosearch.language.graph import Graph
from evosearch.meaning.features import features, probe_for
from evosearch.meaning.numeric import Array, fingerprints
from evosearch.proposers.process import squared_distances
from evosearch.space import SearchSpace

_SAMPLES = 256  # say what distance is usual in the space
_REMEMBERED = 20_000  # graphs
Key = tuple[object, ...]  # what equal candidates share


@dataclass(frozen=True)
class Point:
    """A candidate's place; `prior` is what is believed of it beforehand (0 is usual, above is better), `usable` whether its layers are finite."""

    place: Array
    prior: float
    usable: bool


class Points:
    """The coordinates of a space's candidates; each slot and each choice weighs the same, and a usual squared distance is 1."""

    def __init__(self, space: SearchSpace) -> None:
        rng = random.Random(0)  # of no search: the coordinates are the space's own
        some = [space.sample(rng) for _ in range(_SAMPLES)]
        self.slots = tuple(sorted(some[0].slots))
        self.choices = {name: tuple(dict.fromkeys(sorted((c.choices[name] for c in some), key=str))) for name in sorted(some[0].choices)}
        self._probes = {name: probe_for([c.slots[name] for c in some]) for name in self.slots}
        self._known: dict[tuple[str, Graph], tuple[Array, float, bool]] = {}
        self._scales: dict[str, float] = {}
        self._usual: dict[str, tuple[float, float]] = {}
        for name in self.slots:
            self._measure(name, [c.slots[name] for c in some])

    def _measure(self, name: str, graphs: Sequence[Graph]) -> None:
        found = features(graphs, self._probes[name])
        curves, steepness = found.curve[found.usable], found.steepness[found.usable]
        apart = squared_distances(curves, curves)
        apart = apart[apart > 1e-9]
        self._scales[name] = float(np.sqrt(np.median(apart))) if apart.size else 1.0
        goodness = -np.abs(steepness)
        self._usual[name] = (float(goodness.mean()), max(float(goodness.std()), 1e-3)) if goodness.size else (0.0, 1.0)

    def fits(self, candidate: Candidate) -> bool:
        """Whether it has the slots and the choices of the space."""
        return set(candidate.slots) == set(self.slots) and set(candidate.choices) == set(self.choices)

    def of(self, candidates: Sequence[Candidate]) -> list[Point]:
        """The points of many candidates; layers that were met before are not evaluated again."""
        for name in self.slots:
            self._learn(name, [c.slots[name] for c in candidates])
        return [self._point(candidate) for candidate in candidates]

    def _learn(self, name: str, graphs: Sequence[Graph]) -> None:
        new = [graph for graph in dict.fromkeys(graphs) if (name, graph) not in self._known]
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
            new = list(dict.fromkeys(graphs))
        found = features(new, self._probes[name])
        usual, spread = self._usual[name]
        for graph, curve, steepness, usable in zip(new, found.curve, found.steepness, found.usable, strict=True):
            self._known[name, graph] = curve / self._scales[name], (-abs(float(steepness)) - usual) / spread, bool(usable)

    def _point(self, candidate: Candidate) -> Point:
        parts = [self._known[name, candidate.slots[name]] for name in self.slots]
        coordinates = [place for place, _, _ in parts]
        for name, values in self.choices.items():
            coordinates.append(_coordinates(candidate.choices[name], values))
        weight = 1 / np.sqrt(max(len(coordinates), 1))
        prior = float(np.mean([prior for _, prior, _ in parts])) if parts else 0.0
        return Point(np.concatenate(coordinates) * weight, prior, all(usable for _, _, usable in parts))


def _coordinates(value: object, values: Sequence[object]) -> Array:
    """Two values are 1 apart; numbers of an order are as far by their ranks as by being others."""
    one: Array = np.array([float(value == other) for other in values]) / np.sqrt(2)
    if len(values) < 2 or any(isinstance(v, str) for v in values):
        return one
    ranked = sorted(values)  # type: ignore[type-var]
    return np.append(one / np.sqrt(2), (ranked.index(value) if value in ranked else 0) / (len(values) - 1) / np.sqrt(2))  # type: ignore[arg-type]


def keys(candidates: Sequence[Candidate]) -> list[Key]:
    """A key each that equal candidates share: their choices, and what their layers compute."""
    graphs = [graph for c in candidates for _, graph in sorted(c.slots.items())]
    prints: Mapping[Graph, object] = dict(zip(graphs, fingerprints(graphs), strict=True))
    return [(*sorted(c.choices.items()), *(prints[graph] or b"" for _, graph in sorted(c.slots.items()))) for c in candidates]
