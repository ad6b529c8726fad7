"""Graph to the text of a torch-only Python module: plain form, lean autograd.Function, nn.Module. The one emitter.

Layout. A formula with statistics or per-channel parameters sees its input folded to `(N, C, S)` (`(N, C, S, R)` if the
last axis `row` has statistics of its own), so that every axis set has fixed dimensions; an elementwise one sees it as it is.

Batch statistics. `std(e, batch)` and its like are first written with `mean(., batch)` alone. Each such mean is a
*moment*: a function of the input, the parameters and earlier moments, averaged over `(N, S)` block by block.
In training it is computed, in evaluation it is a running buffer.

Lean backward. The gradient graph (meaning.derive) is emitted beside the value; only inputs, parameters and the
`(C,)`-sized moments are saved, and both directions run in cache-sized blocks. A formula of the inputs alone saves its
slopes in place of the inputs: the backward is then a multiplication (see autograd).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from evosearch.compiler.pieces import Moment, Pieces
from evosearch.compiler.statements import function
from evosearch.compiler.template import HELPERS, fill
from evosearch.compiler.tidy import tidy
from evosearch.language.graph import Axes, Graph, Parameter, constant, depends_on, make, parameter, parameters, statistic, variable, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import gradients
from evosearch.meaning.facts import saved_tensors


def decompose(graph: Graph) -> Graph:
    """The graph with var, std and rms written through means and elementwise operators, so that what they share is computed once.

    Two passes over the data, as a mean and the mean of the centered squares: torch.var is ten times slower on a CPU (measured).
    """
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        args = tuple(built[a] for a in node.args)
        if isinstance(node.value, Axes) and node.op in ("var", "std", "rms"):
            built[node] = _through_means(node.op, args[0], node.value)
        else:
            built[node] = make(node.op, *args, value=node.value)
    return built[graph]


def _through_means(op: str, e: Graph, axes: Axes) -> Graph:
    groups = axes.groups or None
    center = e if op == "rms" else make("sub", e, statistic("mean", e, axes.axes, groups=groups))
    moment = statistic("mean", make("square", center), axes.axes, groups=groups)
    return moment if op == "var" else make("sqrt", make("add", moment, constant(axes.eps or 0.0)))


def layout_of(graph: Graph) -> str:
    """How the emitted functions see the input: `flat` as it is, `row` as it is with statistics over the last axis,
    `folded` as `(N, C, S)`, `folded_row` as `(N, C, S, R)`."""
    sets = {node.value.axes for node in walk(graph) if isinstance(node.value, Axes)}
    channels = any(p.kind == "channel" for p in parameters(graph))
    if not channels and sets <= {"row"}:
        return "row" if sets else "flat"
    return "folded_row" if "row" in sets else "folded"


def moments(graph: Graph) -> list[Moment]:
    """The batch means of a decomposed graph, in order of computation, with the names of their running buffers."""
    found: list[Moment] = []
    used: set[str] = set()
    for node in walk(graph):
        if node.op == "mean" and isinstance(node.value, Axes) and node.value.axes == "batch":
            square = node.args[0].op == "square"
            centered = square and node.args[0].args[0].op == "sub"
            stem = "running_var" if centered else "running_square" if square else "running_mean"
            buffer = stem if stem not in used else f"{stem}_{len(found)}"
            used.add(buffer)
            found.append(Moment(node, f"m{len(found)}", buffer, 1.0 if square else 0.0, centered))
    return found


def emit(graph: Graph, name: str = "Layer", tracked_variance: str = "unbiased") -> str:
    """The text of a Python module that imports torch only and defines `name`, an `nn.Module` that computes `graph`.

    `tracked_variance` says whether running variances take the unbiased batch variance (torch, timm) or the biased one
    (Keras, the official EvoNorm). Raises ValueError for a graph without `x`, or a name that is not an identifier.
    """
    if not name.isidentifier() or name.startswith("_"):
        raise ValueError(f"a class name is a Python identifier without a leading underscore; received `{name[:60]}`")
    if tracked_variance not in ("unbiased", "biased"):
        raise ValueError(f"tracked_variance is `unbiased` or `biased`; received `{tracked_variance}`")
    if not depends_on(graph, "x"):
        raise ValueError(f"a layer is a function of its input `x`; received `{graph}`")
    return fill(_pieces(graph, name, tracked_variance == "unbiased"))


def _pieces(graph: Graph, name: str, unbiased: bool) -> Pieces:
    inputs = [n for n in ("x", "y") if depends_on(graph, n)]
    params = parameters(graph)
    layout = layout_of(graph)
    value, slope = graph.args if graph.op == "surrogate" else (graph, graph)
    backward_of = slope  # differentiated as written: d std is one mean, through the decomposed form it would be two
    value, slope = decompose(value), decompose(slope)
    forward = moments(make("surrogate", value, slope) if value is not slope else value)
    given: dict[Graph, str] = {variable(n): n for n in inputs}
    given |= {parameter(*p): p.name for p in params}
    arguments = [*inputs, *(p.name for p in params)]
    functions: list[str] = []
    for moment in forward:
        if not moment.is_input:
            functions.append(function(f"_{moment.name}", arguments, [moment.node.args[0]], given, layout))
        given[moment.node] = moment.name
        arguments = [*arguments, moment.name]
    fixed = [m.node for m in forward]
    whole = [value] if value is slope else [value, slope]
    if layout != "flat":
        whole = tidy(whole, fixed)
    for key, target in zip(("_value", "_slope"), whole, strict=False):
        functions.append(function(key, arguments, [target], given, layout))
    backward = _gradient_functions(backward_of, inputs, params, arguments, given, layout, fixed, functions)
    slopes = layout == "flat" and not params
    if slopes:
        pulled = gradients(backward_of, constant(1.0))
        functions.append(function("_with_slopes", arguments, [value, *(pulled.get(variable(n), constant(0.0)) for n in inputs)], given, layout, as_list=True))
    return Pieces(
        slopes=slopes, graph=graph, name=name, inputs=inputs, params=params, forward=forward, backward=backward, functions=functions, layout=layout,
        surrogate=value is not slope, unbiased=unbiased, helpers=[text for key, text in HELPERS.items() if any(f"{key}(" in f for f in functions)],
        lean=value is not slope or saved_tensors(graph).eager > len(inputs) or len(operations := [n for n in walk(slope) if n.args]) > 1
        or not all(map(_is_one_call, operations)),
    )  # fmt: skip


def _is_one_call(node: Graph) -> bool:
    """Whether torch has the operator as one function, whose own backward is as lean as ours (but for logsigmoid's)."""
    return isinstance(node.value, Axes) or re.fullmatch(r"-?[\w.]*\(?\{a\}( [-+*/] \{b\}|, [^{}]*|, \{b\})?\)?", OPERATORS[node.op].torch) is not None


def _gradient_functions(
    slope: Graph, inputs: list[str], params: tuple[Parameter, ...], arguments: list[str], given: Mapping[Graph, str],
    layout: str, fixed: list[Graph], functions: list[str],
) -> dict[str, bool]:  # fmt: skip
    """Emits the backward's own batch means and `_gradient`; returns the names of those means, and whether each is of the upstream as it is."""
    pulled = gradients(slope)
    targets = [decompose(pulled.get(variable(n), constant(0.0))) for n in inputs]
    for p in params:
        whole = decompose(pulled.get(parameter(*p), constant(0.0)))
        # summed over the places here, where small factors can leave the sum; over the rest by the caller
        targets.append(statistic("sum", whole, "instance") if layout.startswith("folded") else whole)
    targets = tidy(targets, fixed)
    known = {**given, variable("g"): "g"}
    arguments = ["g", *arguments]
    names: dict[str, bool] = {}
    for node in _batch_means(targets):
        if node not in known:
            name = f"b{len(names)}"
            names[name] = node.args[0].op == "input"
            if not names[name]:
                functions.append(function(f"_{name}", arguments, [node.args[0]], known, layout))
            known[node] = name
            arguments = [*arguments, name]
    functions.append(function("_gradient", arguments, targets, known, layout, full=len(inputs), as_list=True))
    return names


def _batch_means(graphs: Iterable[Graph]) -> list[Graph]:
    found: dict[Graph, None] = {}
    for graph in graphs:
        for node in walk(graph):
            if node.op == "mean" and isinstance(node.value, Axes) and node.value.axes == "batch":
                found.setdefault(node)
    return list(found)
