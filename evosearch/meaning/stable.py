"""Formulas in stable operators: what sympy spells out is said again by the operator that computes it without overflow or cancellation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from evosearch.language.formula import parse
from evosearch.language.graph import Graph, make, replace, variable, walk
from evosearch.language.operators import OPERATORS

# What is computed badly as it is spelled, and what it is; the first that fits is taken, and the result is looked at again.
_SPELLINGS = (
    ("1 / (1 + exp(-a))", "sigmoid(a)"),
    ("1 / (1 + exp(a))", "sigmoid(-a)"),
    ("exp(a) / (1 + exp(a))", "sigmoid(a)"),
    ("b * exp(a) / (1 + exp(a))", "b * sigmoid(a)"),
    ("b / (1 + exp(-a))", "b * sigmoid(a)"),
    ("b / (1 + exp(a))", "b * sigmoid(-a)"),
    ("log(1 + exp(a))", "softplus(a)"),
    ("-softplus(-a)", "logsigmoid(a)"),
    ("log(sigmoid(a))", "logsigmoid(a)"),
    ("exp(a) - 1", "expm1(a)"),
    ("log(1 + a)", "log1p(a)"),
    ("a * sigmoid(a)", "silu(a)"),
    ("a * tanh(softplus(a))", "mish(a)"),
    ("sinh(a) / cosh(a)", "tanh(a)"),
)


def stabilized(graph: Graph) -> Graph:
    """The graph with every part that is spelled out replaced by its stable operator; the graph itself where there is none."""
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        built[node] = _said(make(node.op, *(built[a] for a in node.args), value=node.value))
    return built[graph]


def _said(node: Graph) -> Graph:
    for pattern, form in _patterns():
        for found in _matches(pattern, node, {}):
            return stabilized(replace(form, {variable(name): part for name, part in found.items()}))
    return node


@cache
def _patterns() -> tuple[tuple[Graph, Graph], ...]:
    return tuple((parse(pattern, inputs=("a", "b")), parse(form, inputs=("a", "b"))) for pattern, form in _SPELLINGS)


def _matches(pattern: Graph, node: Graph, bound: dict[str, Graph]) -> Iterator[dict[str, Graph]]:
    """Every way in which the node is the pattern, with what its letters stand for."""
    if pattern.op == "input":
        name = str(pattern.value)
        if bound.setdefault(name, node) is node:
            yield bound
        return
    if pattern.op != node.op or pattern.value != node.value:
        return
    if not pattern.args:
        yield bound
        return
    orders = [node.args]
    if node.op in OPERATORS and OPERATORS[node.op].commutative:
        orders.append(node.args[::-1])
    for args in orders:
        ways = [dict(bound)]
        for part, arg in zip(pattern.args, args, strict=True):
            ways = [done for way in ways for done in _matches(part, arg, dict(way))]
        yield from ways
