"""Graph nodes as Python statements over torch: each value once, with the dimensions it needs and no more; what one other value takes stands in its line."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence

from evosearch.compiler.layout import WIDEST, wrapped
from evosearch.language.graph import Axes, Graph, walk
from evosearch.language.operators import OPERATORS

# The dimensions of each axis set in each layout of the input.
LAYOUTS: dict[str, dict[str, str]] = {
    "flat": {},
    "row": {"row": "-1"},
    "folded": {"instance": "2", "layer": "(1, 2)", "channel": "1"},  # (N, C, S)
    "folded_row": {"instance": "(2, 3)", "layer": "(1, 2, 3)", "channel": "1", "row": "3"},  # (N, C, S, R)
}
_LINE = 100  # characters of an expression: a longer one is parted
_BINARY_ON_NUMBERS = ("add", "sub", "mul", "div")


def function(
    name: str, arguments: Sequence[str], targets: Sequence[Graph], given: Mapping[Graph, str], layout: str,
    *, full: int | None = None, as_list: bool = False,
) -> str:  # fmt: skip
    """One emitted function. The first `full` targets (all, by default) are broadcast to the shape of `x`."""
    lines: list[str] = []
    written = _Statements(given, lines, layout, _uses(targets, given))
    count = len(targets) if full is None else full
    results = [written.full(t, _LINE // 2 if as_list else _LINE) if i < count else written.any(t) for i, t in enumerate(targets)]
    lines += _returned([_bare(result) for result in results]) if as_list else [f"    return {_bare(results[0])}"]
    kind = "list[Tensor]" if as_list else "Tensor"
    return "\n".join([*wrapped(f"def {name}(", [f"{a}: Tensor" for a in arguments], f") -> {kind}:"), *lines])


def _returned(results: Sequence[str]) -> list[str]:
    """A list of tensors, on one line where it has room there."""
    whole = f"    return [{', '.join(results)}]"
    return [whole] if len(whole) <= WIDEST else ["    return [", *(f"        {result}," for result in results), "    ]"]


def _bare(expression: str) -> str:
    """Without the parentheses that it does not need."""
    return ast.unparse(ast.parse(expression, mode="eval"))


def _uses(targets: Sequence[Graph], given: Mapping[Graph, str]) -> Counter[Graph]:
    """How many nodes or results take each node: what has one use may be fused into it."""
    uses: Counter[Graph] = Counter(targets)
    for node in {n for t in targets for n in walk(t)}:
        if node not in given:
            uses.update(node.args)
    return uses


class _Statements:
    """Writes nodes as statements; remembers the name, and whether the value has the full shape of `x`."""

    def __init__(self, given: Mapping[Graph, str], lines: list[str], layout: str, uses: Counter[Graph]) -> None:
        self.names = dict(given)
        self.full_shape = {n for n in given if n.op == "input"}
        # what has one dimension for each of the input's: no number, no parameter of the whole layer
        self.ranked = {n for n in given if n.op == "input" or n.args or getattr(n.value, "kind", "") == "channel"}
        self.lines, self.layout, self.uses = lines, layout, uses
        self.waiting: dict[Graph, str] = {}  # expressions that one other value takes

    def full(self, target: Graph, room: int = _LINE // 2) -> str:
        """`target`, broadcast to the shape of `x` if it is smaller; an expression of its own beyond `room` characters."""
        self._write(target)
        if target.op == "constant":
            return f"torch.full_like(x, {self.names[target]})"
        return self._taken(target, room=room) if target in self.full_shape else f"{self._taken(target)}.expand_as(x)"

    def any(self, target: Graph) -> str:
        """`target` in whatever shape it has, as a tensor."""
        self._write(target)
        return f"torch.full_like(x, {self.names[target]})" if target.op == "constant" else self._taken(target)

    def _taken(self, node: Graph, times: int = 1, room: int = _LINE // 2) -> str:
        """The name of a value, or the expression itself where it is needed here alone and fits into a line."""
        expression = self.waiting.pop(node, None)
        if expression is None:
            return self.names[node]
        if times == 1 and len(expression) <= room:
            return f"({expression})"
        self._assign(node, expression)
        return self.names[node]

    def _assign(self, node: Graph, expression: str) -> None:
        self.lines.append(f"    {self.names[node]} = {_bare(expression)}")

    def _write(self, target: Graph) -> None:
        stack = [target]
        while stack:
            node = stack[-1]
            missing = [a for a in self._inputs(node) if a not in self.names]
            if node in self.names or not missing:
                stack.pop()
                if node not in self.names:
                    self._statement(node)
            else:
                stack.extend(reversed(missing))

    def _inputs(self, node: Graph) -> tuple[Graph, ...]:
        product = self._fusible(node)
        return (node.args[0] if node.args[1] is product else node.args[1], *product.args) if product else node.args

    def _fusible(self, node: Graph) -> Graph | None:
        """The product of a sum that `torch.addcmul` or `torch.add(alpha=)` can take with it in one pass."""
        if self.layout == "flat" or node.op not in ("add", "sub"):
            return None
        candidates = node.args[1:] if node.op == "sub" else tuple(reversed(node.args))
        for product in candidates:
            other = node.args[0] if node.args[1] is product else node.args[1]
            if product.op == "mul" and self.uses[product] == 1 and product not in self.names and other.op != "constant" and other is not product:
                return product
        return None

    def _statement(self, node: Graph) -> None:
        if isinstance(node.value, float):
            self.names[node] = repr(node.value)
            return
        expression = self._text(node)
        self.names[node] = f"t{len(self.names)}"
        if self.uses[node] == 1 and len(_bare(expression)) <= _LINE:
            self.waiting[node] = _bare(expression)
        else:
            self._assign(node, expression)
        inputs = self._inputs(node)
        if isinstance(node.value, Axes):
            self.ranked.add(node)
            return
        if any(a in self.full_shape for a in inputs):
            self.full_shape.add(node)
        if any(a in self.ranked for a in inputs):
            self.ranked.add(node)

    def _text(self, node: Graph) -> str:
        if isinstance(node.value, Axes):
            return self._statistic(node, node.value)
        product = self._fusible(node)
        if product is None:
            return OPERATORS[node.op].torch.format(**dict(zip("ab", self._operands(node), strict=False)))
        other, a, b = self._inputs(node)
        sign = "-" if node.op == "sub" else ""
        for number, factor in ((a, b), (b, a)):
            if number.op == "constant":
                return f"torch.add({self._tensor(other)}, {self._tensor(factor)}, alpha={sign}({self.names[number]}))"
        value = ", value=-1.0" if sign else ""
        return f"torch.addcmul({self._tensor(other)}, {self._tensor(a)}, {self._tensor(b)}{value})"

    def _tensor(self, node: Graph, times: int = 1) -> str:
        return f"torch.full((), {self.names[node]}, dtype=x.dtype, device=x.device)" if node.op == "constant" else self._taken(node, times)

    def _operands(self, node: Graph) -> list[str]:
        numbers = [a.op == "constant" for a in node.args]
        bare = (node.op in _BINARY_ON_NUMBERS and not all(numbers)) or (node.op == "pow" and not numbers[0])
        times = [OPERATORS[node.op].torch.count(f"{{{letter}}}") for letter in "ab"]
        return [self.names[a] if bare and a.op == "constant" else self._tensor(a, n) for a, n in zip(node.args, times, strict=False)]

    def _statistic(self, node: Graph, axes: Axes) -> str:
        """`mean`, `sum` or `max`; the others were written through these before."""
        arg = node.args[0]
        # a mean or a maximum over what does not vary is that value; a sum counts it, and a group needs its channels
        wide = node.op == "sum" or axes.axes == "group" or arg not in self.ranked
        text = self.full(arg) if wide else self.any(arg)
        if axes.axes == "group":
            return f"_group_{node.op}({text}, {axes.groups})"
        dims = LAYOUTS[self.layout][axes.axes]
        return f"{text}.{'amax' if node.op == 'max' else node.op}({dims}, keepdim=True)"
