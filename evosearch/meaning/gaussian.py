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
from evosearch.meaning.numeric import Array
from evosearch.meaning.shape import Curve, curve

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_SCAN: Array = np.linspace(-38.0, 38.0, 305) + math.pi / 1000  # in standard deviations; further out the density underflows
_TOLERANCE = 1e-10
_OPEN, _UNDEFINED = 0.0, math.nan
_VARIANCES: Array = np.geomspace(1e-3, 1e3, 24)  # 1 is not among them: SELU's fixed point lies between two


@dataclass(frozen=True)
class Moments:
    """E f, E f^2, E f'^2; infinite where the integral diverges (or leaves float64), NaN where it is not defined: the function
    is not a number, or the mean is inf - inf."""

    mean: float
    square: float
    slope_square: float

    @property
    def variance(self) -> float:
        return max(0.0, self.square - self.mean**2) if math.isfinite(self.square) else self.square

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
        reach, fixed = _survey(c, mean, deviation)
        wanted = fixed == _OPEN
        if reach == 0:  # nothing to integrate, or the zero function
            return Moments(*fixed.tolist())

        def integrand(z: Array) -> Array:
            value, slope = c.both(mean + deviation * z)
            rows = np.stack([value, value * value, slope * slope]) * (np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
            rows[~wanted] = 0.0
            return np.where(np.isnan(rows), 0.0, rows)

        kinks = (np.array(c.kinks) - mean) / deviation
        kinks = np.sort(kinks[np.abs(kinks) < reach])
        gaps = 1e-9 * np.maximum(np.abs(kinks), 1e-9)  # the neighborhoods that are integrated as a power of the distance
        near = np.where(wanted, _near_kinks(integrand, kinks, gaps), fixed)
        wanted &= np.isfinite(near)
        total = near + _panels(integrand, kinks, gaps, reach) if wanted.any() else near
    return Moments(*total.tolist())


def _survey(c: Curve, mean: float, deviation: float) -> tuple[float, Array]:
    """How many standard deviations matter, and for each row `_OPEN`, or the infinity (or `_UNDEFINED`) that needs no integration."""
    value, slope = c.both(mean + deviation * _SCAN)
    mass = np.exp(-0.5 * _SCAN**2) * 0.1
    if mass[np.isnan(value)].sum() > 1e-9:
        return 0.0, np.full(3, _UNDEFINED)
    size = np.log(np.abs(np.stack([value, np.where(np.isnan(slope), 0.0, slope)])))
    rows = np.where(np.isnan(size), -np.inf, size)[[0, 0, 1]] * np.array([[1], [2], [2]]) - 0.5 * _SCAN**2
    fixed = np.full(3, _OPEN)
    reach = 0.0
    for i, row in enumerate(rows):
        at = int(np.argmax(row))
        top = row[at]
        if top == np.inf or (top > -np.inf and row[[0, -1]].max() > top - 25):
            both = i == 0 and row[[0, -1]].min() > top - 25 and value[0] * value[-1] < 0
            fixed[i] = math.nan if both else math.copysign(math.inf, value[at]) if i == 0 else math.inf
        elif top > -np.inf:
            reach = max(reach, float(np.abs(_SCAN[row > top - 40]).max()) + 0.25)
    return reach, fixed


def _near_kinks(integrand: Callable[[Array], Array], kinks: Array, gaps: Array) -> Array:
    """The integral within the gaps of the kinks, taking the integrand as c d^p of the distance d; infinite where p <= -1, NaN where
    that is inf - inf, as at the pole of 1 / x."""
    total = np.zeros(3)
    for side in (-1.0, 1.0):
        outer, inner = integrand(kinks + side * gaps), integrand(kinks + side * gaps / 10)
        power = np.log10(np.abs(outer / inner))
        power = np.where(np.isfinite(power), power, 0.0)
        diverges = (power <= -0.999) & (np.abs(outer) * gaps > 1e-13)
        part = np.where(diverges, np.inf * np.sign(outer), gaps * outer / (1 + np.maximum(power, -0.998)))
        total = total + part.sum(1)
    return total


def _panels(integrand: Callable[[Array], Array], kinks: Array, gaps: Array, reach: float) -> Array:
    """The integral over [-reach, reach] without the kinks' gaps, near them in panels of growing width; a panel is halved until
    its halves agree with it."""
    steps = 10.0 ** np.arange(0, 17 if 0 < kinks.size <= 8 else 1)
    graded = gaps[:, None] * steps
    graded = np.where(graded < 0.3, graded, gaps[:, None])
    sides = np.concatenate([(kinks[:, None] - graded).ravel(), (kinks[:, None] + graded).ravel()])
    grid = np.linspace(-reach, reach, 4 * math.ceil(reach) + 1)
    edges = np.unique(np.clip(np.concatenate([grid, sides]), -reach, reach))
    low, high = edges[:-1], edges[1:]
    inside = (np.abs(0.5 * (low + high)[:, None] - kinks) < 0.99 * gaps).any(1)
    low, high = low[~inside], high[~inside]
    coarse = _gauss(integrand, low, high)
    total, scale = np.zeros(3), 1 + np.abs(coarse.sum(1))
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        fine = _gauss(integrand, low, high)
        both = fine[:, : middle.size] + fine[:, middle.size :]
        open_ = (np.abs(both - coarse) > _TOLERANCE * scale[:, None]).any(0)
        total = total + both[:, ~open_].sum(1)
        if not open_.any() or open_.sum() > 4000:
            return np.asarray(total + both[:, open_].sum(1))
        open_ = np.concatenate([open_, open_])
        low, high, coarse = low[open_], high[open_], fine[:, open_]
    return np.asarray(total + coarse.sum(1))


def _gauss(integrand: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Gauss-Legendre on every panel at once: `(3, panels)`."""
    half = 0.5 * (high - low)
    z = 0.5 * (high + low)[:, None] + half[:, None] * _NODES
    rows = integrand(z.ravel()).reshape(3, low.size, _NODES.size)
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
