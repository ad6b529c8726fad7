"""The shape of an elementwise function of x: kinks, range, asymptotes, zeros, monotonicity, parity, Lipschitz bound.

Found numerically on [-30, 30] and at a few far places, in float64, parameters at their initial values. A kink is a zero of
one of the expressions in the operator table's `kinks` column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evosearch.language.formula import parse
from evosearch.language.graph import Graph, replace, variable, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import derivative
from evosearch.meaning.numeric import Array, evaluate, evaluate_all

GRID: Array = np.arange(-6000, 6001) / 200  # holds 0, 0.5, 1 ... exactly
_MIDDLE: Array = np.geomspace(30.0, 1000.0, 500)  # sparse: for kinks such as that of min(x, 80), and for what grows to there
_MOST_KINKS = 512
_NEAR = 1e-9  # how near a kink its two sides are looked at
_WINDOW: Array = np.linspace(0.0, 512.0, 8193)  # resolves angular frequencies up to 50


@dataclass(frozen=True)
class Curve:
    """An elementwise function ready for analysis: its value, its slope, and the places where a derivative may not exist."""

    value: Graph
    slope: Graph
    kinks: tuple[float, ...]

    def f(self, x: Array) -> Array:
        return evaluate(self.value, {"x": x})

    def both(self, x: Array) -> tuple[Array, Array]:
        """Values and slopes at `x`; where the slope's formula is 0 * inf though the value is finite, a difference quotient."""
        value, slope = evaluate_all([self.value, self.slope], {"x": x})
        lost = ~np.isfinite(slope) & np.isfinite(value)
        if lost.any():
            with np.errstate(all="ignore"):
                step = 1e-6 * np.maximum(1.0, np.abs(x[lost]))
                slope = slope.copy()
                slope[lost] = (self.f(x[lost] + step) - self.f(x[lost] - step)) / (2 * step)
        return value, slope


@lru_cache(maxsize=256)
def curve(graph: Graph) -> Curve:
    """The function of x that a graph without statistics computes forward (a surrogate's gradient is left aside)."""
    value = graph.args[0] if graph.op == "surrogate" else graph
    return Curve(value, derivative(value), _kinks(value))


def _kinks(graph: Graph) -> tuple[float, ...]:
    """The zeros of every kink expression of the table, the node's own arguments in it; nearest to 0 first. Beyond +-30 only
    those of an expression with one or two of them there."""
    found: set[float] = set()
    for node in walk(graph):
        whole_power = node.op == "pow" and isinstance(node.args[1].value, float) and node.args[1].value in range(65)
        if node.op in OPERATORS and not whole_power:
            filled = {variable(n): arg for n, arg in zip("ab", node.args, strict=False)}
            for text in OPERATORS[node.op].kinks:
                kink = replace(parse(text, inputs=("a", "b")), filled)
                far = crossings(lambda x, e=kink: evaluate(e, {"x": x}), np.concatenate([-_MIDDLE[::-1], _MIDDLE]))  # type: ignore[misc]
                found.update(roots(kink), (float(x) for x in far[np.abs(far) > 30] if far.size <= 2))
    return tuple(sorted(_apart(found), key=abs)[:_MOST_KINKS])


@lru_cache(maxsize=512)
def roots(graph: Graph) -> tuple[float, ...]:
    """The isolated zeros of an elementwise graph in [-30, 30], to 1e-13: crossings, and touchings at a turning point."""
    turning = crossings(lambda x: evaluate(derivative(graph), {"x": x}), GRID)
    grid = np.union1d(GRID, turning)
    crossed = crossings(lambda x: evaluate(graph, {"x": x}), grid)
    touched = turning[np.abs(evaluate(graph, {"x": turning})) <= 1e-12]
    return tuple(_apart({*crossed.tolist(), *touched.tolist()}))


def _apart(places: set[float]) -> list[float]:
    """The places in order, one of those that rounding made several."""
    x = np.array(sorted(places))
    return [float(v) + 0.0 for v in x[np.append(True, np.diff(x) > 1e-11)[: x.size]]]


def crossings(function: Callable[[Array], Array], grid: Array) -> Array:
    """Where the function's sign changes along the grid, by bisection to the last bit; an isolated exact zero counts."""
    sign = np.sign(function(grid))
    at = np.flatnonzero(sign[:-1] * sign[1:] < 0)
    low, high, left = grid[at], grid[at + 1], sign[at]
    for _ in range(54 if at.size else 0):
        middle = 0.5 * (low + high)
        before = np.sign(function(middle)) == left
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    zero = sign == 0
    alone = zero & ~np.append(zero[1:], False) & ~np.append(False, zero[:-1])
    return np.union1d(high, grid[alone])


