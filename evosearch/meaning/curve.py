"""An elementwise function of x ready for analysis: its value and slope, where a derivative may not exist, where it is narrow.

Everything is searched for numerically in float64, parameters at their initial values: finely on [-30, 30], sparsely beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evosearch.language.formula import parse
from evosearch.language.graph import Graph, depends_on, make, replace, variable, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import derivative
from evosearch.meaning.numeric import Array, evaluate, evaluate_all

GRID: Array = np.arange(-6000, 6001) / 200  # holds 0, 0.5, 1 ... exactly
STEP = 0.005
FARTHEST = 1e12
BEYOND: Array = np.geomspace(30.0, FARTHEST, 1400)  # sparse: for what is isolated, such as the kink of min(x, 80)
_BOTH_SIDES: Array = np.concatenate([-BEYOND[::-1], BEYOND])
_MOST_KINKS = 512
_MOST_LANDMARKS = 64
_LINEAR = frozenset({"add", "sub", "mul", "neg", "max", "min", "greater", "equals", "surrogate"})
_RELATIVE = frozenset({"div", "div_eps", "reciprocal", "log", "sqrt", "pow", "log_abs", "signed_log"})  # narrow where the argument is small


@dataclass(frozen=True)
class Curve:
    """An elementwise function: its value, its slope, the places where a derivative may not exist (`periodic`: there are more
    of them beyond 30), and the places where it may be too narrow for a grid, each with its width."""

    value: Graph
    slope: Graph
    kinks: tuple[float, ...]
    periodic: bool
    landmarks: tuple[tuple[float, float], ...]

    def f(self, x: Array) -> Array:
        return evaluate(self.value, {"x": x})

    def both(self, x: Array) -> tuple[Array, Array]:
        """Values and slopes at `x`; where the slope's formula is 0 * inf though the value is finite, a difference quotient."""
        value, slope = evaluate_all([self.value, self.slope], {"x": x})
        lost = ~np.isfinite(slope) & np.isfinite(value)
        if lost.any():
            with np.errstate(all="ignore"):
                slope = slope.copy()
                slope[lost] = self._quotient(x[lost], value[lost])
        return value, slope

    def _quotient(self, x: Array, value: Array) -> Array:
        step = 1e-6 * np.maximum(1.0, np.abs(x))
        central = (self.f(x + step) - self.f(x - step)) / (2 * step)
        if not self.kinks:
            return np.asarray(central)
        kinks = np.sort(self.kinks)
        at = np.searchsorted(kinks, x)
        before, after = kinks[np.maximum(at - 1, 0)], kinks[np.minimum(at, kinks.size - 1)]
        near = np.where(np.abs(x - before) <= np.abs(x - after), before, after)
        away = np.sign(x - near) * step  # not across a jump
        aside = (-3 * value + 4 * self.f(x + away) - self.f(x + 2 * away)) / (2 * away)
        return np.asarray(np.where((np.abs(x - near) < 2 * step) & (away != 0), aside, central))

    def noise(self, x: Array) -> Array:
        """What rounding leaves of the value at `x`: how far it moves when `x` moves by the last bits."""
        ulps = np.abs(self.f(x * (1 + 4e-16)) - self.f(x))
        return np.where(np.isfinite(ulps), ulps, 0.0)

    @property
    def unit(self) -> float:
        """The size of the function near 0, at most 1: what is small is judged against it."""
        return _unit(self.f(GRID))

    @property
    def marks(self) -> Array:
        """Samples that see every kink's two sides and every landmark."""
        kinks = np.sort(self.kinks)
        around = [k + np.array([-1.0, -0.3, 0.0, 0.3, 1.0]) * width for k, width in self.landmarks]
        return np.concatenate([kinks, 0.5 * (kinks[1:] + kinks[:-1]), *around])


@lru_cache(maxsize=256)
def curve(graph: Graph) -> Curve:
    """The function of x that a graph without statistics computes forward (a surrogate's gradient is left aside)."""
    value = graph.args[0] if graph.op == "surrogate" else graph
    with np.errstate(all="ignore"):
        kinks, periodic = _kinks(value)
        return Curve(value, derivative(value), kinks, periodic, _landmarks(value))


def _unit(values: Array) -> float:
    values = np.abs(values[np.isfinite(values)])
    size = float(values.max()) if values.size else 0.0
    return min(1.0, size) if size > 0 else 1.0


def _kinks(graph: Graph) -> tuple[tuple[float, ...], bool]:
    """The zeros of every kink expression of the table, the node's own arguments in it; nearest to 0 first. Beyond +-30 only
    those of an expression with one or two of them there, and whether any had more."""
    found: set[float] = set()
    periodic = False
    for node in walk(graph):
        whole_power = node.op == "pow" and isinstance(node.args[1].value, float) and node.args[1].value in range(65)
        if node.op not in OPERATORS or whole_power or not depends_on(node):
            continue
        filled = {variable(n): arg for n, arg in zip("ab", node.args, strict=False)}
        for text in OPERATORS[node.op].kinks:
            kink = replace(parse(text, inputs=("a", "b")), filled)
            if not depends_on(kink):
                continue
            inner = between(x for x in found if abs(x) > 30)  # an inner kink is where an outer expression turns
            far = crossings(lambda x, e=kink: evaluate(e, {"x": x}), np.union1d(_BOTH_SIDES, inner))  # type: ignore[misc]
            far = far[np.abs(far) > 30]
            periodic |= far.size > 2 or waves(kink)
            found.update(roots(kink, tuple(sorted(x for x in found if abs(x) <= 30))), far.tolist() if far.size <= 2 else ())
    kept = sorted(_apart(found), key=abs)
    return tuple(kept[:_MOST_KINKS]), periodic or len(kept) > _MOST_KINKS


