"""Numpy meaning of graphs: values on a grid, a whole population as one shared graph, fingerprints, dense confirmation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, Parameter, make, parameters, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import has_statistics

Array = NDArray[np.float64]

# 64 points on about [-5, 5] plus tails and a point near zero; the dense grid then reaches past +-12, where relu6 and relu,
# gelu and a clipped gelu part. No point is an integer: equal functions are equal almost everywhere, so a removable
# singularity (x / x at 0) and a power that is real at integers only ((-2) ** -2) do not keep them apart.
FINGERPRINT_POINTS: Array = np.concatenate([np.linspace(-5.0123, 5.0147, 61), [-19.87, 19.87, 1.07e-3]])
DENSE_POINTS: Array = np.concatenate([np.linspace(-30.0123, 30.0147, 4001), np.linspace(-0.0511, 0.0513, 41), np.random.default_rng(7).normal(size=256) * 3.0])
# Far out, equal functions may overflow differently (log(1 + exp(x)) and softplus): compared where both are finite.
FAR_POINTS: Array = np.array([s * x for x in (33.7, 41.3, 57.9, 103.1, 317.7, 1013.3, 1.07e4) for s in (-1.0, 1.0)])
PARAMETER_DRAWS = 3


def evaluate(graph: Graph, inputs: Mapping[str, Array], values: Mapping[str, Array | float] | None = None) -> Array:
    """The value of `graph`, in the shape of `x`; parameters are at their initial value unless `values` names them.

    With statistics, `x` has shape `(N, C, *S)` and batch statistics are those of this batch (training mode).
    """
    return evaluate_all([graph], inputs, values)[0]


def evaluate_all(graphs: Sequence[Graph], inputs: Mapping[str, Array], values: Mapping[str, Array | float] | None = None) -> list[Array]:
    """The values of many graphs; what they share is computed once, because equal sub-graphs are one object."""
    roots = [graph.args[0] if graph.op == "surrogate" else graph for graph in graphs]
    shape = np.shape(inputs["x"])
    memo: dict[Graph, Array] = {}
    with np.errstate(all="ignore"):
        for level in _levels(roots):
            for op, nodes in level.items():
                if op:  # one call for all nodes of an operator on a level
                    inside = zip(*(n.args for n in nodes), strict=True)
                    memo.update(zip(nodes, function(op)(*(_stacked([memo[a] for a in args]) for args in inside)), strict=True))
                else:
                    memo.update((n, np.broadcast_to(_value(n, [memo[a] for a in n.args], inputs, values or {}), shape)) for n in nodes)
        return [memo[r] for r in roots]


def _stacked(arrays: list[Array]) -> Array:
    """`np.stack`, ten times faster for many small arrays."""
    return np.concatenate(arrays).reshape(len(arrays), *arrays[0].shape) if arrays[0].ndim else np.stack(arrays)


def _levels(roots: Sequence[Graph]) -> list[dict[str, list[Graph]]]:
    """Every distinct node below the roots by depth and operator; a node's inputs are on lower levels."""
    levels: list[dict[str, list[Graph]]] = [{} for _ in range(max((r.depth for r in roots), default=0))]
    seen: set[Graph] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            levels[node.depth - 1].setdefault(node.op if node.value is None else "", []).append(node)
            stack.extend(node.args)
    return levels


def _value(node: Graph, args: list[Array], inputs: Mapping[str, Array], values: Mapping[str, Array | float]) -> Array:
    x = inputs["x"]
    if isinstance(node.value, float):
        return np.asarray(node.value, dtype=x.dtype)
    if isinstance(node.value, str):
        return inputs[node.value]
    if isinstance(node.value, Parameter):
        value = np.asarray(values.get(node.value.name, node.value.init), dtype=x.dtype)
        return value.reshape((-1,) + (1,) * (x.ndim - 2)) if value.ndim == 1 else value
    assert isinstance(node.value, Axes)
    return _statistic(node.op, args[0], node.value)


@cache
def function(op: str) -> Callable[..., Array]:
    """The numpy function of an operator, from the `numpy` column: a ufunc's name, or a formula over `a` and `b`."""
    if op == "masked":  # the one function that neither numpy, scipy nor a formula over them says
        return lambda a, b: np.where(a == 0, 0.0, a * b)
    column = OPERATORS[op].numpy
    if column.isidentifier() and hasattr(np, column):
        return getattr(np, column)  # type: ignore[no-any-return]
    if column.startswith("special."):
        from scipy import special  # half a second, which whoever only reads a configuration does not need

        return getattr(special, column.removeprefix("special."))  # type: ignore[no-any-return]
    return _composed(parse(column, inputs=("a", "b")))


