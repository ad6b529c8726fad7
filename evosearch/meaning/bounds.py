"""Proven bounds of an elementwise function: interval arithmetic on the graph, infinite ends included.

An interval of one point at infinity gives the limit there, where the parts have limits and none is inf - inf or 0 * inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from evosearch.language.graph import Graph, walk
from evosearch.meaning.numeric import function

Interval = tuple[float, float]
ALL: Interval = (-math.inf, math.inf)

# Rising operators, and what they tend to at -inf and at +inf; log and sqrt start where they are numbers.
_RISING: dict[str, Interval] = {
    "exp": (0, math.inf), "expm1": (-1, math.inf), "log1p": ALL, "log": ALL, "sqrt": (0, math.inf),
    "cube": ALL, "symlog": ALL, "signed_sqrt": ALL, "sinh": ALL, "asinh": ALL, "leaky_relu": ALL,
    "atan": (-math.pi / 2, math.pi / 2), "tanh": (-1, 1), "erf": (-1, 1), "softsign": (-1, 1), "hardtanh": (-1, 1),
    "sigmoid": (0, 1), "hardsigmoid": (0, 1), "relu": (0, math.inf), "relu6": (0, 6), "negative_part": (-math.inf, 0),
    "softplus": (0, math.inf), "logsigmoid": (-math.inf, 0), "elu": (-1, math.inf), "selu": (-1.7580993408473766, math.inf),
}  # fmt: skip
_EVEN: dict[str, Interval] = {"abs": (0, math.inf), "square": (0, math.inf), "cosh": (1, math.inf), "gaussian": (1, 0)}  # at 0, at +-inf
_WITHIN: dict[str, Interval] = {
    "sin": (-1, 1), "cos": (-1, 1), "sinc": (-0.2172336282112217, 1), "sign": (-1, 1), "step": (0, 1), "greater": (0, 1), "equals": (0, 1),
    "gaussian_distance": (0, 1), "laplace_distance": (0, 1), "i0e": (0, 1), "i1e": (-0.22, 0.22),
}  # fmt: skip
_SELF_GATED = {"silu": -0.27846454277, "gelu": -0.16997120748, "mish": -0.3089, "hardswish": -0.375, "elish": -0.18}


def bounds(graph: Graph, low: float = -math.inf, high: float = math.inf) -> Interval:
    """An interval that holds every value of the graph for x in [low, high], up to rounding; wide where it cannot be told."""
    memo: dict[Graph, Interval] = {}
    with np.errstate(all="ignore"):
        for node in walk(graph.args[0] if graph.op == "surrogate" else graph):
            found = (low, high) if node.op == "input" else _node(node, [memo[a] for a in node.args])
            memo[node] = ALL if math.isnan(found[0]) or math.isnan(found[1]) else found
    return found


def limit(graph: Graph, side: float) -> float:
    """The limit for x to side * inf; NaN where this arithmetic cannot tell."""
    low, high = bounds(graph, side * math.inf, side * math.inf)
    return low if low == high else math.nan


def _node(node: Graph, args: list[Interval]) -> Interval:
    op = node.op
    if isinstance(node.value, float):
        return node.value, node.value
    if op == "parameter":
        return (value := float(getattr(node.value, "init", math.nan))), value
    if op in _RISING:
        return _at(op, args[0][0], _RISING[op]), _at(op, args[0][1], _RISING[op])
    if op in _EVEN:
        size = _size(args[0])
        return _ordered(_at(op, size[0], (math.nan, _EVEN[op][1])), _at(op, size[1], (math.nan, _EVEN[op][1])))
    if op in _SELF_GATED:
        return _self_gated(op, args[0])
    if op in ("sign", "step", "greater") and 0 not in args[0]:
        return _switch(op, args)
    if op in _WITHIN:
        return _WITHIN[op]
    return _BINARY[op](*args) if op in _BINARY else _power(args) if op == "pow" else ALL


def _at(op: str, a: float, ends: Interval) -> float:
    value = math.nan if math.isinf(a) else float(function(op)(np.array([a]))[0])
    return ends[a > 0] if math.isnan(value) else value


def _size(a: Interval) -> Interval:
    """The interval of |a|."""
    inner = 0.0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))
    return inner, max(abs(a[0]), abs(a[1]))


def _ordered(a: float, b: float) -> Interval:
    return (a, b) if not a > b else (b, a)


def _self_gated(op: str, a: Interval) -> Interval:
    high = max(0.0, a[1])
    if a == (-math.inf, -math.inf):
        return 0.0, 0.0
    return (math.inf, high) if a[0] == math.inf else (_SELF_GATED[op], high)


def _switch(op: str, args: list[Interval]) -> Interval:
    low, high = _add(args[0], _negative(args[1])) if op == "greater" else args[0]
    if low <= 0 <= high or math.isnan(low):
        return _WITHIN[op]
    return (1.0, 1.0) if low > 0 else (_WITHIN[op][0],) * 2


def _add(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]


def _negative(a: Interval) -> Interval:
    return -a[1], -a[0]


def _times(a: Interval, b: Interval) -> Interval:
    """The extreme products. An end of an interval is only approached, so that 0 * inf is 0 there; of two limits it is unknown."""
    if (a[0] == a[1] or b[0] == b[1]) and any(math.isnan(p * q) for p in a for q in b):
        return ALL
    products = [0.0 if p == 0 or q == 0 else p * q for p in a for q in b]
    return min(products), max(products)


def _inverse(a: Interval) -> Interval:
    if a[0] < 0 < a[1] or a == (0, 0):
        return ALL
    return (-math.inf if a[1] == 0 else 1 / a[1]), (math.inf if a[0] == 0 else 1 / a[0])


def _power(args: list[Interval]) -> Interval:
    base, (exponent, other) = args
    if exponent != other or not exponent.is_integer() or exponent < 0:
        return ALL
    low, high = _size(base) if exponent % 2 == 0 else base
    return low**exponent, high**exponent


_BINARY: dict[str, Callable[..., Interval]] = {
    "add": _add,
    "sub": lambda a, b: _add(a, _negative(b)),
    "mul": _times,
    "div": lambda a, b: _times(a, _inverse(b)),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "gate": lambda a, b: _times((_at("sigmoid", a[0], (0, 1)), _at("sigmoid", a[1], (0, 1))), b),
    "neg": _negative,
    "reciprocal": _inverse,
    "erfc": lambda a: (_at("erfc", a[1], (2, 0)), _at("erfc", a[0], (2, 0))),
    "log_abs": lambda a: _log_abs(_size(a)),
}


def _log_abs(size: Interval) -> Interval:
    return math.log(size[0] + 1e-7) if size[0] < math.inf else math.inf, math.log(size[1] + 1e-7) if size[1] < math.inf else math.inf
