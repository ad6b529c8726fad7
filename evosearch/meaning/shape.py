"""The shape of an elementwise function of x: kinks, range, asymptotes, zeros, monotonicity, parity, Lipschitz bound.

Found numerically on [-30, 30] and at places out to 1e8, in float64, parameters at their initial values. A kink is a zero of one of
the expressions in the operator table's `kinks` column. What the far places do not support is not determined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evosearch.language.graph import Graph
from evosearch.meaning.bounds import Interval, bounds
from evosearch.meaning.curve import GRID, Curve, crossings, curve, roots, runs, waves
from evosearch.meaning.derive import derivative
from evosearch.meaning.numeric import Array, evaluate
from evosearch.meaning.tails import FAR, START, WINDOW, Tail, tail

__all__ = ["Kink", "Shape", "Tail", "shape"]

_MIDDLE: Array = np.geomspace(30.0, 1000.0, 500)
_SIDES: Array = np.concatenate([-FAR[::-1], FAR])
_WINDOWS: Array = np.concatenate([-(START + WINDOW)[::-1], START + WINDOW])
_NEAR = 1e-9  # how near a kink its two sides are looked at


@dataclass(frozen=True)
class Kink:
    """A place where some derivative does not exist: `jump` of the value, `corner` of the slope, `cusp` (infinite slope),
    `pole` (infinite value), `hole` (0 / 0, both sides agree), `curvature` (the second derivative jumps), `higher` (beyond it, if at all)."""

    x: float
    kind: str


@dataclass(frozen=True)
class Shape:
    """The shape of a function of x. Intervals are `(low, high)`, infinite ends included; a zero at one place has low = high."""

    kinks: tuple[Kink, ...]
    infimum: float  # NaN where it is not determined, or the function is nowhere a number
    supremum: float
    left: Tail
    right: Tail
    monotonic: str  # "increasing" | "decreasing" | "constant" | "no"; increasing includes flat parts
    parity: str  # "odd" | "even" | "none"
    zeros: tuple[tuple[float, float], ...]  # without jumps across 0
    lipschitz: float  # sup |f'|; inf if unbounded, NaN where it is not determined
    lipschitz_at: tuple[float, float] | None  # where it is reached, the place nearest to 0; None where it is only approached
    nonfinite: tuple[tuple[float, float], ...]  # where float64 gives inf or NaN
    outer: Interval  # proven bounds, wide where nothing is proven
    approximate: tuple[bool, bool]  # whether the infimum, the supremum is only the extreme value seen
    more_kinks: bool  # only those in [-30, 30] are listed
    more_zeros: bool

    @property
    def saturates(self) -> tuple[str, ...]:
        """The sides, `left` and `right`, on which the value tends to a constant and the slope to 0."""
        sides = {"left": self.left, "right": self.right}
        return tuple(name for name, tail in sides.items() if tail.kind == "line" and tail.slope == 0)


def shape(graph: Graph) -> Shape:
    """The shape of an elementwise graph of `x`."""
    c = curve(graph)
    with np.errstate(all="ignore"):
        kinks = _classified(c)
        tails = tail(c, -1.0), tail(c, 1.0)
        x = _samples(c)
        value, slope = c.both(x)
        noise = _noise(c, x)
        low, high, approximate = _range(c, x, value, noise, kinks, tails)
        bound, at = _lipschitz(c, x, slope, kinks, tails)
        zeros, more = _zeros(c, x, value, noise)
        return Shape(
            kinks, low, high, *tails, _monotonic(value, noise, c.unit), _parity(c), zeros, bound, at, _nonfinite(c),
            bounds(c.value), approximate, c.periodic, more,
        )  # fmt: skip


def _samples(c: Curve) -> Array:
    """The grid, the kinks' two sides, the turning points, narrow places, and the far places."""
    gap = np.array([_NEAR * max(1.0, abs(k) / 30) for k in c.kinks])
    kinks = np.array(c.kinks)
    turning = np.array([x for x in roots(c.slope, _inside(c.marks)) if x not in c.kinks])
    return np.unique(np.concatenate([-_MIDDLE, GRID, _MIDDLE, kinks - gap, kinks + gap, turning, c.marks, _WINDOWS, _SIDES]))


def _inside(marks: Array) -> tuple[float, ...]:
    return tuple(np.unique(marks[np.abs(marks) <= 30]).tolist())


