"""Graph: an immutable, interned expression. Equal graphs are one object, so equality, sharing and memoization are free."""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from evosearch.language.operators import AXIS_SETS, DEFAULT_EPS, DEFAULT_GROUPS, OPERATORS, STATISTICS


class Parameter(NamedTuple):
    """A learnable parameter: one value a channel or one a layer, and where it starts."""

    name: str
    kind: str  # "channel" | "layer"
    init: float


class Axes(NamedTuple):
    """What a statistic reduces over, with its epsilon (None for `mean` and `var`) and the number of groups."""

    axes: str
    eps: float | None
    groups: int


# What a statistic reduces over, for an input (N, C, *S): batch N,*S per channel; instance *S; layer C,*S; group C/G,*S; channel C; row the last axis.
Value = float | str | Parameter | Axes | None


class Graph:
    """One node and, through `args`, the expression below it. Build with `make`, `constant`, `variable`, `parameter`, `statistic`."""

    __slots__ = ("__weakref__", "_text", "args", "depth", "holds", "op", "order", "size", "value")
    op: str
    args: tuple[Graph, ...]
    value: Value
    size: int
    depth: int
    holds: frozenset[Value]  # the inputs, parameters and axis sets that occur in it
    order: str
    _text: str

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Graph is immutable; build another with make() or replace(), not by setting `{name}`")

    def __str__(self) -> str:
        if not self._text:
            object.__setattr__(self, "_text", _print(self))
        return self._text

    def __repr__(self) -> str:
        return f"parse({str(self)!r})"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        from evosearch.language.formula import parse

        return (parse, (str(self),))

    def __deepcopy__(self, memo: object) -> Graph:
        return self

    @property
    def canonical_id(self) -> str:
        """sha256 of the canonical text, initial values included."""
        return hashlib.sha256(str(self).encode()).hexdigest()


# Written out, a graph that shares its parts may be exponentially long; a derivative often is. Beyond this size, order by a hash.
_LONG = 512

_interned: weakref.WeakValueDictionary[tuple[object, ...], Graph] = weakref.WeakValueDictionary()


def _intern(op: str, args: tuple[Graph, ...], value: Value) -> Graph:
    key = (op, args, value)
    found = _interned.get(key)
    if found is not None:
        return found
    node = object.__new__(Graph)
    label = f"{value.kind}={value.init!r}" if isinstance(value, Parameter) else "" if value is None else repr(value)
    fields: dict[str, Any] = {
        "op": op,
        "args": args,
        "value": value,
        "size": 1 + sum(a.size for a in args),
        "depth": 1 + max((a.depth for a in args), default=0),
        # parameter names are left out: they are renamed in order of use, and order must not depend on them
        "holds": _holds(args, value),
        "order": f"{op}[{label}]({','.join(a.order for a in args)})",
        "_text": "",
    }
    if fields["size"] > _LONG:
        fields["order"] = hashlib.sha256(str(fields["order"]).encode()).hexdigest()
    for name, content in fields.items():
        object.__setattr__(node, name, content)
    _interned[key] = node
    return node


def _holds(args: tuple[Graph, ...], value: Value) -> frozenset[Value]:
    own: frozenset[Value] = frozenset() if value is None or isinstance(value, float) else frozenset((value,))
    for arg in args:
        if not arg.holds <= own:
            own = own | arg.holds if own else arg.holds
    return own


