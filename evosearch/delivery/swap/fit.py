"""The free constants of a new activation, fitted to the old one: `a * f(b * x) + c`, and the formula's own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor

from evosearch.language.graph import Graph, Parameter, constant, make, parameter, parameters, replace, variable
from evosearch.meaning.derive import has_statistics, plus, times
from evosearch.meaning.numeric import Array, evaluate

STRETCH = 3.0  # b, and each parameter over its start, is 1/3 to 3: without a limit softplus(b x) / b becomes ReLU itself
POINTS = 513


@dataclass(frozen=True)
class Fit:
    """The fitted graph, and the share of the old activation's variance that it does not give."""

    graph: Graph
    unexplained: float


def can_fit(graph: Graph) -> bool:
    """Whether the formula is elementwise."""
    return not has_statistics(graph)


def gaussian_inputs() -> Tensor:
    """Values of N(0, 1), equally likely, in order."""
    return torch.from_numpy(norm.ppf((np.arange(POINTS) + 0.5) / POINTS)).float()


def quantiles(values: Tensor) -> Tensor:
    """Values that stand for all of these, in order."""
    inside = values[values.isfinite()].sort().values
    return inside[torch.linspace(0, len(inside) - 1, min(POINTS, len(inside))).long()] if len(inside) else inside


def fit(graph: Graph, old: Callable[[Tensor], Tensor], inputs: Tensor, values: Tensor | None = None) -> Fit | None:
    """Least squares over `inputs`, a vector; None where nothing finite is found. Deterministic."""
    with torch.no_grad():
        y = (old(inputs.clone()) if values is None else values).double().cpu().numpy().ravel()
    x = inputs.double().cpu().numpy().ravel()
    fine = np.isfinite(x) & np.isfinite(y)
    x, y = x[fine], y[fine]
    if len(x) < 8 or np.var(y) == 0:
        return None
    free = [p for p in parameters(graph) if p.name not in ("weight", "bias")]

    def at(sign: float, point: Array) -> tuple[float, float, float]:
        return _linear(evaluate(graph, {"x": sign * math.exp(point[0]) * x}, _values(free, point[1:])), y)

    limits = [(-math.log(STRETCH), math.log(STRETCH))] + [(-1.0, 1.0)] * len(free)
    starts = [np.array([b, *np.zeros(len(free))]) for b in np.linspace(*limits[0], 7)]
    plain, mirrored = (min((at(sign, point)[0], index) for index, point in enumerate(starts)) for sign in (1.0, -1.0))
    sign, (first, index) = (-1.0, mirrored) if mirrored[0] < 0.5 * plain[0] else (1.0, plain)  # mirrored only where it is clearly nearer
    if not math.isfinite(first):
        return None
    options = {"xatol": 1e-4, "fatol": 1e-9, "maxiter": 150}
    found = minimize(lambda point: at(sign, point)[0], starts[index], method="Nelder-Mead", bounds=limits, options=options)
    point = found.x if found.fun <= first else starts[index]
    gap, a, c = at(sign, point)
    return Fit(scaled(_bound(graph, free, point[1:], sign * math.exp(point[0])), a, c), gap)


def _linear(f: Array, y: Array) -> tuple[float, float, float]:
    """The unexplained share of the variance of y, and the a and c of `a * f + c` that leave it."""
    with np.errstate(all="ignore"):
        if not np.isfinite(f).all():
            return math.inf, 1.0, 0.0
        spread = float(np.var(f))
        a = float(np.mean((f - f.mean()) * (y - y.mean())) / spread) if spread > 1e-12 else 0.0
        c = float(y.mean() - a * f.mean())
        gap = float(np.mean((y - a * f - c) ** 2) / np.var(y))
    return (gap, a, c) if math.isfinite(gap) and a else (math.inf, 1.0, 0.0)


def _values(free: list[Parameter], moves: Array) -> dict[str, Array | float]:
    return {p.name: _moved(p, float(move)) for p, move in zip(free, moves, strict=True)}


def _moved(p: Parameter, move: float) -> float:
    """A parameter's start, moved by -1 to 1: times 1/3 to 3, or plus -1 to 1 where it starts at 0."""
    return p.init * STRETCH**move if p.init else move


def _bound(graph: Graph, free: list[Parameter], moves: Array, b: float) -> Graph:
    """`f(b * x)` with the parameters started where they were fitted."""
    mapping = {parameter(*p): parameter(p.name, p.kind, _short(_moved(p, float(m)))) for p, m in zip(free, moves, strict=True)}
    return replace(graph, {**mapping, variable("x"): times(constant(_short(b)), variable("x"))})


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def scaled(graph: Graph, a: float, c: float) -> Graph:
    """`a * graph + c`; a scale and a shift that are there already are taken together with the new ones."""
    if graph.op == "surrogate":
        return make("surrogate", *(scaled(part, a, c) for part in graph.args))
    if graph.op == "add" and any(arg.op == "constant" for arg in graph.args):
        number, rest = sorted(graph.args, key=lambda arg: arg.op != "constant")
        c, graph = c + a * float(number.value), rest  # type: ignore[arg-type]
    if graph.op == "mul" and any(arg.op == "constant" for arg in graph.args):
        number, rest = sorted(graph.args, key=lambda arg: arg.op != "constant")
        a, graph = a * float(number.value), rest  # type: ignore[arg-type]
    return plus(times(constant(_short(a)), graph), constant(_short(c)))
