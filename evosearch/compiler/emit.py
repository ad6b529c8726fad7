"""Graph to the text of a torch-only Python module: plain form, lean autograd.Function, nn.Module. The one emitter.

Layout. A formula with statistics or per-channel parameters sees its input folded to `(N, C, S)`, so that every axis
set has fixed dimensions; a purely elementwise one sees it as it is.

Batch statistics. `std(e, batch)` and its like are first written with `mean(., batch)` alone. Each such mean is a
*moment*: a function of the input, the parameters and earlier moments, averaged over `(N, S)` block by block.
In training it is computed, in evaluation it is a running buffer.

Lean backward. The gradient graph (meaning.derive) is emitted beside the value; only inputs, parameters and the
`(C,)`-sized moments are saved, and both directions run in cache-sized blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evosearch.compiler.template import HELPERS, Moment, Pieces, fill
from evosearch.language.graph import Axes, Graph, Parameter, constant, depends_on, make, parameter, parameters, statistic, variable, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import gradients, has_statistics

_BINARY_ON_NUMBERS = ("add", "sub", "mul", "div")


def with_affine(graph: Graph) -> Graph:
    """`weight * graph + bias`, one value a channel, as normalization layers end."""
    scaled = make("mul", parameter("weight", "channel", 1.0), graph)
    return make("add", scaled, parameter("bias", "channel", 0.0))


def decompose(graph: Graph) -> Graph:
    """The graph with var, std and rms over the batch written through `mean(., batch)` and elementwise operators."""
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        args = tuple(built[a] for a in node.args)
        if isinstance(node.value, Axes) and node.value.axes == "batch" and node.op != "mean":
            built[node] = _through_means(node.op, args[0], node.value.eps)
        else:
            built[node] = make(node.op, *args, value=node.value)
    return built[graph]


def _through_means(op: str, e: Graph, eps: float | None) -> Graph:
    center = e if op == "rms" else make("sub", e, statistic("mean", e, "batch"))
    moment = statistic("mean", make("square", center), "batch")
    return moment if op == "var" else make("sqrt", make("add", moment, constant(eps or 0.0)))


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
    value, slope = (graph.args if graph.op == "surrogate" else (graph, graph))
    backward_of = slope  # differentiated as written: d std is one batch mean, through the decomposed form it would be two
    value, slope = decompose(value), decompose(slope)
    forward = moments(make("surrogate", value, slope) if value is not slope else value)
    names: dict[Graph, str] = {variable(n): n for n in inputs}
    names |= {parameter(*p): p.name for p in params}
    arguments = [*inputs, *(p.name for p in params)]
    functions, given = [], dict(names)
    folded = has_statistics(graph) or any(p.kind == "channel" for p in params)
    wide = has_statistics(graph)
    for moment in forward:
        functions.append(_function(f"_{moment.name}", arguments, [moment.node.args[0]], given, wide))
        given[moment.node] = moment.name
        arguments = [*arguments, moment.name]
    functions.append(_function("_value", arguments, [value], given, wide))
    if value is not slope:
        functions.append(_function("_slope", arguments, [slope], given, wide))
    backward = _gradient_functions(backward_of, inputs, params, arguments, given, wide, functions)
    used = [key for key in HELPERS if any(key in f for f in functions)]
    if "_group_var" in used and "_group_mean" not in used:
        used.append("_group_mean")  # the one is written with the other
    return Pieces(
        graph=graph, name=name, inputs=inputs, params=params, forward=forward, backward=backward, functions=functions, folded=folded,
        surrogate=value is not slope, unbiased=unbiased, helpers=[HELPERS[key] for key in used],
        lean=sum(1 for n in walk(slope) if n.args) > 1 or value is not slope,
    )  # fmt: skip


def _gradient_functions(
    slope: Graph, inputs: list[str], params: tuple[Parameter, ...], arguments: list[str], given: Mapping[Graph, str],
    wide: bool, functions: list[str],
) -> list[str]:  # fmt: skip
    """Emits the backward's own batch means and `_gradient`; returns the names of those means."""
    pulled = gradients(slope)
    leaves = [*(variable(n) for n in inputs), *(parameter(*p) for p in params)]
    targets = [decompose(pulled.get(leaf, constant(0.0))) for leaf in leaves]
    known = {**given, variable("g"): "g"}
    arguments = ["g", *arguments]
    names: list[str] = []
    for node in _batch_means(targets):
        if node not in known:
            names.append(f"b{len(names)}")
            functions.append(_function(f"_{names[-1]}", arguments, [node.args[0]], known, wide))
            known[node] = names[-1]
            arguments = [*arguments, names[-1]]
    functions.append(_function("_gradient", arguments, targets, known, wide, as_list=True))
    return names