def waves(graph: Graph) -> bool:
    """Whether a part may repeat itself for ever, so that what is not seen beyond 30 may still be there."""
    return any(node.op in ("sin", "cos", "sinc") and depends_on(node) for node in walk(graph))


def between(places: Iterable[float]) -> Array:
    """The places and the midpoints between them."""
    x = np.array(sorted(places))
    return np.concatenate([x, 0.5 * (x[1:] + x[:-1])])


@lru_cache(maxsize=512)
def roots(graph: Graph, near: tuple[float, ...] = ()) -> tuple[float, ...]:
    """The isolated zeros of an elementwise graph in [-30, 30], to 1e-13: crossings, and touchings at a turning point. `near` are
    places that the grid must tell apart."""
    slope = derivative(graph)
    grid = np.union1d(GRID, between(near)) if near else GRID
    turning = crossings(lambda x: evaluate(slope, {"x": x}), grid)
    value = evaluate(graph, {"x": grid})
    crossed = crossings(lambda x: evaluate(graph, {"x": x}), np.union1d(grid, turning))
    places = np.union1d(turning, near)
    touched = places[np.abs(evaluate(graph, {"x": places})) <= 1e-12 * _unit(value)]
    return tuple(_apart({*crossed.tolist(), *touched.tolist()}))


def _apart(places: set[float]) -> list[float]:
    """The places in order, one of those that rounding made several."""
    x = np.array(sorted(places))
    x = np.where(np.abs(x) < 1e-14, 0.0, x)
    return [float(v) + 0.0 for v in x[np.append(True, np.diff(x) > 1e-11 * np.maximum(1.0, np.abs(x[1:])))[: x.size]]]


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


def _landmarks(graph: Graph) -> tuple[tuple[float, float], ...]:
    """Where the argument of a nonlinear operator is 0 or turns, and changes fast there: a function is narrow only where one of its
    parts is, however smooth. `(place, width)`, the nearest to 0 first."""
    inside = {node.args[0] if node.op not in ("div", "div_eps") else node.args[1]: node.op in _RELATIVE
              for node in walk(graph) if len(node.args) in (1, 2) and node.op not in _LINEAR}  # fmt: skip
    for node in walk(graph):
        if node.op.endswith("_distance"):
            inside[make("sub", *node.args)] = False
    parts = [part for part in inside if depends_on(part)]
    found: list[tuple[float, float]] = []
    for part, value in zip(parts, evaluate_all(parts, {"x": GRID}) if parts else [], strict=True):
        found += _narrow(part, value, inside[part])
    return tuple(sorted(found, key=lambda place: abs(place[0]))[:_MOST_LANDMARKS])


def _narrow(part: Graph, value: Array, relative: bool) -> list[tuple[float, float]]:
    left, here, right = value[:-2], value[1:-1], value[2:]
    unit = np.minimum(1.0, np.abs(here)) if relative else 1.0
    crosses = (here * right <= 0) & (np.abs(right - here) > 0.05) & (here != right)
    turns = ((here - left) * (right - here) <= 0) & (np.abs(left - 2 * here + right) > 0.02 * unit)
    at = np.flatnonzero((crosses | turns) & np.isfinite(left + here + right))
    if not 0 < at.size <= _MOST_LANDMARKS:  # of many narrow places each is like the next, and a scan meets some
        return []
    side = np.where(crosses[at], 0.0, np.where(here[at] >= np.maximum(left[at], right[at]), -1.0, 1.0))[:, None]
    place, reach = GRID[1:-1][at], 1.5 * STEP
    for _ in range(9):
        around = place[:, None] + reach * np.linspace(-1, 1, 21)
        v = evaluate(part, {"x": around})
        best = np.argmin(np.where(side == 0, np.abs(v), side * v), axis=1)
        place, reach = around[np.arange(at.size), best], reach / 8
    v = evaluate(part, {"x": place[:, None] + STEP * np.array([-1e-4, 0.0, 1e-4])})
    size = np.minimum(1.0, np.maximum(np.abs(v[:, 1]), 1e-30)) if relative else np.ones(at.size)
    slope = np.abs(v[:, 2] - v[:, 0]) / (2e-4 * STEP) / size
    bend = np.abs(right[at] - 2 * here[at] + left[at]) / STEP**2 / size
    width = np.where(crosses[at], 1 / slope, 1 / np.sqrt(bend))
    return [(float(p), float(w)) for p, w in zip(place, width, strict=True) if 0 < w < 0.2]


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The runs of True as `(first, last + 1)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
