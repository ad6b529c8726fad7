"""Products rewritten so that small tensors meet before full ones, and leave the statistics that they do not vary within.

A statistic, a parameter or a number is small: it varies over few of the axes of the input. Literally emitted, the
backward of a normalization multiplies it into full tensors again and again; written as `small * full`, each product
costs one pass. Mathematically nothing changes; rounding may, in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from evosearch.language.graph import Axes, Graph, Parameter, constant, make, statistic, walk

# The axes of an input (N, C, *S): batch, group of channels, channel within the group, places, the last place axis.
_FULL = frozenset("NGCSR")
_REDUCED = {
    "batch": frozenset("NSR"), "instance": frozenset("SR"), "layer": frozenset("GCSR"), "group": frozenset("CSR"),
    "channel": frozenset("GC"), "row": frozenset("R"),
}  # fmt: skip


@dataclass(frozen=True)
class _Product:
    """`number * prod(above) / prod(below) * body`: small factors, and what is full (None where all is small)."""

    number: float
    above: tuple[Graph, ...]
    below: tuple[Graph, ...]
    body: Graph | None

    def small(self) -> Graph:
        top = _product(self.above)
        bottom = _product(self.below)
        if bottom is None:
            return constant(self.number) if top is None else top if self.number == 1 else _scaled(self.number, top)
        if top is None:
            return make("div", constant(self.number), bottom)
        return make("div", top if self.number == 1 else _scaled(self.number, top), bottom)

    def whole(self) -> Graph:
        if self.body is None:
            return self.small()
        if not self.above and not self.below:
            return self.body if self.number == 1 else _scaled(self.number, self.body)
        return make("mul", self.small(), self.body)


def _product(factors: tuple[Graph, ...]) -> Graph | None:
    total: Graph | None = None
    for factor in factors:
        total = factor if total is None else make("mul", total, factor)
    return total


def _scaled(number: float, graph: Graph) -> Graph:
    return make("neg", graph) if number == -1 else make("mul", constant(number), graph)


def tidy(graphs: list[Graph], fixed: Collection[Graph] = ()) -> list[Graph]:
    """The graphs with their products reordered; `fixed` nodes (known batch moments) are kept as they are."""
    done: dict[Graph, _Product] = {}
    varies: dict[Graph, frozenset[str]] = {}
    for graph in graphs:
        for node in walk(graph, fixed):
            if node not in done:
                done[node] = _rewrite(node, done, varies, node in fixed)
    return [done[graph].whole() for graph in graphs]


def _varies(node: Graph, known: dict[Graph, frozenset[str]]) -> frozenset[str]:
    """The axes along which the value of a node may differ."""
    for part in walk(node):
        if part in known:
            continue
        if isinstance(part.value, float):
            known[part] = frozenset()
        elif isinstance(part.value, Parameter):
            known[part] = frozenset("GC") if part.value.kind == "channel" else frozenset()
        elif isinstance(part.value, str):
            known[part] = _FULL
        else:
            inside = frozenset().union(*(known[a] for a in part.args))
            known[part] = inside - _REDUCED[part.value.axes] if isinstance(part.value, Axes) else inside
    return known[node]


def _rewrite(node: Graph, done: dict[Graph, _Product], varies: dict[Graph, frozenset[str]], fixed: bool) -> _Product:
    if isinstance(node.value, float):
        return _Product(node.value, (), (), None) if node.value else _plain(node, varies)
    if not node.args or fixed:
        return _plain(node, varies)
    args = [done[a] for a in node.args]
    if isinstance(node.value, Axes) and node.op in ("mean", "sum"):
        return _statistic(node, node.value, args[0], varies)
    if node.op in ("mul", "div", "neg"):
        found = _multiply(node, args, varies)
        if found is not None:
            return found
    if node.op in ("add", "sub"):
        return _add(node, args[0], args[1], varies)
    return _plain(make(node.op, *(a.whole() for a in args), value=node.value), varies)


def _plain(node: Graph, varies: dict[Graph, frozenset[str]]) -> _Product:
    return _Product(1.0, (), (), node) if _varies(node, varies) == _FULL else _Product(1.0, (node,), (), None)


def _multiply(node: Graph, args: list[_Product], varies: dict[Graph, frozenset[str]]) -> _Product | None:
    """The product of two products, or None where the numbers would leave the range of float32."""
    a = args[0]
    if node.op == "neg":
        return _Product(-a.number, a.above, a.below, a.body)
    b = args[1]
    if node.op == "mul":
        number, above, below = a.number * b.number, a.above + b.above, a.below + b.below
        body = make("mul", a.body, b.body) if a.body and b.body else a.body or b.body
    else:
        if b.number == 0:
            return None
        number, above, below = a.number / b.number, a.above + b.below, a.below + b.above
        body = a.body if b.body is None else make("div", a.body or constant(1.0), b.body)
    if not math.isfinite(number) or not 1e-20 < abs(number) < 1e20:
        return None
    for factor in tuple(above):
        if factor in below:
            above, below = _without(above, factor), _without(below, factor)
    return _Product(number, above, below, body)


def _without(factors: tuple[Graph, ...], one: Graph) -> tuple[Graph, ...]:
    at = factors.index(one)
    return factors[:at] + factors[at + 1 :]


def _add(node: Graph, a: _Product, b: _Product, varies: dict[Graph, frozenset[str]]) -> _Product:
    same = a.above == b.above and a.below == b.below and (a.above or a.below)
    if same and a.body is not None and b.body is not None and abs(a.number) == abs(b.number):
        flip = a.number != b.number
        op = {"add": "sub", "sub": "add"}[node.op] if flip else node.op
        return _Product(a.number, a.above, a.below, make(op, a.body, b.body))
    op, first, second = node.op, a, b
    if b.number < 0 and (b.body is not None or b.above):  # a + (-b) is a - b
        op, second = {"add": "sub", "sub": "add"}[op], _Product(-b.number, b.above, b.below, b.body)
    elif op == "add" and a.number < 0 and (a.body is not None or a.above):
        op, first, second = "sub", b, _Product(-a.number, a.above, a.below, a.body)
    return _plain(make(op, first.whole(), second.whole()), varies)


def _statistic(node: Graph, axes: Axes, arg: _Product, varies: dict[Graph, frozenset[str]]) -> _Product:
    """Factors that do not vary over the reduced axes leave the mean or the sum."""
    reduced = _REDUCED[axes.axes]
    stays = [f for f in arg.above if _varies(f, varies) & reduced]
    leaves = tuple(f for f in arg.above if not _varies(f, varies) & reduced)
    stays_below = [f for f in arg.below if _varies(f, varies) & reduced]
    leaves_below = tuple(f for f in arg.below if not _varies(f, varies) & reduced)
    inside = _Product(1.0, tuple(stays), tuple(stays_below), arg.body).whole()
    if not leaves and not leaves_below and arg.number == 1:
        inside = arg.whole()
    rebuilt = statistic(node.op, inside, axes.axes, groups=axes.groups or None)
    if _varies(rebuilt, varies) == _FULL:
        return _Product(arg.number, leaves, leaves_below, rebuilt)
    return _Product(arg.number, (*leaves, rebuilt), leaves_below, None)
