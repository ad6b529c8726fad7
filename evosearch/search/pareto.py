"""Dominance among finite points; every objective is to be maximized."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = Sequence[float | None]


def admitted(point: Point) -> bool:
    """Whether a point may be ranked at all: every objective is there and finite."""
    return all(value is not None and math.isfinite(value) for value in point)


def dominates(first: Point, second: Point) -> bool:
    """At least as good everywhere and better somewhere."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def nondominated(points: Sequence[Point]) -> list[int]:
    """The positions of the points that no other point dominates, in order; what is not finite is never among them."""
    alive = [i for i, point in enumerate(points) if admitted(point)]
    return [i for i in alive if not any(dominates(points[j], points[i]) for j in alive if j != i)]