def constant(value: float) -> Graph:
    """A number. Raises ValueError when it is not finite."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a constant must be a finite number; received {value!r}")
    return _intern("constant", (), number + 0.0)  # -0.0 + 0.0 is 0.0: one zero


def variable(name: str = "x") -> Graph:
    """An input of the layer: `x`, or `y` as the second input of gated forms."""
    return _intern("input", (), name)


def parameter(name: str, kind: str, init: float) -> Graph:
    """A learnable parameter; `kind` is `channel` (one value a channel) or `layer` (one value)."""
    if kind not in ("channel", "layer"):
        raise ValueError(f"a parameter is one value per `channel` or per `layer`; received `{kind}` for `{name}`")
    if not abs(init) <= 1e30:
        raise ValueError(f"the initial value of `{name}` must be finite and at most 1e30 in size; received {init!r}")
    return _intern("parameter", (), Parameter(name, kind, float(init) + 0.0))


def statistic(op: str, arg: Graph, axes: str, eps: float | None = None, groups: int | None = None) -> Graph:
    """A statistic of `arg` over an axis set; `eps` stands inside the root (default 1e-5 for std and rms)."""
    if op not in STATISTICS:
        raise ValueError(f"unknown statistic `{op}`; there are {', '.join(STATISTICS)}")
    if axes not in AXIS_SETS:
        raise ValueError(f"unknown axis set `{axes}`; there are {', '.join(AXIS_SETS)}")
    if axes == "batch" and op in ("sum", "max"):
        raise ValueError(f"`{op}` over the batch has no value at evaluation; batch takes mean, var, std and rms")
    rooted = op in ("std", "rms")
    if not rooted and eps is not None:
        raise ValueError(f"`{op}` takes no eps; only std and rms have one, inside the root")
    if groups is not None and axes != "group":
        raise ValueError(f"groups= goes with the axis set `group`; received it with `{axes}`")
    if eps is not None and not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be a finite number >= 0; received {eps!r}")
    if groups is not None and not 1 <= groups <= 4096:
        raise ValueError(f"groups must be 1 to 4096; received {groups}")
    full_eps = None if not rooted else DEFAULT_EPS if eps is None else float(eps)
    full_groups = (DEFAULT_GROUPS if groups is None else int(groups)) if axes == "group" else 0
    return _intern(op, (arg,), Axes(axes, full_eps, full_groups))


def make(op: str, *args: Graph, value: Value = None) -> Graph:
    """A node of `op` over `args`: arity checked, commutative inputs ordered, the negative of a number folded."""
    if op in ("constant", "input", "parameter") or isinstance(value, Axes):
        return _intern(op, args, value)
    if op == "surrogate":
        return _intern(op, args, None)
    row = OPERATORS.get(op)
    if row is None:
        raise ValueError(f"unknown operator `{op}`")
    if len(args) != row.arity:
        raise ValueError(f"`{op}` takes {row.arity} input{'s' * (row.arity > 1)}; received {len(args)}")
    if op == "neg" and args[0].op == "constant":
        return constant(-_number(args[0]))
    if row.commutative:
        args = tuple(sorted(args, key=_product_order if op == "mul" else _sum_order))
    return _intern(op, args, None)


def surrogate(value: Graph, gradient: Graph) -> Graph:
    """`value ~ gradient`: the forward of the one with the derivative of the other (HeLU)."""
    return _intern("surrogate", (value, gradient), None)


def _number(node: Graph) -> float:
    assert isinstance(node.value, float)
    return node.value


def _product_order(node: Graph) -> tuple[int, int, str]:  # 2 * v * x * f(x)
    rank = {"constant": 0, "parameter": 1}.get(node.op, 2)
    return rank, node.size, node.order


def _sum_order(node: Graph) -> tuple[int, int, str]:  # f(x) + x + v + 2
    rank = {"constant": 2, "parameter": 1}.get(node.op, 0)
    return rank, -node.size, node.order


def walk(graph: Graph, fixed: Collection[Graph] = ()) -> Iterator[Graph]:
    """Every distinct node once, inputs before the nodes that use them, none below a `fixed` one; no recursion, so any depth is fine."""
    seen: set[Graph] = set()
    stack: list[tuple[Graph, bool]] = [(graph, False)]
    while stack:
        node, ready = stack.pop()
        if node in seen:
            continue
        if ready or node in fixed:
            seen.add(node)
            yield node
        else:
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args))


def replace(graph: Graph, mapping: Mapping[Graph, Graph]) -> Graph:
    """`graph` with every node that is a key of `mapping` replaced by its value."""
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        swapped = mapping.get(node)
        built[node] = swapped if swapped is not None else make(node.op, *(built[a] for a in node.args), value=node.value)
    return built[graph]


def exchanged(graph: Graph) -> Graph:
    """The gate with `x` and `y` in each other's place: which of the two halves is which is a convention."""
    return replace(graph, {variable("x"): variable("y"), variable("y"): variable("x")})


def size(graph: Graph) -> int:
    """Number of nodes as written (shared parts counted each time)."""
    return graph.size


def depth(graph: Graph) -> int:
    """Levels from the root to the deepest leaf, 1 for a leaf."""
    return graph.depth


