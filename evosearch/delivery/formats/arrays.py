"""Graphs as Python over arrays, for NumPy and JAX, from the operator table's own `numpy` column: an operator needs no more than its row.

The column is the name of a function of numpy, of scipy.special, or a formula; formulas are put in place of their operators first, so that
what is written are numpy's functions alone. The layouts of the input are those of the emitted module (compiler.statements).
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from evosearch.compiler.emit import decompose, layout_of, moments
from evosearch.compiler.pieces import Moment
from evosearch.compiler.statements import LAYOUTS
from evosearch.delivery.formats.format import CannotBeMade, Layer
from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, make, parameter, parameters, replace, variable, walk
from evosearch.language.operators import OPERATORS

AXES = {layout: {**axes, "batch": "(0, 2, 3)" if layout == "folded_row" else "(0, 2)"} for layout, axes in LAYOUTS.items()}
_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
TAKEN = ("np", "jnp", "jax", "special", "start", "track")  # names of the modules that are written
_LINE = 100  # characters of an expression: a longer one is parted


@dataclass(frozen=True)
class Dialect:
    """How a library says things: the prefix of its functions, and what stands for a function of scipy.special (None: it has none)."""

    prefix: str
    special: Callable[[str], str | None]
    title: str


def check_name(layer: Layer, taken: Sequence[str]) -> None:
    """Raises CannotBeMade where the layer's function would hide what the file uses."""
    if layer.function in taken:
        raise CannotBeMade(f"a function `{layer.function}` would hide a name that the file uses: pass another --name")


def expanded(graph: Graph) -> Graph:
    """The graph with every operator whose numpy column is a formula replaced by that formula."""
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        args = [built[a] for a in node.args]
        formula = _formula(node.op) if node.value is None and node.op != "surrogate" else None
        if formula is None:
            built[node] = make(node.op, *args, value=node.value)
        else:
            built[node] = replace(formula, {variable(name): arg for name, arg in zip("ab", args, strict=False)})
    return built[graph]


@cache
def _formula(op: str) -> Graph | None:
    """The formula of an operator over `a` and `b`, itself expanded; None where the column names a function."""
    column = OPERATORS[op].numpy
    if op == "masked" or column.isidentifier() or column.startswith("special."):
        return None
    return expanded(parse(column, inputs=("a", "b")))


def function(name: str, arguments: Sequence[str], targets: Sequence[Graph], given: Mapping[Graph, str], layout: str, dialect: Dialect, full: int) -> str:
    """One function of arrays; the first `full` targets are broadcast to the shape of `x`. Raises CannotBeMade for what the library lacks."""
    known = set(given)
    whole = [expanded(decompose(target)) for target in targets]
    writer = _Writer(given, layout, dialect, Counter(a for t in {n for w in whole for n in walk(w, known)} - known for a in t.args) + Counter(whole))
    results = [writer.text(target) for target in whole]
    results = [f"{dialect.prefix}.broadcast_to({text}, x.shape)" if i < full else text for i, text in enumerate(results)]
    returned = ", ".join(_bare(text) for text in results)
    return "\n".join([f"def {name}({', '.join(arguments)}):", *writer.lines, f"    return {f'[{returned}]' if full != 1 or len(targets) > 1 else returned}"])


def _bare(expression: str) -> str:
    return ast.unparse(ast.parse(expression, mode="eval"))


class _Writer:
    """Writes each value once: a name where it is used again or is long, an expression in brackets otherwise."""

    def __init__(self, given: Mapping[Graph, str], layout: str, dialect: Dialect, uses: Counter[Graph]) -> None:
        self.texts, self.layout, self.dialect, self.uses = dict(given), layout, dialect, uses
        self.known = set(given)
        self.lines: list[str] = []

    def text(self, target: Graph) -> str:
        for node in walk(target, self.known):
            if node in self.texts:
                continue
            if isinstance(node.value, float):
                self.texts[node] = repr(node.value)
                continue
            expression = _bare(self._expression(node))
            if self.uses[node] > 1 or len(expression) > _LINE // 2:
                name = f"t{len(self.lines)}"
                self.lines.append(f"    {name} = {expression}")
                expression = name
            self.texts[node] = expression if expression.isidentifier() else f"({expression})"
        return self._tensor(target)

    def _tensor(self, node: Graph) -> str:
        text = self.texts[node]
        return f"{self.dialect.prefix}.asarray({text}, x.dtype)" if node.op == "constant" else text

    def _expression(self, node: Graph) -> str:
        prefix = self.dialect.prefix
        if isinstance(node.value, Axes):
            e, call = self._tensor(node.args[0]), f"{prefix}.{node.op}"
            if node.value.axes == "group":
                return f"_group({call}, {e}, {node.value.groups}, x)"
            return f"{call}({prefix}.broadcast_to({e}, x.shape), axis={AXES[self.layout].get(node.value.axes, '-1')}, keepdims=True)"
        numbers = all(a.op == "constant" for a in node.args)  # a function of numbers alone would be of another type
        a, *more = (self._tensor(arg) if numbers else self.texts[arg] for arg in node.args)
        column = OPERATORS[node.op].numpy
        if column in _INFIX:
            return f"{a} {_INFIX[column]} {more[0]}"
        if column == "negative":
            return f"-{a}"
        if node.op == "masked":
            return f"{prefix}.where({a} == 0, 0.0, {a} * {more[0]})"
        call = f"{prefix}.{column}"
        if column.startswith("special."):
            said = self.dialect.special(column.removeprefix("special."))
            if said is None:
                raise CannotBeMade(f"`{node.op}` is {column} of scipy, which {self.dialect.title} does not have")
            call = said
        return f"{call}({', '.join([a, *more])})"