def _noise(c: Curve, x: Array) -> Array:
    """A bound on what rounding does to the value at the samples beyond 1000, from the far places around each."""
    found = np.maximum(c.noise(FAR), c.noise(-FAR))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(found, 4, mode="edge"), 9).max(1)
    return np.where(np.abs(x) > 1001, 8 * np.interp(np.abs(x), FAR, around), 0.0)


def _classified(c: Curve) -> tuple[Kink, ...]:
    if not c.kinks:
        return ()
    k = np.array(c.kinks)
    scale = np.maximum(1.0, np.abs(k) / 30)[:, None]
    value, slope = c.both(k[:, None] + scale * np.array([-1e-8, -1e-10, 1e-10, 1e-8]))
    bend = evaluate(derivative(c.slope), {"x": k[:, None] + scale * np.array([-1e-6, 1e-6])})
    at, unit = c.f(k), c.unit
    power = np.log(np.abs(slope[:, [0, 3]] / slope[:, [1, 2]])) / math.log(100.0)
    inside = [i for i in np.argsort(k) if np.isfinite(value[i]).any()]
    return tuple(Kink(c.kinks[i], _kind(value[i], slope[i], power[i], bend[i], at[i], unit, scale[i, 0])) for i in inside)


def _kind(value: Array, slope: Array, power: Array, bend: Array, at: float, unit: float, scale: float) -> str:
    steep = np.abs(slope[[1, 2]]) > 100
    grows = np.abs(value[[1, 2]]) > 1.001 * np.abs(value[[0, 3]])
    if (steep & grows & (power < -0.99)).any() or np.isinf(value[[1, 2]]).any():
        return "pole"
    if (steep & (power < -0.05)).any():
        return "cusp"
    if not np.isfinite(value).all():
        return "jump"
    size = unit + np.abs(slope[[1, 2]]).max()
    if abs(value[2] - value[1]) > 1e-8 * (unit + abs(value[1])) + 1e-9 * scale * size:
        return "jump"
    if abs(slope[2] - slope[1]) > 1e-6 * size:
        return "corner"
    if not math.isfinite(at):
        return "hole"
    return "curvature" if abs(bend[1] - bend[0]) > 1e-3 * (unit + np.abs(bend).max()) else "higher"


def _range(c: Curve, x: Array, value: Array, noise: Array, kinks: tuple[Kink, ...], tails: tuple[Tail, Tail]) -> tuple[float, float, tuple[bool, bool]]:
    """Infimum and supremum, and which of the two is only the extreme value seen."""
    broken = np.array([k.x for k in kinks if k.kind in ("jump", "pole", "hole")])
    finite = np.isfinite(value) & ~np.isin(x, broken)
    if not finite.any():
        return math.nan, math.nan, (False, False)
    seen = [float((value + noise)[finite].min()), float((value - noise)[finite].max())]
    poles = np.array([k.x for k in kinks if k.kind == "pole"])
    ends = c.f(np.concatenate([poles - 1e-12, poles + 1e-12]))
    seen += [math.copysign(math.inf, v) for v in ends[~np.isnan(ends)]]
    for t, side in zip(tails, (-1.0, 1.0), strict=True):
        if t.kind in ("line", "oscillation") and t.slope:
            seen.append(math.copysign(math.inf, t.slope * side))
        elif t.kind == "line":
            seen.append(t.intercept)
        elif t.kind == "oscillation":
            slack = 1e-7 * (t.high - t.low) if math.isfinite(t.high - t.low) else 0.0  # the near extremes are exact
            seen += [t.low + slack if t.low > bounds(c.value)[0] else t.low, t.high - slack if t.high < bounds(c.value)[1] else t.high]
        elif t.kind not in ("undefined", "undetermined"):
            seen.append(t.sign * math.inf)
    unknown = any(t.kind == "undetermined" for t in tails)
    open_ = unknown or not all(t.settled for t in tails)
    outer = bounds(c.value)
    low, high = max(min(seen), outer[0]), min(max(seen), outer[1])
    low = outer[0] if low <= outer[0] + 1e-8 * c.unit else low  # at the end of a root's domain rounding leaves 1e-9
    slack = 1e-9 * c.unit
    about = (open_ and low > outer[0] + slack, open_ and high < outer[1] - slack)
    low = math.nan if about[0] and unknown and math.isinf(outer[0]) else low
    high = math.nan if about[1] and unknown and math.isinf(outer[1]) else high
    return low, high, (about[0] and math.isfinite(low), about[1] and math.isfinite(high))


