"""Numpy meaning of graphs: values on a grid, a whole population as one shared graph, fingerprints, dense confirmation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, Parameter, parameter, parameters, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import has_statistics

Array = NDArray[np.float64]

# 64 points on [-5, 5] plus tails and a point near zero: 0.33 % false merges before confirmation (measured); the
# dense grid then reaches past +-12, where relu6 and relu, gelu and a clipped gelu part.
FINGERPRINT_POINTS: Array = np.concatenate([np.linspace(-5.0, 5.0, 61), [-20.0, 20.0, 1e-3]])
DENSE_POINTS: Array = np.concatenate(
    [np.linspace(-60.0, 60.0, 1201), np.linspace(-0.05, 0.05, 41), np.random.default_rng(7).normal(size=256) * 3.0]
)
PARAMETER_DRAWS = 3


def evaluate(graph: Graph, inputs: Mapping[str, Array], values: Mapping[str, Array | float] | None = None) -> Array:
    """The value of `graph`, in the shape of `x`; parameters are at their initial value unless `values` names them.

    With statistics, `x` has shape `(N, C, *S)` and batch statistics are those of this batch (training mode).
    """
    return evaluate_all([graph], inputs, values)[0]


def evaluate_all(
    graphs: Iterable[Graph], inputs: Mapping[str, Array], values: Mapping[str, Array | float] | None = None
) -> list[Array]:
    """The values of many graphs; what they share is computed once, because equal sub-graphs are one object."""
    x = inputs["x"]
    memo: dict[Graph, Array] = {}
    results = []
    with np.errstate(all="ignore"):
        for graph in graphs:
            root = graph.args[0] if graph.op == "surrogate" else graph
            for node in walk(root):
                if node not in memo:
                    memo[node] = _value(node, [memo[a] for a in node.args], inputs, values or {})
            results.append(np.broadcast_to(memo[root], x.shape))
    return results


def _value(node: Graph, args: list[Array], inputs: Mapping[str, Array], values: Mapping[str, Array | float]) -> Array:
    x = inputs["x"]
    if isinstance(node.value, float):
        return np.asarray(node.value)
    if isinstance(node.value, str):
        return inputs[node.value]
    if isinstance(node.value, Parameter):
        value = np.asarray(values.get(node.value.name, node.value.init))
        return value.reshape((-1,) + (1,) * (x.ndim - 2)) if value.ndim == 1 else value
    if isinstance(node.value, Axes):
        return _statistic(node.op, np.broadcast_to(args[0], x.shape), node.value)
    return function(node.op)(*args)


@cache
def function(op: str) -> Callable[..., Array]:
    """The numpy function of an operator, from the `numpy` column: a ufunc's name, or a formula over `a` and `b`."""
    column = OPERATORS[op].numpy
    if column.isidentifier() and hasattr(np, column):
        return getattr(np, column)  # type: ignore[no-any-return]
    if column.startswith("special."):
        return getattr(special, column.removeprefix("special."))  # type: ignore[no-any-return]
    formula = parse(column, inputs=("a", "b"))

    def composed(*args: Array) -> Array:
        first = np.asarray(args[0]) + 0.0 * np.asarray(args[-1])
        return evaluate(formula, {"x": first, **{n: np.asarray(v) for n, v in zip("ab", args, strict=False)}})

    return composed


def _statistic(op: str, e: Array, axes: Axes) -> Array:
    if e.ndim < 2:
        raise ValueError(f"statistics need an input of shape (N, C, *S); received shape {e.shape}")
    if axes.axes == "group":
        return _group_statistic(op, e, axes)
    spatial = tuple(range(2, e.ndim))
    dims = {"batch": (0, *spatial), "instance": spatial, "layer": (1, *spatial), "channel": (1,)}[axes.axes]
    return _reduce(op, e, dims, axes.eps)


def _reduce(op: str, e: Array, dims: tuple[int, ...], eps: float | None) -> Array:
    mean = e.mean(axis=dims, keepdims=True) if dims else e
    if op == "mean":
        return mean
    centered = e if op == "rms" else e - mean
    square = np.square(centered)
    moment = square.mean(axis=dims, keepdims=True) if dims else square
    return moment if op == "var" else np.sqrt(moment + (eps or 0.0))


