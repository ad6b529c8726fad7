"""Gaussian moments of an elementwise function, and what follows for signals at initialization.

In a wide random layer the pre-activations are Gaussian, so E f, E f^2 and E f'^2 under N(mean, variance) give the
initialization gain (VI3NR), the edge of chaos and its depth scale (arXiv 1606.05340, 1611.01232), and the
self-normalizing fixed point (arXiv 1706.02515). Integrals are Gauss-Legendre panels split at the kinks and halved until
they agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from evosearch.language.graph import Graph
from evosearch.meaning.curve import Curve, curve
from evosearch.meaning.numeric import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_SCAN: Array = np.linspace(-54.0, 54.0, 433) + math.pi / 1000  # in standard deviations; further out the density's root underflows
_TOLERANCE = 1e-10
_OPEN, _UNDEFINED = 0.0, math.nan
_SETTLED = 1e-7  # what panels that did not converge may leave
_VARIANCES: Array = np.geomspace(1e-3, 1e3, 24)  # 1 is not among them: SELU's fixed point lies between two


@dataclass(frozen=True)
class Moments:
    """E f, E f^2, E f'^2; infinite where the integral diverges (or leaves float64), NaN where it is not defined (the function
    is not a number, or the mean is inf - inf) or not `determined`: quadrature does not settle."""

    mean: float
    square: float
    slope_square: float
    determined: bool = True

    @property
    def variance(self) -> float:
        spread = self.square - self.mean**2
        return self.square if not math.isfinite(self.square) else spread if math.isnan(spread) else max(0.0, spread)

    @property
    def gain_squared(self) -> float:
        """1 / E f^2: weights of variance gain^2 / fan_in keep the pre-activations' second moment (VI3NR)."""
        return _inverse(self.square)

    @property
    def gain(self) -> float:
        return math.sqrt(self.gain_squared)

    @property
    def backward_gain(self) -> float:
        """1 / sqrt(E f'^2): the weights that keep the gradient's second moment."""
        return math.sqrt(_inverse(self.slope_square))

    @property
    def chi(self) -> float:
        """Growth of a small difference between two inputs, a layer, at sigma_w^2 = 1 / E f^2, sigma_b = 0 (arXiv 1611.01232)."""
        return self.slope_square * self.gain_squared if math.isfinite(self.slope_square) else self.slope_square

    @property
    def phase(self) -> str:
        """`ordered` (chi < 1: inputs merge), `chaotic` (chi > 1: they part), `critical`; `undefined` without finite moments."""
        if not math.isfinite(self.chi) or self.square <= 0:
            return "undefined"
        return "critical" if abs(self.chi - 1) < 1e-7 else "ordered" if self.chi < 1 else "chaotic"

    @property
    def depth_scale(self) -> float:
        """1 / |log chi|, in layers: over so many a difference between inputs changes by the factor e."""
        if self.phase == "critical":
            return math.inf
        return 1 / abs(math.log(self.chi)) if self.phase != "undefined" and self.chi > 0 else 0.0


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf if value == 0 else math.nan