@dataclass(frozen=True)
class Kink:
    """A place where some derivative does not exist: `jump` of the value, `corner` of the slope, `cusp` (infinite slope),
    `pole` (infinite value), `hole` (0 / 0, both sides agree), `curvature` (the second derivative jumps), `higher` (beyond it, if at all)."""

    x: float
    kind: str


@dataclass(frozen=True)
class Tail:
    """What the function does far out: `line` (slope x + intercept), `oscillation` (between slope x + low and slope x + high, or
    with an amplitude that grows as |x|^power), `power` (grows as |x|^power), `logarithm`, `exponential`, `undefined` (not a
    number). `sign` is where a growing one goes."""

    kind: str
    slope: float = 0.0
    intercept: float = 0.0
    power: float = 0.0
    low: float = 0.0
    high: float = 0.0
    sign: float = 1.0


@dataclass(frozen=True)
class Shape:
    """The shape of a function of x. Intervals are `(low, high)`, infinite ends included; a zero at one place has low = high."""

    kinks: tuple[Kink, ...]
    infimum: float
    supremum: float
    left: Tail
    right: Tail
    monotonic: str  # "increasing" | "decreasing" | "constant" | "no"; increasing includes flat parts
    parity: str  # "odd" | "even" | "none"
    zeros: tuple[tuple[float, float], ...]  # in [-30, 30]
    lipschitz: float  # sup |f'|; inf if unbounded
    lipschitz_at: tuple[float, float] | None  # where it is reached, the place nearest to 0; None where it is only approached
    nonfinite: tuple[tuple[float, float], ...]  # where float64 gives inf or NaN

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
        left, right = _tail(c, -1.0), _tail(c, 1.0)
        sides = np.array([k + d for k in c.kinks for d in (-_NEAR, _NEAR)])
        turning = np.array([x for x in roots(c.slope) if x not in c.kinks])
        near = np.unique(np.concatenate([-_MIDDLE, GRID, _MIDDLE, sides, turning]))
        far = 1024.0 + _WINDOW
        x = np.concatenate([-far[::-1], near, far])
        value, slope = c.both(x)
        low, high = _range(value[np.abs(x) <= 1001], kinks, (left, right), c)
        bound, at = _lipschitz(c, x, slope, kinks, (left, right))
        return Shape(kinks, low, high, left, right, _monotonic(value), _parity(c), _zeros(c), bound, at, _nonfinite(c))


def _classified(c: Curve) -> tuple[Kink, ...]:
    if not c.kinks:
        return ()
    k = np.array(c.kinks)
    value, slope = c.both(k[:, None] + np.array([-1e-8, -1e-10, 1e-10, 1e-8]))
    bend = evaluate(derivative(c.slope), {"x": k[:, None] + np.array([-1e-6, 1e-6])})
    at = c.f(k)
    power = np.log(np.abs(slope[:, [0, 3]] / slope[:, [1, 2]])) / math.log(100.0)
    inside = [i for i in np.argsort(k) if np.isfinite(value[i]).any()]
    return tuple(Kink(c.kinks[i], _kind(value[i], slope[i], power[i], bend[i], at[i])) for i in inside)


def _kind(value: Array, slope: Array, power: Array, bend: Array, at: float) -> str:
    steep = np.abs(slope[[1, 2]]) > 100
    if (steep & (power < -0.99)).any() or np.isinf(value[[1, 2]]).any():
        return "pole"
    if (steep & (power < -0.05)).any():
        return "cusp"
    if not np.isfinite(value).all():
        return "jump"
    size = 1 + np.abs(slope[[1, 2]]).max()
    if abs(value[2] - value[1]) > 1e-8 * (1 + abs(value[1])) + 1e-9 * size:
        return "jump"
    if abs(slope[2] - slope[1]) > 1e-6 * size:
        return "corner"
    if not math.isfinite(at):
        return "hole"
    return "curvature" if abs(bend[1] - bend[0]) > 1e-3 * (1 + np.abs(bend).max()) else "higher"


