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


def hypervolume(points: Sequence[Point], reference: Sequence[float]) -> float:
    """The volume that points dominate above `reference`, by slicing along the last objective (Zitzler & Thiele 1999; While et al. 2006).

    What is not finite, or nowhere above the reference, adds nothing. Exact; meant for fronts of some tens of points.
    """
    above = [tuple(map(float, p)) for p in points if admitted(p) and all(v > r for v, r in zip(p, reference, strict=True))]  # type: ignore[arg-type,operator]
    if not above:
        return 0.0
    *rest, floor = reference
    if not rest:
        return max(p[0] for p in above) - floor
    volume, top = 0.0, sorted({p[-1] for p in above}, reverse=True)
    for height, below in zip(top, [*top[1:], floor], strict=True):
        slab = [p[:-1] for p in above if p[-1] >= height]
        volume += hypervolume([slab[i] for i in nondominated(slab)], rest) * (height - below)
    return volume