def _group_statistic(op: str, e: Array, axes: Axes) -> Array:
    n, c = e.shape[:2]
    groups = group_count(c, axes.groups)
    reduced = _reduce(op, e.reshape(n, groups, -1), (2,), axes.eps)
    return np.repeat(reduced[..., 0], c // groups, axis=1).reshape(n, c, *(1,) * (e.ndim - 2))


def group_count(channels: int, groups: int) -> int:
    """The number of groups: `groups`, lowered until it divides the channels (the official EvoNorm rule)."""
    count = max(1, min(groups, channels))
    while channels % count:
        count -= 1
    return count


def fingerprints(graphs: list[Graph]) -> list[bytes | None]:
    """A key per graph that equal functions share; None where nothing is finite. Two with one key still need `equal`.

    Surrogates count: `relu(x)` and `relu(x) ~ relu(x + 0.1)` have different keys.
    """
    return [_fingerprint(graph) for graph in graphs]


def _fingerprint(graph: Graph) -> bytes | None:
    rows = _samples(graph, FINGERPRINT_POINTS, PARAMETER_DRAWS if parameters(graph) else 1)
    if rows is None:
        return None
    with np.errstate(all="ignore"):
        rounded = np.where(np.abs(rows) < 1e-9, 0.0, rows)
        scale = 10.0 ** (6 - np.floor(np.log10(np.maximum(np.abs(rounded), 1e-9))))
        key = np.rint(rounded * scale) / scale
    key = np.where(np.isfinite(rows), key, np.where(np.isnan(rows), np.nan, rows)) + 0.0
    shape = ",".join(sorted(f"{p.kind}:{p.init!r}" for p in parameters(graph)))
    return f"{has_statistics(graph)}|{shape}|".encode() + key.tobytes()


def _samples(graph: Graph, points: Array, draws: int) -> Array | None:
    """Values of the graph (and of its surrogate) at `points` under several parameter draws; None if none is finite."""
    x = _tensor(points) if has_statistics(graph) else points
    parts = list(graph.args) if graph.op == "surrogate" else [graph]
    rows = []
    for draw in range(draws):
        values = _draw(graph, draw)
        rows += [v.ravel() for v in evaluate_all(parts, {"x": x, "y": np.flip(x) * 0.7 + 0.3}, values)]
    samples = np.stack(rows)
    return samples if np.isfinite(samples).any() else None


def _tensor(points: Array) -> Array:
    """Points laid out as `(2, 4, *S)` so that every axis set reduces over something different."""
    usable = points[: points.size // 8 * 8]
    return np.random.default_rng(3).permutation(np.clip(usable, -20.0, 20.0)).reshape(2, 4, -1)


def _draw(graph: Graph, draw: int) -> dict[str, Array | float]:
    """Draw 0 is the initial values; later draws move each parameter by its own fixed amount (the order is the canonical one)."""
    if draw == 0:
        return {}
    shift = np.random.default_rng(100 + draw)
    return {p.name: p.init + float(shift.uniform(0.2, 1.2)) for p in parameters(graph)}


def equal(first: Graph, second: Graph, tolerance: float = 1e-6) -> bool:
    """Dense confirmation: the two agree, finite or not, on a dense grid with tails under several parameter draws."""
    if first is second:
        return True
    if (first.op == "surrogate") != (second.op == "surrogate"):
        return False
    draws = PARAMETER_DRAWS if parameters(first) or parameters(second) else 1
    a, b = (_samples(graph, DENSE_POINTS, draws) for graph in (first, second))
    if a is None or b is None or a.shape != b.shape:
        return a is b
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    if not np.array_equal(a[~finite & ~np.isnan(a)], b[~finite & ~np.isnan(a)]):
        return False
    gap = np.abs(a[finite] - b[finite])
    return bool(np.all(gap <= tolerance * (1e-3 + np.abs(a[finite]))))


def leaf(item: Parameter) -> Graph:
    """The graph node of a parameter."""
    return parameter(item.name, item.kind, item.init)
