"""Reverse-mode differentiation on our own graph, from the table's derivative templates; the result is again a graph.

For a statistic s = stat(e, A) the pullback stays in the language, because summing the upstream over the axes A and
dividing by their count n is `mean(upstream, A)`:

    mean: mean(u, A)          var: 2 (e - mean(e)) mean(u, A)
    std:  (e - mean(e)) mean(u, A) / std(e)          rms: e mean(u, A) / rms(e)
    sum:  sum(u, A)         max: [e = max(e)] sum(u, A) / sum([e = max(e)], A), shared among ties as torch.amax does
"""

from __future__ import annotations

from functools import cache

from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, constant, make, parameter, parameters, replace, statistic, variable, walk
from evosearch.language.operators import OPERATORS

ZERO, ONE = constant(0.0), constant(1.0)
UPSTREAM = variable("g")


def gradients(graph: Graph, upstream: Graph = UPSTREAM) -> dict[Graph, Graph]:
    """The gradient of `sum(g * graph)` with respect to each input and parameter node, elementwise, before any reduction.

    A parameter's gradient is the sum of its entry over all places that share the parameter. Leaves without a path to
    the output have no entry.
    """
    target = graph.args[1] if graph.op == "surrogate" else graph
    adjoint: dict[Graph, Graph] = {target: upstream}
    found: dict[Graph, Graph] = {}
    for node in reversed(list(walk(target))):
        u = adjoint.pop(node, None)
        if u is None or u is ZERO:
            continue
        if node.op in ("input", "parameter"):
            found[node] = u
        elif isinstance(node.value, Axes):
            _accumulate(adjoint, node.args[0], _statistic_pullback(node, u))
        elif node.op != "constant":
            for arg, local in zip(node.args, _partials(node.op), strict=True):
                if any(leaf.op in ("input", "parameter") for leaf in walk(arg)):
                    _accumulate(adjoint, arg, _chained(u, _fill(local, node)))
    return found


def derivative(graph: Graph, name: str = "x") -> Graph:
    """df/dx of an elementwise graph, as a graph."""
    return gradients(graph, ONE).get(variable(name), ZERO)


def _chained(u: Graph, local: Graph) -> Graph:
    """`u * local`; where the local slope is 0 or 1 and `u` may be infinite, 0 wins, as in torch's backward of a rectifier."""
    if u is not ONE and _is_indicator(local) and _may_be_infinite(u):
        return make("masked", local, u)
    return times(u, local)


def _is_indicator(graph: Graph) -> bool:
    if graph.op in ("step", "greater", "equals"):
        return True
    if graph.op == "sub":
        return graph.args[0] is ONE and _is_indicator(graph.args[1])
    return graph.op in ("mul", "div") and all(_is_indicator(a) or a.op == "constant" for a in graph.args)


def _may_be_infinite(graph: Graph) -> bool:
    singular = ("reciprocal", "log", "log1p", "pow")
    return any(n.op in singular or (n.op == "div" and not _is_positive(n.args[1])) for n in walk(graph))


def _is_positive(graph: Graph) -> bool:
    """Whether the value is certainly above 0; False where that is not obvious."""
    if graph.op == "constant":
        return float(graph.value) > 0  # type: ignore[arg-type]
    if graph.op in ("exp", "cosh", "sigmoid", "softplus", "std", "rms"):
        return True
    if graph.op == "add":
        return any(_is_positive(a) for a in graph.args) and all(_is_positive(a) or a.op in ("square", "abs", "relu") for a in graph.args)
    return graph.op in ("mul", "div", "sqrt", "max", "min", "square", "abs") and all(_is_positive(a) for a in graph.args)


def _accumulate(adjoint: dict[Graph, Graph], node: Graph, term: Graph) -> None:
    if term is not ZERO:
        adjoint[node] = plus(adjoint[node], term) if node in adjoint else term


def _statistic_pullback(node: Graph, u: Graph) -> Graph:
    assert isinstance(node.value, Axes)
    (e,), axes = node.args, node.value
    groups = axes.groups or None
    if node.op in ("sum", "max"):
        sum_u = statistic("sum", u, axes.axes, groups=groups)
        if node.op == "sum":
            return sum_u
        hit = make("equals", e, node)
        return times(hit, make("div", sum_u, statistic("sum", hit, axes.axes, groups=groups)))
    mean_u = statistic("mean", u, axes.axes, groups=groups)
    if node.op == "mean":
        return mean_u
    if node.op == "rms":
        return times(e, make("div", mean_u, node))
    centered = make("sub", e, statistic("mean", e, axes.axes, groups=groups))
    scale = make("mul", constant(2.0), mean_u) if node.op == "var" else make("div", mean_u, node)
    return times(centered, scale)


@cache
def _partials(op: str) -> tuple[Graph, ...]:
    return tuple(parse(text, inputs=("a", "b", "f")) for text in OPERATORS[op].derivative)


def _fill(local: Graph, node: Graph) -> Graph:
    mapping = {variable("f"): node, **{variable(n): arg for n, arg in zip("ab", node.args, strict=False)}}
    built: dict[Graph, Graph] = {}
    for part in walk(local):
        built[part] = mapping[part] if part in mapping else _simple(part, tuple(built[a] for a in part.args))
    return built[local]


def _simple(node: Graph, args: tuple[Graph, ...]) -> Graph:
    """`make`, with the identities of 0 and 1 and arithmetic on two numbers carried out."""
    if node.op == "mul":
        return times(*args)
    if node.op == "add":
        return plus(*args)
    if node.op in ("sub", "pow") and all(isinstance(a.value, float) for a in args) and node.op == "sub":
        return constant(args[0].value - args[1].value)  # type: ignore[operator]
    if node.op == "pow" and args[1] is ONE:
        return args[0]
    if node.op == "pow" and args[1] is ZERO:
        return ONE
    return make(node.op, *args, value=node.value)


def times(a: Graph, b: Graph) -> Graph:
    """`a * b` without the obvious waste."""
    if ZERO in (a, b):
        return ZERO
    if a is ONE:
        return b
    if b is ONE:
        return a
    if isinstance(a.value, float) and isinstance(b.value, float):
        return constant(a.value * b.value)
    for first, second in ((a, b), (b, a)):
        if first.value == -1.0:
            return make("neg", second)
    if b.op == "div" and b.args[0] is ONE:
        return make("div", a, b.args[1])
    return make("mul", a, b)


def plus(a: Graph, b: Graph) -> Graph:
    """`a + b` without the obvious waste."""
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    if isinstance(a.value, float) and isinstance(b.value, float):
        return constant(a.value + b.value)
    return make("add", a, b)


def bind(graph: Graph, values: dict[str, float] | None = None) -> Graph:
    """The graph with its parameters replaced by numbers: their initial values, or those of `values` by name."""
    return replace(
        graph,
        {parameter(p.name, p.kind, p.init): constant((values or {}).get(p.name, p.init)) for p in parameters(graph)},
    )


def has_statistics(graph: Graph, axes: str | None = None) -> bool:
    """Whether a statistic (over the axis set, if one is named) occurs in the graph."""
    return any(isinstance(value, Axes) and axes in (None, value.axes) for value in graph.holds)