@lru_cache(maxsize=1024)
def moments(graph: Graph, variance: float = 1.0, mean: float = 0.0) -> Moments:
    """E f, E f^2, E f'^2 of an elementwise graph of `x` under N(mean, variance), to 1e-6 of max(1, |value|)."""
    c, deviation = curve(graph), math.sqrt(variance)
    with np.errstate(all="ignore"):
        reach, fixed, determined = _survey(c, mean, deviation)
        wanted = fixed == _OPEN
        if reach == 0 or not wanted.any():  # nothing to integrate, or the zero function
            return _moments(fixed, determined)

        def integrand(z: Array) -> Array:
            """The three integrands, and the density where the function is not a number."""
            value, slope = c.both(mean + deviation * z)
            root = np.exp(-0.25 * z * z) * (2 * math.pi) ** -0.25
            lost = np.isnan(value)
            rows = np.stack([value * root * root, np.square(value * root), np.square(slope * root), root * root * lost])
            rows[:3][~wanted] = 0.0
            return np.where(np.isnan(rows), 0.0, rows)

        kinks = (np.array(c.kinks) - mean) / deviation
        kinks = np.sort(kinks[np.abs(kinks) < reach])
        gaps = 1e-9 * np.maximum(np.abs(kinks), 1e-9)  # the neighborhoods that are integrated as a power of the distance
        near = np.append(fixed, 0.0) + np.where(np.append(wanted, True), _near_kinks(integrand, kinks, gaps), 0.0)
        wanted &= np.isfinite(near[:3])
        narrow = [((place - mean) / deviation, width / deviation) for place, width in c.landmarks]
        total, left = _panels(integrand, kinks, gaps, reach, narrow) if wanted.any() else (np.zeros(4), np.zeros(4))
        total = near + total
        unsettled = wanted & ~(left[:3] <= _SETTLED * np.maximum(1.0, np.abs(total[:3])))
        total[:3][unsettled] = math.nan
        if total[3] > 1e-9:
            return Moments(_UNDEFINED, _UNDEFINED, _UNDEFINED)
    return _moments(total, determined and not unsettled.any())


def _moments(values: Array, determined: bool) -> Moments:
    return Moments(float(values[0]), float(values[1]), float(values[2]), bool(determined))


def _survey(c: Curve, mean: float, deviation: float) -> tuple[float, Array, bool]:
    """How many standard deviations matter; for each row `_OPEN`, or the infinity (or NaN) that needs no integration; and whether
    no NaN is for want of an answer."""
    scan = np.union1d(_SCAN, (c.marks - mean) / deviation) if c.marks.size else _SCAN
    scan = scan[np.abs(scan) <= _SCAN[-1]]
    value, slope = c.both(mean + deviation * scan)
    regular = ~np.isin(scan, (np.array(c.kinks) - mean) / deviation)
    if (np.exp(-0.5 * scan**2) * 0.4 * np.gradient(scan))[np.isnan(value) & regular].sum() > 1e-9:
        return 0.0, np.full(3, _UNDEFINED), True
    size = np.log(np.abs(np.stack([value, np.where(np.isnan(slope), 0.0, slope)])))
    rows = np.where(np.isnan(size), -np.inf, size)[[0, 0, 1]] * np.array([[1], [2], [2]]) - 0.5 * scan**2
    fixed, reach, determined = np.array(_singular(c)), 0.0, True
    for i, row in enumerate(rows[:, regular]):
        ends = [_end(row), _end(row[::-1])]
        if fixed[i] != _OPEN:
            continue
        if "diverges" in ends:
            signs = np.sign(value[regular])[[0, -1]] * [e == "diverges" for e in ends]
            fixed[i] = math.inf if i else math.nan if signs.min() < 0 < signs.max() else math.copysign(math.inf, signs.sum())
        elif "open" in ends:
            fixed[i], determined = math.nan, False
        elif (row == np.inf)[np.argmin(row == np.inf) : row.size - int(np.argmin(row[::-1] == np.inf))].any():  # leaves float64 in the middle
            fixed[i] = math.copysign(math.inf, value[regular][np.argmax(row)]) if i == 0 else math.inf
        elif (top := row[row < np.inf].max()) > -np.inf:
            reach = max(reach, float(np.abs(scan[regular][(row > top - 40) & (row < np.inf)]).max()) + 0.25)
    return min(reach, float(_SCAN[-1])), fixed, determined


def _end(row: Array) -> str:
    """What the logarithm of an integrand does at its first end: `falls` far enough, `diverges`, or `open`: where float64 ends
    it neither rises by much nor has it fallen."""
    start = int(np.argmin(row == np.inf))  # beyond it the function leaves float64
    top = row[start:][row[start:] < np.inf].max(initial=-np.inf)
    if start >= row.size - 5 or row[start] <= top - 36:
        return "falls"
    return "diverges" if row[start] > row[start + 4] + 0.3 else "open"  # four steps are one standard deviation