def _tail(c: Curve, side: float) -> Tail:
    window = c.f(side * (1024.0 + _WINDOW))
    if np.isfinite(window).all() and _oscillates(window):
        return _oscillation(c, side, window)
    x = side * np.asarray(2.0 ** np.arange(2, 27))
    f = c.f(x)
    if np.isnan(f[-1]):
        return Tail("undefined")
    usable = int(np.argmax(~np.isfinite(f))) if not np.isfinite(f).all() else f.size
    if usable < 4:  # beyond float64 within 32 of 0
        return Tail("exponential" if np.isfinite(c.f(GRID)).any() else "undefined", sign=float(np.sign(f[-1])))
    x, f = x[:usable], f[:usable]
    first, second = f[-1] - f[-2], f[-2] - f[-3]
    noise = 1e-6 * (1 + abs(f[-1]))
    if usable == 25 and (abs(first) <= noise or (abs(first) < 0.95 * abs(second) and abs(f[-1]) < 1e6)):
        ratio = first / second if abs(first) > 1e-9 else 0.0  # Aitken: a remainder c x^-p shrinks by one ratio an octave
        return Tail("line", intercept=_round(f[-1] + first * ratio / (1 - ratio) if abs(ratio) < 0.95 else f[-1]))
    slope = first / (x[-1] - x[-2])
    intercept = f[-1] - slope * x[-1]
    rest = np.abs(f[-4:-2] - slope * x[-4:-2] - intercept).max()
    if usable == 25 and rest <= 1e-6 * (1 + abs(intercept)) + 1e-15 * abs(f[-1]):
        return Tail("line", _round(slope), _round(intercept))
    sign = float(np.sign(f[-1]))
    if usable == 25 and abs(first / second - 1) < 0.02:
        return Tail("logarithm", sign=sign)
    power = np.log2(np.abs(f[-3:] / f[-4:-1]))
    if power[-1] > 1.3 * power[-2] > 0 or not np.isfinite(power).all():
        return Tail("exponential", sign=sign)
    return Tail("power", power=round(float(power[-1]), 2), sign=sign)


def _round(value: float) -> float:
    """Seven decimals: what cancellation leaves at x = 1e8."""
    return round(float(value), 7) + 0.0


def _oscillates(window: Array) -> bool:
    bend = np.diff(window, 2)
    bend = bend[np.abs(bend) > 1e-11 * (1 + np.abs(window).max())]
    return int(np.count_nonzero(bend[1:] * bend[:-1] < 0)) > 4


def _oscillation(c: Curve, side: float, near: Array) -> Tail:
    """The line through the smoothed values of two windows, and how far the function strays from it in either."""
    starts = (1024.0, 4096.0)
    places = [side * (s + _WINDOW) for s in starts]
    values = [near, c.f(places[1])]
    weight = np.square(np.hanning(_WINDOW.size))
    mean = [float((weight * v).sum() / weight.sum()) for v in values]
    middle = [side * (s + 256.0) for s in starts]
    slope = (mean[1] - mean[0]) / (middle[1] - middle[0])
    intercept = mean[0] - slope * middle[0]
    stray = [v - slope * x for v, x in zip(values, places, strict=True)]
    if not np.isfinite(stray[1]).all():
        return Tail("undefined")
    sizes = [float(np.abs(v - intercept).max()) for v in stray]
    power = math.log(max(sizes[1] / sizes[0], 1e-300)) / math.log((starts[1] + 512) / (starts[0] + 512))
    if power < -0.05:
        return Tail("line", round(slope, 4) + 0.0, round(intercept, 4) + 0.0)
    if power > 0.05:
        return Tail("oscillation", power=round(power, 2), low=-math.inf, high=math.inf)
    low, high = float(min(v.min() for v in stray)), float(max(v.max() for v in stray))
    return Tail("oscillation", round(slope, 5) + 0.0, round(intercept, 4) + 0.0, 0.0, low, high)


def _range(near: Array, kinks: tuple[Kink, ...], tails: tuple[Tail, Tail], c: Curve) -> tuple[float, float]:
    finite = near[np.isfinite(near)]
    if not finite.size:
        return math.nan, math.nan
    seen = [float(finite.min()), float(finite.max())]
    poles = np.array([k.x for k in kinks if k.kind == "pole"])
    ends = c.f(np.concatenate([poles - 1e-12, poles + 1e-12]))
    seen += [math.copysign(math.inf, v) for v in ends[~np.isnan(ends)]]
    for tail, side in zip(tails, (-1.0, 1.0), strict=True):
        if tail.kind in ("line", "oscillation") and tail.slope:
            seen.append(math.copysign(math.inf, tail.slope * side))
        elif tail.kind == "line":
            seen.append(tail.intercept)
        elif tail.kind == "oscillation":
            slack = 0.0 if math.isinf(tail.high) else 1e-4 * (tail.high - tail.low)  # the near extremes are exact
            seen += [tail.low + slack, tail.high - slack]
        elif tail.kind != "undefined":
            seen.append(tail.sign * math.inf)
    return min(seen), max(seen)