def _lipschitz(c: Curve, x: Array, slope: Array, kinks: tuple[Kink, ...], tails: tuple[Tail, Tail]) -> tuple[float, tuple[float, float] | None]:
    """sup |f'|, and where it is reached: a point, or a stretch between kinks."""
    size = np.where(np.isfinite(slope), np.abs(slope), 0.0)
    broken = any(k.kind in ("jump", "cusp", "pole") for k in kinks)
    growing = any(t.kind == "exponential" or (t.kind == "power" and t.power > 1) for t in tails)
    growing |= any(t.kind == "undefined" for t in tails) and size.max() > 1e30  # up to where float64 ends
    if broken or growing or not np.isfinite(c.f(GRID)).any():
        return math.inf, None
    near = np.abs(x) <= max(1001.0, 4 * max((abs(k) for k in c.kinks), default=0.0))
    at = int(np.argmax(np.where(near, size, -1.0)))
    top = _peak(c, float(x[at]), float(size[at]))[0]
    limit = _far_slope(x, size, top)
    if any(t.kind == "oscillation" for t in tails) and math.isfinite(limit):
        limit = max(limit, _highest(c, top), key=lambda v: (math.isnan(v), v))
    if not math.isfinite(limit):
        return limit, None
    limit = max([limit] + [abs(t.slope) for t in tails])
    x, size = x[near], size[near]
    flat = [r for r in runs(size >= size.max() * (1 - 1e-12)) if r[1] - r[0] > 20]
    if flat and limit <= size.max() * (1 + 1e-7):
        low, high = min(flat, key=lambda r: (round(min(abs(x[r[0]]), abs(x[r[1] - 1])), 6), -r[0]))  # the right one of two as near
        ends = _kink_near(c, x[low]), _kink_near(c, x[high - 1])
        first = -math.inf if low == 0 else ends[0]
        last = math.inf if high == x.size else ends[1]
        if first is not None and last is not None:
            return float(size.max()), (first, last)
        if low == 0 or high == x.size:
            return float(size.max()), None
    peaks = np.flatnonzero((size >= np.append(0.0, size[:-1])) & (size >= np.append(size[1:], 0.0)) & (size > 0.999 * size.max()))
    chosen = {int(np.argmax(size)), *(int(i) for i in sorted(peaks, key=lambda i: (abs(x[i]), -x[i]))[:3])}
    refined = [_peak(c, float(x[i]), float(size[i])) for i in chosen]
    best = max(value for value, _ in refined)
    if limit > best * (1 + 1e-12):
        return limit, None
    place = min((at for value, at in refined if value >= best * (1 - 1e-9)), key=lambda at: (abs(at), -at))
    return best, (place, place)


def _far_slope(x: Array, size: Array, near: float) -> float:
    """What the largest |f'| of every two octaves beyond 1000 tends to: inf where it grows steadily, NaN where it neither settles
    nor stays below `near`, the largest one nearer."""
    octave = np.floor(np.log2(np.maximum(np.abs(x), 1.0) / START) / 2).astype(int)
    top = np.array([size[octave == i].max() for i in range(8)])
    far = float(top.max())
    if far <= near * (1 + 1e-7):
        return min(far, near) if far <= near * (1 + 1e-9) else far
    if top[-1] > 1.2 * top[2]:
        return math.inf if top[7] - top[5] > 0.8 * (top[4] - top[2]) else math.nan
    return far if abs(top[-1] - top[-2]) <= 1e-6 * far and top[-1] >= far * (1 - 1e-6) else math.nan


def _highest(c: Curve, near: float) -> float:
    """The largest |f'| of far windows; NaN where it goes on rising above `near`."""
    tops = []
    for start in (START, 16 * START):
        x = np.concatenate([start + WINDOW, -start - WINDOW])
        place = float(x[np.argmax(np.nan_to_num(np.abs(c.both(x)[1])))])
        tops.append(float(np.nanmax(np.abs(c.both(place + np.linspace(-1 / 16, 1 / 16, 401))[1]))))
    return tops[1] if tops[1] <= near * (1 + 1e-7) or abs(tops[1] - tops[0]) <= 1e-7 * tops[0] else math.nan


def _peak(c: Curve, place: float, best: float) -> tuple[float, float]:
    """The largest |f'| around a sample, on finer and finer grids, and its place."""
    for width in (*([8e-3 * abs(place)] if abs(place) > 30 else []), 5e-3, 5e-5, 5e-7):
        around = place + np.linspace(-width, width, 201)
        steep = np.abs(c.both(around)[1])
        at = int(np.argmax(np.where(np.isfinite(steep), steep, 0.0)))
        if steep[at] > best * (1 + 1e-13):
            place, best = float(around[at]), float(steep[at])
    return best, round(place, 8) + 0.0