@lru_cache(maxsize=256)
def _singular(c: Curve) -> tuple[float, float, float]:
    """What the kinks make of the three integrals whatever the variance: a pole of f as strong as d^-1/2 makes E f^2 infinite."""
    if not c.kinks:
        return _OPEN, _OPEN, _OPEN
    k = np.array(c.kinks)[:, None]
    near = np.where(k == 0, 1e-8, np.maximum(1.0, np.abs(k)))  # at 0 floats are dense
    both = np.stack(c.both(k + np.array([-1e-5, -1e-6, -1e-7, 1e-7, 1e-6, 1e-5]) * near))
    size = np.log10(np.abs(both))
    sides = np.stack([size[..., :3], size[..., :2:-1]], -2)
    power = np.where(np.isfinite(sides[..., :2] - sides[..., 1:]), sides[..., :2] - sides[..., 1:], 0.0).max(-1)  # of the distance
    strong = both[0][:, [2, 3]][power[0] <= -0.999]
    mean = _OPEN if not strong.size else math.nan if strong.min() < 0 < strong.max() else math.copysign(math.inf, strong[0])
    return mean, math.inf if (power[0] <= -0.499).any() else _OPEN, math.inf if (power[1] <= -0.499).any() else _OPEN


def _near_kinks(integrand: Callable[[Array], Array], kinks: Array, gaps: Array) -> Array:
    """The integral within the gaps of the kinks, taking the integrand as c d^p of the distance d; infinite where p <= -1, NaN where
    that is inf - inf, as at the pole of 1 / x."""
    total = np.zeros(4)
    for side in (-1.0, 1.0):
        outer, inner = integrand(kinks + side * gaps), integrand(kinks + side * gaps / 10)
        power = np.log10(np.abs(outer / inner))
        power = np.where(np.isfinite(power), power, 0.0)
        diverges = (power <= -0.999) & (np.abs(outer) * gaps > 1e-13)
        part = np.where(diverges, np.inf * np.sign(outer), gaps * outer / (1 + np.maximum(power, -0.998)))
        total = total + part.sum(1)
    return total


def _edges(kinks: Array, gaps: Array, reach: float, narrow: list[tuple[float, float]]) -> Array:
    """Panels' ends: near kinks and narrow places their widths grow."""
    steps = 10.0 ** np.arange(0, 17 if 0 < kinks.size <= 8 else 1)
    graded = gaps[:, None] * steps
    graded = np.where(graded < 0.3, graded, gaps[:, None])
    sides = np.concatenate([(kinks[:, None] - graded).ravel(), (kinks[:, None] + graded).ravel()])
    grid = np.linspace(-reach, reach, 4 * math.ceil(reach) + 1)
    places = np.array(narrow).reshape(-1, 2, 1)
    around = places[:, 0] + places[:, 1] * np.array([-40.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 40.0])
    return np.unique(np.clip(np.concatenate([grid, sides, around.ravel()]), -reach, reach))


def _panels(integrand: Callable[[Array], Array], kinks: Array, gaps: Array, reach: float, narrow: list[tuple[float, float]]) -> tuple[Array, Array]:
    """The integral over [-reach, reach] without the kinks' gaps, and what may be wrong with it; a panel is halved until its halves
    agree with it."""
    edges = _edges(kinks, gaps, reach, narrow)
    low, high = edges[:-1], edges[1:]
    inside = (np.abs(0.5 * (low + high)[:, None] - kinks) < 0.99 * gaps).any(1)
    low, high = low[~inside], high[~inside]
    coarse = _gauss(integrand, low, high)
    total, scale = np.zeros(4), 1 + np.abs(coarse.sum(1))
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        fine = _gauss(integrand, low, high)
        both = fine[:, : middle.size] + fine[:, middle.size :]
        open_ = (np.abs(both - coarse) > _TOLERANCE * scale[:, None]).any(0)
        total = total + both[:, ~open_].sum(1)
        if not open_.any():
            return total, np.zeros(4)
        if open_.sum() > 4000:
            break
        open_ = np.concatenate([open_, open_])
        low, high, coarse = low[open_], high[open_], fine[:, open_]
    else:
        return np.asarray(total + coarse.sum(1)), np.abs(coarse).sum(1)
    return np.asarray(total + both[:, open_].sum(1)), np.abs(both - coarse)[:, open_].sum(1)


