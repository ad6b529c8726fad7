"""What can be known of a function without training it: cost, the nearest known function, whether it is new."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from evosearch.language.graph import Axes, Graph, parameters, walk
from evosearch.language.library import library
from evosearch.language.operators import OPERATORS, STATISTIC_COST
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.numeric import equal, evaluate

# Judged where a network's pre-activations live, and weighted as they are there; tails enter by `equal`.
_GRID: NDArray[np.float64] = np.linspace(-6.0, 6.0, 481)
_WEIGHT: NDArray[np.float64] = np.exp(-np.square(_GRID) / 8.0)
_RATES: NDArray[np.float64] = np.concatenate([-np.geomspace(8.0, 0.125, 97), np.geomspace(0.125, 8.0, 97)])
RESCALED_DISTANCE = 2e-3


@dataclass(frozen=True)
class Novelty:
    """How new a function is: `known`, `rescaled` (a f(b x) of a known one) or `new`, with the nearest known function.

    `distance` is the weighted root-mean-square gap after the best a, b, relative to the function's own size (0 to 1).
    """

    label: str
    nearest: str
    distance: float
    scale: float
    rate: float


def complexity(graph: Graph) -> int:
    """Sum of the integer operator costs over the distinct nodes, one for each learnable parameter. No unit; deterministic."""
    total = len(parameters(graph))
    for node in walk(graph):
        if isinstance(node.value, Axes):
            total += STATISTIC_COST[node.op]
        elif node.op in OPERATORS:
            total += OPERATORS[node.op].cost
    return total


def novelty(graph: Graph) -> Novelty:
    """Which known function this one is, is a rescaling of, or is nearest to; parameters at their initial values."""
    candidates = [layer for layer in library().values() if has_statistics(layer.graph) == has_statistics(graph)]
    for layer in candidates:
        if equal(graph, layer.graph):
            return Novelty("known", layer.name, 0.0, 1.0, 1.0)
    if has_statistics(graph) or graph.op == "surrogate":
        return Novelty("new", "", 1.0, 1.0, 1.0)
    values = _on_grid(graph)
    best = min((_fit(values, name) for name in _curves()), key=lambda fit: fit[0])
    distance, scale, rate, name = best
    return Novelty("rescaled" if distance < RESCALED_DISTANCE else "new", name, distance, scale, rate)


def _on_grid(graph: Graph) -> NDArray[np.float64]:
    values = evaluate(graph, {"x": _GRID, "y": _GRID})
    return np.where(np.isfinite(values), values, 0.0)


@cache
def _curves() -> dict[str, NDArray[np.float64]]:
    """f(b x) of each known elementwise function for every rate b, `(len(rates), len(grid))`."""
    curves = {}
    for name, layer in library().items():
        if layer.kind == "activation":
            points = np.outer(_RATES, _GRID)
            values = evaluate(layer.graph, {"x": points, "y": points})
            curves[name] = np.where(np.isfinite(values), values, 0.0)
    return curves


def _fit(values: NDArray[np.float64], name: str) -> tuple[float, float, float, str]:
    """Least squares of a f(b x): the best b on a grid, refined once, a in closed form."""
    best = _best_scale(values, _curves()[name], _RATES)
    graph = library()[name].graph
    for width in (0.045, 0.002, 0.0001):
        rates = best[2] * np.exp(np.linspace(-width, width, 25))
        points = np.outer(rates, _GRID)
        refined = evaluate(graph, {"x": points, "y": points})
        best = min(best, _best_scale(values, np.where(np.isfinite(refined), refined, 0.0), rates))
        if best[0] > 0.1:
            break
    return (*best, name)


def _best_scale(
    values: NDArray[np.float64], curves: NDArray[np.float64], rates: NDArray[np.float64]
) -> tuple[float, float, float]:
    with np.errstate(all="ignore"):
        power = np.maximum((_WEIGHT * np.square(curves)).sum(1), 1e-300)
        scales = (_WEIGHT * curves * values).sum(1) / power
        gaps = (_WEIGHT * np.square(values - scales[:, None] * curves)).sum(1)
        relative = np.sqrt(gaps / max(float((_WEIGHT * np.square(values)).sum()), 1e-300))
    relative = np.where(np.isfinite(relative), relative, np.inf)
    at = int(np.argmin(relative + 1e-9 * np.abs(np.log(np.abs(rates)))))  # of equal ones the rate nearest 1
    return float(relative[at]), float(scales[at]), float(rates[at])