def parameters(graph: Graph) -> tuple[Parameter, ...]:
    """The learnable parameters in order of use."""
    found: dict[Parameter, None] = {}
    if not any(isinstance(value, Parameter) for value in graph.holds):
        return ()
    for node in walk(graph):
        if isinstance(node.value, Parameter):
            found.setdefault(node.value)
    return tuple(found)


def depends_on(graph: Graph, name: str = "x") -> bool:
    """Whether the input `name` occurs in the graph."""
    return name in graph.holds


def reaches(graph: Graph, name: str = "x") -> bool:
    """Whether the input arrives at every element by itself, not through statistics alone."""
    found: dict[Graph, bool] = {}
    for node in walk(graph):
        found[node] = node.value == name or (not isinstance(node.value, Axes) and any(found[a] for a in node.args))
    return found[graph]


def with_affine(graph: Graph) -> Graph:
    """`weight * graph + bias`, one value a channel, as normalization layers end."""
    if graph.op == "surrogate":
        return make("surrogate", *(with_affine(part) for part in graph.args))
    scaled = make("mul", parameter("weight", "channel", 1.0), graph)
    return make("add", scaled, parameter("bias", "channel", 0.0))


def without_affine(graph: Graph) -> Graph | None:
    """What `with_affine` was given; None for a graph that does not end so."""
    if graph.op != "add":
        return None
    for bias, scaled in (graph.args, graph.args[::-1]):
        if not _is_channel(bias, 0.0) or scaled.op != "mul":
            continue
        for weight, inner in (scaled.args, scaled.args[::-1]):
            if _is_channel(weight, 1.0) and bias.value not in inner.holds and weight.value not in inner.holds:
                return inner
    return None


def _is_channel(graph: Graph, start: float) -> bool:
    return isinstance(graph.value, Parameter) and graph.value.kind == "channel" and graph.value.init == start


def canonical(graph: Graph) -> Graph:
    """The same graph with its parameters renamed v0, v1, ... in order of use."""
    mapping = {parameter(p.name, p.kind, p.init): parameter(f"v{i}", p.kind, p.init) for i, p in enumerate(parameters(graph))}
    return replace(graph, mapping) if any(k is not v for k, v in mapping.items()) else graph


_PRECEDENCE = {"surrogate": 0, "add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3, "pow": 4}
_SYMBOL = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "surrogate": "~"}


def _precedence(node: Graph) -> int:
    if node.op == "constant" and _number(node) < 0:
        return 3
    return _PRECEDENCE.get(node.op, 5)


def number_text(value: float) -> str:
    """Shortest text that reads back as the same float; whole numbers without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _print(graph: Graph) -> str:
    text: dict[Graph, str] = {}
    for node in walk(graph):
        text[node] = _print_node(node, text)
    declared = [f"{p.name}: {p.kind} = {number_text(p.init)}" for p in parameters(graph)]
    return text[graph] + (f" where {', '.join(declared)}" if declared else "")


def _print_node(node: Graph, text: Mapping[Graph, str]) -> str:
    if isinstance(node.value, float):
        return number_text(node.value)
    if isinstance(node.value, Parameter):
        return node.value.name
    if isinstance(node.value, str):
        return node.value
    if isinstance(node.value, Axes):
        extra = "" if node.value.eps in (None, DEFAULT_EPS) else f", eps={number_text(node.value.eps or 0.0)}"
        extra += "" if node.value.groups in (0, DEFAULT_GROUPS) else f", groups={node.value.groups}"
        return f"{node.op}({text[node.args[0]]}, {node.value.axes}{extra})"
    own = _PRECEDENCE.get(node.op, 5)
    if node.op == "neg":
        return "-" + _wrapped(node.args[0], text, _precedence(node.args[0]) < own)
    if node.op in _SYMBOL:
        left, right = node.args
        tight_left = _precedence(left) <= own if node.op == "pow" else _precedence(left) < own
        tight_right = _precedence(right) <= own and not (node.op == "pow" and right.op == "constant")
        return f"{_wrapped(left, text, tight_left)} {_SYMBOL[node.op]} {_wrapped(right, text, tight_right)}"
    return f"{node.op}({', '.join(text[a] for a in node.args)})"


def _wrapped(node: Graph, text: Mapping[Graph, str], parenthesize: bool) -> str:
    return f"({text[node]})" if parenthesize else text[node]