def _gauss(integrand: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Gauss-Legendre on every panel at once: `(4, panels)`."""
    half = 0.5 * (high - low)
    z = 0.5 * (high + low)[:, None] + half[:, None] * _NODES
    rows = integrand(z.ravel()).reshape(4, low.size, _NODES.size)
    return np.asarray((rows @ _WEIGHTS) * half)


@dataclass(frozen=True)
class EdgeOfChaos:
    """Weight variance (times fan_in) and bias variance on the critical line, where the pre-activations' variance `q` is kept
    and chi = 1 (arXiv 1606.05340)."""

    q: float
    weight_variance: float
    bias_variance: float


def edge_of_chaos(graph: Graph) -> EdgeOfChaos | None:
    """The edge at q = 1, else at the q nearest to it in [1e-3, 1e3] that has sigma_b^2 >= 0; None without one."""

    def bias(q: float) -> float:
        """sigma_b^2 = q - E f^2 / E f'^2 in units of q; NaN where the moments are not finite."""
        m = moments(graph, q)
        usable = math.isfinite(m.square) and math.isfinite(m.slope_square) and m.slope_square > 0
        return 1 - m.square / m.slope_square / q if usable else math.nan

    for q in [1.0, *sorted(_VARIANCES, key=lambda v: abs(math.log(v)))]:
        if bias(q) < -1e-8 or math.isnan(bias(q)):
            continue
        found = float(q)
        toward = float(_VARIANCES[np.argmin(np.abs(_VARIANCES - q)) + (1 if q < 1 else -1)]) if q != 1 else 1.0
        if bias(found) > 0 > bias(toward):
            solved = _solve(bias, found, toward)
            found = solved if bias(solved) > -1e-8 else found
        m = moments(graph, found)
        return EdgeOfChaos(found, 1 / m.slope_square, max(0.0, found * bias(found)) if bias(found) > 1e-8 else 0.0)
    return None


@dataclass(frozen=True)
class FixedPoint:
    """The variance that layers of zero-mean LeCun weights settle at, the mean there, and the map's slope (|rate| < 1: attracting)."""

    variance: float
    mean: float
    rate: float

    @property
    def self_normalizing(self) -> bool:
        """Whether the mean is kept at 0 too, as SELU does (arXiv 1706.02515)."""
        return abs(self.mean) < 1e-3 * math.sqrt(self.variance)


def fixed_point(graph: Graph) -> FixedPoint | None:
    """The attracting fixed point of v -> Var f(sqrt(v) z) nearest to 1 in [1e-3, 1e3]; None without one."""

    def gain(v: float) -> float:
        return moments(graph, v).variance / v - 1

    gains = np.array([gain(float(v)) for v in _VARIANCES])
    falling = [i for i in range(gains.size - 1) if 1e-9 < gains[i] < math.inf and gains[i + 1] < -1e-9]
    for i in sorted(falling, key=lambda i: abs(math.log(_VARIANCES[i]))):
        v = _solve(gain, float(_VARIANCES[i]), float(_VARIANCES[i + 1]))
        h = 1e-3
        rate = (moments(graph, v * (1 + h)).variance - moments(graph, v * (1 - h)).variance) / (2 * h * v)
        if abs(rate) < 1:
            return FixedPoint(v, moments(graph, v).mean, rate)
    return None


def _solve(function: Callable[[float], float], first: float, second: float) -> float:
    """The zero between two places where the signs differ, searched in the logarithm."""
    from scipy import optimize  # slow to import, and workers import this file for the cost of a formula

    def bounded(t: float) -> float:
        value = function(math.exp(t))
        return -1.0 if math.isnan(value) else min(value, 1e6)

    return math.exp(float(optimize.brentq(bounded, math.log(first), math.log(second), xtol=1e-11, disp=False)))
