"""What a candidate may be worth, by the told candidates that are nearest to it: cheap enough to look at every child before one is proposed."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from evosearch.language.candidate import Candidate
from evosearch.meaning.numeric import Array
from evosearch.proposers.points import Points
from evosearch.space import SearchSpace
from evosearch.space.trees import is_finite

_NEAREST = 3
_BEST, _LATEST = 96, 96  # of what was told
_SAME = 1e-6  # squared distance


class Neighbours:
    """The mean of the three nearest by inverse squared distance."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._best: list[tuple[float, int]] = []
        self._latest: deque[int] = deque(maxlen=_LATEST)
        self._told: dict[int, tuple[Array, float]] = {}
        self._count = 0
        self._is_finite = is_finite(space)

    @cached_property
    def _points(self) -> Points:
        return Points(self._space)

    def tell(self, candidate: Candidate, score: float) -> Array | None:
        """One more told candidate of the space, of which the best and the latest are remembered; its place.

        None where it has no finite values, and in a finite space, where crowding by places cost more evaluations than it saved.
        """
        (point,) = self._points.of([candidate])
        if not point.usable:
            return None
        self._count += 1
        self._told[self._count] = point.place, score
        insort(self._best, (-score, self._count))
        del self._best[_BEST:]
        self._latest.append(self._count)
        kept = {count for _, count in self._best} | set(self._latest)
        for count in [count for count in self._told if count not in kept]:
            del self._told[count]
        return None if self._is_finite else point.place

    def expected(self, candidates: Sequence[Candidate]) -> list[float]:
        """A score each; minus infinity for what is not finite, or does as a told candidate does."""
        points = self._points.of(candidates)
        if not self._told or not points:
            return [0.0 if point.usable else -np.inf for point in points]
        places = np.stack([place for place, _ in self._told.values()])
        scores = np.array([score for _, score in self._told.values()])
        found = []
        for point in points:
            distances = ((places - point.place) ** 2).sum(1)
            nearest = np.argsort(distances, kind="stable")[:_NEAREST]
            weights = 1 / np.maximum(distances[nearest], _SAME)
            is_new = point.usable and distances[nearest[0]] > _SAME
            found.append(float(weights @ scores[nearest] / weights.sum()) if is_new else -np.inf)
        return found
