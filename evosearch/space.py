"""SearchSpace: what may be built, and the one walk through its grammar."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evosearch.language.graph import Axes, Graph, canonical, constant, make, parameter, parameters, variable, walk
from evosearch.language.operators import OPERATORS

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

CONSTANTS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
_STARTS = (0.1, 0.5, 1.0)


@dataclass(frozen=True)
class SearchSpace:
    """Formulas of `binary(unary, unary)` plus `extra_operators` more, over the input `x`, numbers and learnable parameters."""

    operators: tuple[str, ...]
    max_nodes: int
    extra_operators: int = 1
    constants: bool = True
    layer_parameters: int = 0
    channel_parameters: int = 0

    def __post_init__(self) -> None:
        unknown = [o for o in self.operators if o not in OPERATORS or not OPERATORS[o].searchable]
        if unknown:
            raise ValueError(f"a space is made of operators of the table; received `{unknown[0]}`")
        if not self.unary or not self.binary:
            raise ValueError("a space needs at least one unary and one binary operator")

    @property
    def unary(self) -> tuple[str, ...]:
        return tuple(o for o in self.operators if OPERATORS[o].arity == 1)

    @property
    def binary(self) -> tuple[str, ...]:
        return tuple(o for o in self.operators if OPERATORS[o].arity == 2)

    @property
    def max_parameters(self) -> int:
        return self.layer_parameters + self.channel_parameters

    def contains(self, graph: Graph) -> bool:
        """Whether a canonical graph lies in the space: its operators, size, parameters and constants."""
        kinds = [p.kind for p in parameters(graph)]
        if graph.size > self.max_nodes or kinds.count("layer") > self.layer_parameters:
            return False
        if kinds.count("channel") > self.channel_parameters:
            return False
        for node in walk(graph):
            if (node.op == "constant" and not self.constants) or isinstance(node.value, Axes):
                return False
            if node.args and node.op not in self.operators:
                return False
            if node.op == "input" and node.value != "x":
                return False
        return sum(1 for n in walk(graph) if n.args) <= 3 + self.extra_operators + 2 * self.constants

    def leaves(self) -> tuple[str, ...]:
        """The kinds of leaf an input of an operator may be."""
        return ("input", *(("scaled",) if self.constants and "mul" in self.operators else ()),
                *(("layer",) if self.layer_parameters else ()), *(("channel",) if self.channel_parameters else ()))  # fmt: skip


def walk_grammar(space: SearchSpace, choose: Choose[object]) -> Graph:
    """One formula of the space; `choose(options)` makes every decision, so that the same walk samples, enumerates and replays.

    The result may be too large for the space; callers check `space.contains`.
    """
    used: list[str] = []

    def pick(options: Sequence[T]) -> T:
        return choose(options)  # type: ignore[return-value, arg-type]

    def leaf() -> Graph:
        x = variable("x")
        # plain x three times as often: a scaled input is a variant, not the rule
        kind = pick(("input", "input", "input", *space.leaves()))
        if kind == "scaled":
            return make("mul", constant(pick(CONSTANTS)), x)
        if kind in ("layer", "channel") and kind not in used:
            used.append(kind)
            return make("mul", parameter(f"p{len(used)}", kind, pick(_STARTS)), x)
        return x

    def unary() -> Graph:
        operator = pick(("", *space.unary))
        inside = leaf()
        return make(operator, inside) if operator else inside

    graph = make(pick(space.binary), unary(), unary())
    for _ in range(space.extra_operators):
        form = pick(("none", "unary", "binary"))
        if form == "unary":
            graph = make(pick(space.unary), graph)
        elif form == "binary":
            other = constant(pick(CONSTANTS)) if space.constants and pick((True, False)) else leaf()
            graph = make(pick(space.binary), *((graph, other) if pick((True, False)) else (other, graph)))
    return canonical(graph)


def sample(space: SearchSpace, rng: random.Random) -> Graph:
    """A random formula of the space. Raises ValueError when 1,000 walks find none that fits."""
    for _ in range(1000):
        graph = walk_grammar(space, rng.choice)
        if space.contains(graph):
            return graph
    raise ValueError(f"no formula of at most {space.max_nodes} nodes was found in 1,000 samples; raise max_nodes")