def _batch_means(graphs: Iterable[Graph]) -> list[Graph]:
    found: dict[Graph, None] = {}
    for graph in graphs:
        for node in walk(graph):
            if node.op == "mean" and isinstance(node.value, Axes) and node.value.axes == "batch":
                found.setdefault(node)
    return list(found)


def _function(
    name: str, arguments: list[str], targets: list[Graph], given: Mapping[Graph, str], wide: bool, as_list: bool = False
) -> str:
    """One emitted function: a statement a node, shared nodes once, every target in the shape of the input."""
    lines = [f"    {n} = _wide({n})" for n in arguments if n in ("x", "y", "g")] if wide else []
    written = _Statements(given, lines)
    results = [written.full(target) for target in targets]
    lines.append(f"    return [{', '.join(results)}]" if as_list else f"    return {results[0]}")
    kind = "list[Tensor]" if as_list else "Tensor"
    return "\n".join([f"def {name}({', '.join(f'{a}: Tensor' for a in arguments)}) -> {kind}:", *lines])


class _Statements:
    """Writes nodes as statements; remembers the name, and whether the value has the full shape of `x`."""

    def __init__(self, given: Mapping[Graph, str], lines: list[str]) -> None:
        self.names = dict(given)
        self.full_shape = {n for n in given if n.op == "input"}
        self.lines = lines

    def full(self, target: Graph) -> str:
        """The name of `target`, broadcast to the shape of `x` if it is smaller."""
        self._write(target)
        if target.op == "constant":
            return f"torch.full_like(x, {self.names[target]})"
        return self.names[target] if target in self.full_shape else f"{self.names[target]}.expand_as(x)"

    def _write(self, target: Graph) -> None:
        stack = [target]
        while stack:
            node = stack[-1]
            missing = [a for a in node.args if a not in self.names]
            if node in self.names or not missing:
                stack.pop()
                if node not in self.names:
                    self._statement(node)
            else:
                stack.extend(reversed(missing))

    def _statement(self, node: Graph) -> None:
        if isinstance(node.value, float):
            self.names[node] = repr(node.value)
            return
        name = f"t{len(self.names)}"
        if isinstance(node.value, Axes):
            text = self._statistic(node, node.value)
        else:
            text = OPERATORS[node.op].torch.format(x="x", **dict(zip("ab", self._operands(node), strict=False)))
            if any(a in self.full_shape for a in node.args):
                self.full_shape.add(node)
        self.lines.append(f"    {name} = {text}")
        self.names[node] = name

    def _operands(self, node: Graph) -> list[str]:
        texts = [self.names[a] for a in node.args]
        numbers = [a.op == "constant" for a in node.args]
        bare = (node.op in _BINARY_ON_NUMBERS and not all(numbers)) or (node.op == "pow" and not numbers[0])
        wrap = "torch.full((), {}, dtype=x.dtype, device=x.device)"
        return [wrap.format(t) if number and not bare else t for t, number in zip(texts, numbers, strict=True)]

    def _statistic(self, node: Graph, axes: Axes) -> str:
        argument = self.full(node.args[0])
        if node.op == "mean":
            self_text = {"instance": f"{argument}.mean(2, keepdim=True)", "layer": f"{argument}.mean((1, 2), keepdim=True)",
                         "channel": f"{argument}.mean(1, keepdim=True)", "group": f"_group_mean({argument}, {axes.groups})"}
            return self_text[axes.axes]
        if axes.axes == "group":
            moment = f"_group_mean(torch.square({argument}), {axes.groups})" if node.op == "rms" else f"_group_var({argument}, {axes.groups})"
        else:
            dims = {"instance": "(2,)", "layer": "(1, 2)", "channel": "(1,)"}[axes.axes]
            moment = f"torch.square({argument}).mean({dims}, keepdim=True)" if node.op == "rms" else f"_var({argument}, {dims})"
        return moment if node.op == "var" else f"torch.sqrt({moment} + {axes.eps!r})"