def _composed(formula: Graph) -> Callable[..., Array]:
    """A formula over `a` and `b` as a function: its nodes as steps over numbered values, so that a call walks no graph."""
    order = list(walk(formula))
    at = {node: i for i, node in enumerate(order)}
    given = {i: "ab".index(str(n.value)) for i, n in enumerate(order) if n.op == "input"}
    steps = [(i, function(n.op), [at[a] for a in n.args]) for i, n in enumerate(order) if n.args]
    start: list[Any] = [n.value if isinstance(n.value, float) else None for n in order]

    def composed(*args: Array) -> Array:
        values = list(start)
        for i, which in given.items():
            values[i] = args[which]
        for i, step, inputs in steps:
            values[i] = step(*[values[j] for j in inputs])
        return np.asarray(values[-1])

    return composed


def _statistic(op: str, e: Array, axes: Axes) -> Array:
    if axes.axes == "row":
        return _reduce(op, e, (-1,), axes.eps)
    if e.ndim < 2:
        raise ValueError(f"statistics need an input of shape (N, C, *S); received shape {e.shape}")
    if axes.axes == "group":
        return _group_statistic(op, e, axes)
    spatial = tuple(range(2, e.ndim))
    dims = {"batch": (0, *spatial), "instance": spatial, "layer": (1, *spatial), "channel": (1,)}[axes.axes]
    return _reduce(op, e, dims, axes.eps)


def _reduce(op: str, e: Array, dims: tuple[int, ...], eps: float | None) -> Array:
    if not dims:  # one place a channel: each element is its own statistic
        e, dims = e[..., None], (-1,)
        return _reduce(op, e, dims, eps)[..., 0]
    if op in ("sum", "max"):
        return np.asarray(e.sum(axis=dims, keepdims=True) if op == "sum" else e.max(axis=dims, keepdims=True))
    mean: Array = e.mean(axis=dims, keepdims=True)
    if op == "mean":
        return mean
    moment: Array = np.square(e if op == "rms" else e - mean).mean(axis=dims, keepdims=True)
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


def fingerprints(graphs: Sequence[Graph]) -> list[bytes | None]:
    """A key per graph that equal functions share; None where nothing is finite. Two with one key still need `equal`.

    A whole population is evaluated as one shared graph and rounded as one matrix. Surrogates count: `relu(x)` and
    `relu(x) ~ relu(x + 0.1)` have different keys.
    """
    keys: list[bytes | None] = [None] * len(graphs)
    kinds: dict[str, list[int]] = {}
    for i, graph in enumerate(graphs):
        kinds.setdefault(_kind(graph), []).append(i)
    for kind, members in kinds.items():
        rows = _sampled([graphs[i] for i in members], FINGERPRINT_POINTS)
        rounded = _rounded(rows)
        for at, i in enumerate(members):
            keys[i] = kind.encode() + rounded[at].tobytes() if np.isfinite(rows[at]).any() else None
    return keys


def _kind(graph: Graph) -> str:
    """What equal graphs share before any number is looked at: how they are sampled, their parameters, their groups."""
    groups = sorted({max(1, v.groups) for v in graph.holds if isinstance(v, Axes)})  # one group is the layer
    shape = sorted(f"{v.kind}:{v.init!r}" for v in graph.holds if isinstance(v, Parameter))
    return f"{groups}|{shape}|{'y' in graph.holds}|{graph.op == 'surrogate'}|"