@dataclass(frozen=True)
class Form:
    """The layer as graphs for arrays: in training and in evaluation, where the two differ, and what it keeps."""

    layer: Layer

    @property
    def layout(self) -> str:
        return layout_of(self.layer.graph)

    @property
    def folded(self) -> bool:
        return self.layout.startswith("folded")

    @property
    def weights(self) -> list[str]:
        return [p.name for p in parameters(self.layer.graph)]

    @property
    def running(self) -> list[tuple[str, float, bool]]:
        """Buffer, start, and whether it is a variance, of each batch mean."""
        return [(m.buffer, m.start, m.is_variance) for m in self.moments]

    @property
    def moments(self) -> list[Moment]:
        return moments(decompose(self.layer.graph))

    @property
    def keeps(self) -> bool:
        return bool(self.weights or self.running)

    def evaluation(self, graph: Graph) -> Graph:
        """The graph with its batch means taken from the running ones, `m0`, `m1`, ..."""
        return _replaced(decompose(graph), {m.node: variable(m.name) for m in self.moments})

    def given(self) -> dict[Graph, str]:
        names = [*self.layer.inputs, *(m.name for m in self.moments), "g"]
        return {variable(n): n for n in names} | {parameter(*p): p.name for p in parameters(self.layer.graph)}

    def arguments(self, training: bool) -> list[str]:
        return [*self.layer.inputs, *self.weights, *([] if training else [m.name for m in self.moments])]

    def shape(self, channel: bool) -> str:
        """How a value that is kept is laid out beside the folded input."""
        return ("(1, -1, 1, 1)" if self.layout == "folded_row" else "(1, -1, 1)") if channel else "(())"


def _replaced(graph: Graph, mapping: Mapping[Graph, Graph]) -> Graph:
    """`replace` that looks at a node before its inputs: a moment holds earlier ones."""
    built: dict[Graph, Graph] = {}
    for node in walk(graph, mapping):
        built[node] = mapping[node] if node in mapping else make(node.op, *(built[a] for a in node.args), value=node.value)
    return built[graph]


def prepared(form: Form, prefix: str) -> list[str]:
    """Statements that widen and fold the inputs and fetch what is kept, into the names of the arguments."""
    lines = [f"    dtype, shape = x.dtype, {prefix}.moveaxis(x, channel_dim, 1).shape" if form.folded else "    dtype = x.dtype"]
    for name in form.layer.inputs:
        lines.append(f"    {name} = _fold(_wide({name}), channel_dim)" if form.folded else f"    {name} = _wide({name})")
    kept = [(p.name, p.name, p.kind == "channel") for p in parameters(form.layer.graph)]
    lines += [f"    {name} = {prefix}.asarray(parameters[{key!r}], x.dtype).reshape{form.shape(channel)}" for name, key, channel in kept]
    return lines


def fetched(form: Form, prefix: str) -> list[str]:
    """Statements that fetch the running statistics."""
    return [f"{m.name} = {prefix}.asarray(parameters[{m.buffer!r}], x.dtype).reshape{form.shape(True)}" for m in form.moments]


def signature(form: Form) -> str:
    """The arguments of the public function: what is kept first, as jax.grad takes it."""
    options = [*(["training=False"] if form.running else []), *(["channel_dim=1"] if form.folded else [])]
    return ", ".join([*(["parameters"] if form.keeps else []), *form.layer.inputs, *(["*", *options] if options else [])])


def returned(form: Form, prefix: str) -> str:
    """The last statement: unfolded, in the type of the input."""
    return f"    return {prefix}.moveaxis(out.reshape(shape), 1, channel_dim).astype(dtype)" if form.folded else "    return out.astype(dtype)"


def start(form: Form, prefix: str) -> str:
    """The function that makes what the layer keeps."""
    kept = [(p.name, "(num_features,)" if p.kind == "channel" else "()", p.init) for p in parameters(form.layer.graph)]
    kept += [(buffer, "(num_features,)", begin) for buffer, begin, _ in form.running]
    rows = [f'        "{name}": {prefix}.full({shape}, {value!r}, {prefix}.float32),' for name, shape, value in kept]
    return "\n".join(["def start(num_features):", '    """What the layer keeps, as it starts."""', "    return {", *rows, "    }"])


def helpers(form: Form, prefix: str, bodies: str) -> list[str]:
    """The fixed functions that `bodies` call."""
    found = [_WIDE]
    found += [_FOLD_ROW if form.layout == "folded_row" else _FOLD] if form.folded else []
    found += [_GROUP] if "_group(" in bodies else []
    return [text.replace("np.", f"{prefix}.") for text in found]


_WIDE = '''def _wide(x):
    """Half precision is computed in float32."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x'''

_FOLD = '''def _fold(x, channel_dim):
    """The input as (N, C, S)."""
    x = np.moveaxis(x, channel_dim, 1)
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))'''

_FOLD_ROW = '''def _fold(x, channel_dim):
    """The input as (N, C, S, R), R its last axis."""
    x = np.moveaxis(x, channel_dim, 1)
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:-1]), x.shape[-1])'''

_GROUP = '''def _group(reduce, e, groups, x):
    """One value for the channels of a group and all places, at each of its channels."""
    n, c = x.shape[:2]
    groups = min(groups, c)
    while c % groups:
        groups -= 1
    value = reduce(np.broadcast_to(e, x.shape).reshape(n, groups, math.prod(x.shape[1:]) // groups), axis=2)
    return np.repeat(value, c // groups, axis=1).reshape(n, c, *(1,) * (x.ndim - 2))'''