def _monotonic(value: Array, noise: Array, unit: float) -> str:
    finite = np.isfinite(value)
    value, noise = value[finite], noise[finite]
    if not value.size:
        return "no"
    step = np.diff(value)
    noise = 1e-12 * (unit + np.abs(value[1:])) + noise[1:] + noise[:-1]
    up, down = bool((step > noise).any()), bool((step < -noise).any())
    return "constant" if not (up or down) else "increasing" if not down else "decreasing" if not up else "no"


def _parity(c: Curve) -> str:
    random = np.random.default_rng(11)
    narrow = np.abs([place + width * d for place, width in c.landmarks for d in (0.0, 0.7)])
    kinks = np.abs(c.kinks)
    far = np.exp(random.uniform(math.log(20.0), math.log(1e6), 64))
    x = np.concatenate([random.uniform(0.0, 20.0, 64), [0.0], kinks * 1.3, 0.5 * (kinks[1:] + kinks[:-1]), np.abs(c.marks), narrow, far])
    x = x[~np.isin(x, kinks) | (x == 0)]
    right, left = c.f(x), c.f(-x)
    both = np.isfinite(right) & np.isfinite(left)
    if not both.any() or not np.array_equal(np.isfinite(right), np.isfinite(left)):
        return "none"
    noise = 1e-9 * np.abs(right) + 1e-13 * c.unit + 8 * (c.noise(x) + c.noise(-x))
    right, left, noise = right[both], left[both], noise[both]
    return "even" if (np.abs(right - left) <= noise).all() else "odd" if (np.abs(right + left) <= noise).all() else "none"


def _zeros(c: Curve, x: Array, value: Array, noise: Array) -> tuple[tuple[tuple[float, float], ...], bool]:
    """Isolated zeros, and intervals of exact zeros that end at a kink (one that does not is underflow); whether there are more
    beyond 30 than the one or two that are listed."""
    found: list[tuple[float, float]] = []
    for low, high in runs(value == 0):
        if high - low > 2 and x[high - 1] - x[low] > 1e-6:
            start = -math.inf if low == 0 else _kink_near(c, x[low])
            end = math.inf if high == x.size else _kink_near(c, x[high - 1])
            if start is not None and end is not None:
                found.append((start, end))
    sign = np.where(np.abs(value) > noise, np.sign(value), 0.0)
    beyond = x[:-1][(sign[:-1] * sign[1:] < 0) & (np.minimum(np.abs(x[:-1]), np.abs(x[1:])) >= 30)]
    far = crossings(c.f, np.sort(np.concatenate([beyond, x[1:][np.isin(x[:-1], beyond)]]))) if 0 < beyond.size <= 2 else np.array([])
    for place in [*roots(c.value, _inside(c.marks)), *far]:
        scale = max(1.0, abs(place))
        around = c.f(place + scale * np.array([-1e-2, -_NEAR, 0.0, _NEAR, 1e-2]))
        jump = around[2] != 0 and max(abs(around[1]), abs(around[3])) > 1e-4 * c.unit and _kink_near(c, place) is not None
        underflow = place != 0 and np.abs(around[[0, 4]]).max() <= 1e-14 * c.unit
        if not jump and not underflow and not any(low <= place <= high for low, high in found):
            found.append((float(place), float(place)))
    return tuple(sorted(found)), beyond.size > 2 or waves(c.value)


def _kink_near(c: Curve, x: float) -> float | None:
    """The kink where a run of samples that reaches `x` ends."""
    close = [k for k in c.kinks if abs(k - x) <= 0.0051 * max(1.0, abs(k) / 30)]
    return min(close, key=lambda k: abs(k - x)) if close else None


def _nonfinite(c: Curve) -> tuple[tuple[float, float], ...]:
    tail = np.geomspace(30.5, 1e6, 200)
    x = np.concatenate([-tail[::-1], GRID, tail])
    bad = ~np.isfinite(c.f(x))
    found = []
    for low, high in runs(bad):
        if high - low > 1:
            start = -math.inf if low == 0 else _edge(c, x[low - 1], x[low])
            end = math.inf if high == x.size else _edge(c, x[high], x[high - 1])
            found.append((start, end))
    return tuple(found)


def _edge(c: Curve, finite: float, bad: float) -> float:
    for _ in range(50):
        middle = 0.5 * (finite + bad)
        ok = bool(np.isfinite(c.f(np.array([middle])))[0])
        finite, bad = (middle, bad) if ok else (finite, middle)
    return float(bad)