def _lipschitz(
    c: Curve, x: Array, slope: Array, kinks: tuple[Kink, ...], tails: tuple[Tail, Tail]
) -> tuple[float, tuple[float, float] | None]:
    """sup |f'|, and where it is reached: a point, or a stretch between kinks."""
    size = np.where(np.isfinite(slope), np.abs(slope), 0.0)
    broken = any(k.kind in ("jump", "cusp", "pole") for k in kinks)
    growing = any(t.kind == "exponential" or (t.kind == "power" and t.power > 1) for t in tails)
    for side in (-1.0, 1.0):
        there, further = (np.abs(c.both(side * (start + _WINDOW))[1]) for start in (1024.0, 4096.0))
        growing |= bool(further.max() > 1.2 * there.max() + 1e-9)
    if broken or growing or not np.isfinite(c.f(GRID)).any():
        return math.inf, None
    near = np.abs(x) <= 1001
    limit = max([abs(t.slope) for t in tails] + [float(size[~near].max())])
    x, size = x[near], size[near]
    flat = [r for r in runs(size >= size.max() * (1 - 1e-12)) if r[1] - r[0] > 20]
    if flat and limit <= size.max() * (1 + 1e-7):
        low, high = min(flat, key=lambda r: (round(min(abs(x[r[0]]), abs(x[r[1] - 1])), 6), -r[0]))  # the right one of two as near
        ends = _kink_near(c, x[low], -math.inf), _kink_near(c, x[high - 1], math.inf)
        return float(size.max()), None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
    peaks = np.flatnonzero((size >= np.append(0.0, size[:-1])) & (size >= np.append(size[1:], 0.0)) & (size > 0.999 * size.max()))
    chosen = {int(np.argmax(size)), *(int(i) for i in sorted(peaks, key=lambda i: (abs(x[i]), -x[i]))[:3])}
    refined = [_peak(c, float(x[i]), float(size[i])) for i in chosen]
    best = max(value for value, _ in refined)
    if limit > best * (1 + 1e-7):
        return limit, None
    place = min((at for value, at in refined if value >= best * (1 - 1e-9)), key=lambda at: (abs(at), -at))
    return best, (place, place)


def _peak(c: Curve, place: float, best: float) -> tuple[float, float]:
    """The largest |f'| around a sample, on finer and finer grids, and its place."""
    for width in (5e-3, 5e-5, 5e-7):
        around = place + np.linspace(-width, width, 201)
        steep = np.abs(c.both(around)[1])
        at = int(np.argmax(np.where(np.isfinite(steep), steep, 0.0)))
        if steep[at] > best * (1 + 1e-13):
            place, best = float(around[at]), float(steep[at])
    return best, round(place, 8) + 0.0


def _monotonic(value: Array) -> str:
    value = value[np.isfinite(value)]
    if not value.size:
        return "no"
    step = np.diff(value)
    noise = 1e-12 * (1 + np.abs(value[1:]))
    up, down = bool((step > noise).any()), bool((step < -noise).any())
    return "constant" if not (up or down) else "increasing" if not down else "decreasing" if not up else "no"


def _parity(c: Curve) -> str:
    x = np.append(np.random.default_rng(11).uniform(0.0, 20.0, 64), 0.0)
    right, left = c.f(x), c.f(-x)
    both = np.isfinite(right) & np.isfinite(left)
    if not both.any() or not np.array_equal(np.isfinite(right), np.isfinite(left)):
        return "none"
    right, left = right[both], left[both]
    noise = 1e-9 * np.abs(right) + 1e-13 * np.abs(right).max()
    return "even" if (np.abs(right - left) <= noise).all() else "odd" if (np.abs(right + left) <= noise).all() else "none"


def _zeros(c: Curve) -> tuple[tuple[float, float], ...]:
    """Isolated zeros, and intervals of exact zeros that end at a kink (one that does not is underflow)."""
    value = c.f(GRID)
    if (value == 0).all():
        return ((-math.inf, math.inf),)
    found: list[tuple[float, float]] = []
    for low, high in runs(value == 0):
        if high - low > 1:
            ends = [_kink_near(c, GRID[low], -math.inf), _kink_near(c, GRID[high - 1], math.inf)]
            if None not in ends:
                found.append((ends[0] or 0.0, ends[1] or 0.0))
    for x in roots(c.value):
        around = c.f(x + np.array([-1e-2, -_NEAR, 0.0, _NEAR, 1e-2]))
        jump = around[2] != 0 and max(abs(around[1]), abs(around[3])) > 1e-4
        noise = x != 0 and np.abs(around[[0, 4]]).max() <= 1e-14
        if not jump and not noise and not any(low <= x <= high for low, high in found):
            found.append((x, x))
    return tuple(sorted(found))


def _kink_near(c: Curve, x: float, outside: float) -> float | None:
    """The kink where a run of zeros that reaches grid point `x` ends; `outside` where it reaches the end of the grid."""
    if abs(x) >= GRID[-1] and x * outside > 0:
        return outside
    close = [k for k in c.kinks if abs(k - x) <= 0.0051]
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


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The runs of True as `(first, last + 1)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
