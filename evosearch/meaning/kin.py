"""Which known gate or attention a layer is, its output and its inputs scaled: `a * f(b x, c y)`, `a * f(b x)` over rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from evosearch.language.graph import Axes, Graph, depends_on, exchanged
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.numeric import Array, evaluate

_POINTS: Array = np.random.default_rng(23).normal(size=(2, 32, 12)) * 2.0  # of both inputs: 32 rows of 12
_RATES: Array = np.concatenate([s * np.geomspace(0.125, 8.0, 13) for s in (1.0, -1.0)])
_STEPS = (0.3, 0.06, 0.012, 0.0024, 0.0005)  # of the logarithm of a rate
_SHORT = 5
_FAR = 8.0


@dataclass(frozen=True)
class Kin:
    """The nearest known layer: `scale * f(rates[0] * x, rates[1] * y)` is at `distance`; `inputs` are those of f in its order, `xy` or `yx`."""

    name: str
    distance: float
    scale: float
    rates: tuple[float, ...]
    inputs: str
    holds_far_out: bool  # to 1 % of the layer's size on points eight times as far


def has_kin(graph: Graph) -> bool:
    """Whether it is a gate of one place, or a function of x and its row alone."""
    if graph.op == "surrogate":
        return False
    sets = {value.axes for value in graph.holds if isinstance(value, Axes)}
    return sets == {"row"} if not depends_on(graph, "y") else not sets


def kin(graph: Graph, known: Mapping[str, Graph]) -> Kin | None:
    """The nearest of the known layers of the same kind, parameters at their initial values; None where there is none, or nothing is finite."""
    two = depends_on(graph, "y")
    found: list[Kin] = []
    for inputs, form in (("xy", graph), ("yx", exchanged(graph))) if two else (("x", graph),):
        values = _at(form, np.ones((1, 1 + two)))[0]
        if not np.isfinite(values).all() or not values.any():
            continue
        for name, other in known.items():
            if has_kin(other) and depends_on(other, "y") == two and has_statistics(other) == has_statistics(graph):
                found.append(_fit(form, values, name, other, inputs))
    return min(found, key=lambda k: (k.distance, k.inputs != "xy"), default=None)


def _fit(graph: Graph, values: Array, name: str, other: Graph, inputs: str) -> Kin:
    """Least squares over the scale in closed form, over the rates on a grid that is refined."""
    rates = _grid(len(inputs))
    distance, scale, best = _best(values, _coarse(other), rates)
    for step in _STEPS:
        moves = np.exp(step * np.arange(-4, 5))
        rates = best * np.stack([m.ravel() for m in np.meshgrid(*[moves] * len(inputs), indexing="ij")], 1)
        distance, scale, best = min((distance, scale, best), _best(values, _at(other, rates), rates), key=lambda found: found[0])
    far, theirs = _at(graph, np.full((1, len(inputs)), _FAR))[0], scale * _at(other, _FAR * best[None])[0]
    both = np.isfinite(far) & np.isfinite(theirs)
    size = float(np.abs(far[both]).max(initial=0.0))
    holds = size > 0 and bool((np.abs(far - theirs)[both] <= 0.01 * size).all())
    return Kin(name, distance, scale, tuple(map(float, best)), inputs, holds)


def _grid(inputs: int) -> Array:
    return np.stack([r.ravel() for r in np.meshgrid(*[_RATES] * inputs, indexing="ij")], 1)


@lru_cache(maxsize=32)
def _coarse(graph: Graph) -> Array:
    return _at(graph, _grid(1 + depends_on(graph, "y")))


def _at(graph: Graph, rates: Array) -> Array:
    """The values with each input times its rate, `(len(rates), points)`; of a function of rows on short ones too, since it may count them."""
    x, y = (rates[:, min(i, rates.shape[1] - 1), None, None] * _POINTS[i] for i in (0, 1))
    widths = (x.shape[-1], _SHORT) if has_statistics(graph) else (x.shape[-1],)
    return np.hstack([evaluate(graph, {"x": x[..., :width], "y": y[..., :width]}).reshape(len(rates), -1) for width in widths])


def _best(values: Array, curves: Array, rates: Array) -> tuple[float, float, Array]:
    """The relative distance, the scale and the rates of the nearest curve; of equal ones those whose rates are nearest to 1."""
    with np.errstate(all="ignore"):
        scales = curves @ values / np.maximum(np.square(curves).sum(1), 1e-300)
        gaps = np.sqrt(np.square(values - scales[:, None] * curves).sum(1) / np.square(values).sum())
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    at = int(np.argmin(gaps + 1e-9 * np.abs(np.log(np.abs(rates))).sum(1) + 1e-10 * (rates < 0).sum(1)))
    return float(gaps[at]), float(scales[at]), rates[at]