def _sampled(graphs: Sequence[Graph], points: Array) -> Array:
    """Values of graphs of one kind (and of their surrogates) at `points` under several parameter draws: a row a graph."""
    first = graphs[0]
    layouts = _tensors(points) if has_statistics(first) else [points]
    parts = [list(g.args) if g.op == "surrogate" else [g] for g in graphs]
    parts = [[_fewer_groups(p) for p in row] for row in parts] if has_statistics(first, "group") else parts
    columns = []
    for draw, x in product(range(PARAMETER_DRAWS if parameters(first) else 1), layouts):
        # every quadrant of a gate's plane: on a line, or nearly one, a gate hides most of itself
        inputs = {"x": x, "y": np.random.default_rng(29).permutation(x.ravel()).reshape(x.shape) * 0.7 + 0.3}
        for j in range(len(parts[0])):
            if draw == 0:
                values = evaluate_all([row[j] for row in parts], inputs)
            else:  # parameters may be used in another order: each graph has draws of its own
                channels = x.shape[1] if x.ndim > 1 else None
                values = [evaluate(row[j], inputs, _draw(g, draw, channels)) for g, row in zip(graphs, parts, strict=True)]
            columns.append(np.stack([v.ravel() for v in values]))
    return np.concatenate(columns, axis=1)


def _rounded(rows: Array) -> Array:
    """Seven significant digits; what is next to zero is zero."""
    with np.errstate(all="ignore"):
        size = np.abs(rows)
        scale = 10.0 ** (6 - np.floor(np.log10(np.maximum(size, 1e-9))))
        key = np.rint(rows * scale) / scale
    key[size < 1e-9] = 0.0
    odd = ~np.isfinite(rows)
    key[odd] = np.where(np.isnan(rows[odd]), np.nan, rows[odd])
    return key + 0.0


def _tensors(points: Array) -> list[Array]:
    """Points laid out as `(2, 8, s, 2)` and, small, large and all negative, as `(2, 4, s, 4)`: every axis set reduces over
    something different, sums are not multiples of means, and thresholds on a statistic show on one side or the other."""
    mixed = np.random.default_rng(3).permutation(np.clip(points[: points.size // 32 * 32], -20.0, 20.0))
    some = mixed[:64].reshape(2, 4, 2, 4)
    return [mixed.reshape(2, 8, -1, 2), 0.01 * some, 300.0 * some, -np.abs(some) - 0.1]


def _fewer_groups(graph: Graph) -> Graph:
    """The graph with two groups for the smallest number of several and four for the next: 32 of 8 channels would be single ones."""
    several = sorted({v.groups for v in graph.holds if isinstance(v, Axes) and v.groups > 1})
    fewer = {groups: (2, 4, 8)[min(i, 2)] for i, groups in enumerate(several)}
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        value = node.value
        if isinstance(value, Axes) and value.groups > 1:
            value = value._replace(groups=fewer[value.groups])
        built[node] = make(node.op, *(built[a] for a in node.args), value=value)
    return built[graph]


def _draw(graph: Graph, draw: int, channels: int | None) -> dict[str, Array | float]:
    """Values of the parameters, one a channel where there are channels: draw 1 above the initial values, draw 2 below zero.

    Each parameter has a value of its own; the order is the canonical one.
    """
    shift = np.random.default_rng(100 + draw)
    found: dict[str, Array | float] = {}
    for p in parameters(graph):
        moved = shift.uniform(0.2, 1.2, channels if p.kind == "channel" else None)
        found[p.name] = p.init + moved if draw == 1 else -abs(p.init) - moved
    return found


def equal(first: Graph, second: Graph, tolerance: float = 1e-6) -> bool:
    """Dense confirmation: the two agree, finite or not, on a dense grid with tails under several parameter draws."""
    if first is second:
        return True
    if _kind(first) != _kind(second):
        return False
    a, b = (_dense(graph) for graph in (first, second))
    if not np.isfinite(a).any() or not np.isfinite(b).any():  # finite nowhere: one class, whatever the signs of infinity
        return not (np.isfinite(a).any() or np.isfinite(b).any())
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    if not np.array_equal(a[~finite & ~np.isnan(a)], b[~finite & ~np.isnan(a)]):
        return False
    gap = np.abs(a[finite] - b[finite])
    if not np.all(gap <= tolerance * (1e-3 + np.abs(a[finite]))):
        return False
    far, other = _far(first), _far(second)
    both = np.isfinite(far) & np.isfinite(other)
    return bool(np.all(np.abs(far[both] - other[both]) <= tolerance * (1e-3 + np.abs(far[both]))))


def _far(graph: Graph) -> Array:
    if has_statistics(graph):
        return np.zeros(0)  # the layouts hold large and small scales
    values: Array = _sampled([graph], FAR_POINTS)[0]
    return values


@lru_cache(maxsize=512)
def _dense(graph: Graph) -> Array:
    values: Array = _sampled([graph], DENSE_POINTS)[0]
    return values
