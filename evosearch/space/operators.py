"""Formulas of the operator table: `binary(unary, unary)` and a few operators more, or a graph of so many operators."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from evosearch.language.candidate import Candidate, inputs_of
from evosearch.language.graph import (
    Axes,
    Graph,
    Parameter,
    canonical,
    constant,
    make,
    parameter,
    parameters,
    reaches,
    statistic,
    variable,
    walk,
    with_affine,
    without_affine,
)
from evosearch.language.operators import OPERATORS
from evosearch.meaning.screen import dead_part
from evosearch.space import Production, Tree

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

CONSTANTS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
_STARTS = (0.1, 0.5, 1.0)


@dataclass(frozen=True)
class OperatorSpace:
    """Formulas over the input `x`, numbers and learnable parameters, for the places of a network that `slot` names.

    Of the form `binary(unary, unary)` and up to `extra_operators` more; or, with `graph_nodes`, a graph of so many operators
    whose inputs are any two nodes before (EvoNorms, arXiv 2004.02967, section 3.1). `statistics` are taken over each of
    `axes`; with `affine` every formula ends with a weight and a bias per channel; in the slot `gate` they are of the inputs `x` and `y`, both.
    """

    operators: tuple[str, ...]
    max_nodes: int
    extra_operators: int = 1
    constants: bool = True
    layer_parameters: int = 0
    channel_parameters: int = 0
    graph_nodes: int = 0
    statistics: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    groups: int = 32
    affine: bool = False
    slot: str = "act"

    def __post_init__(self) -> None:
        if bool(self.statistics) != bool(self.axes):
            raise ValueError(f"statistics and axes go together; received statistics {list(self.statistics)} over axes {list(self.axes)}")
        if "batch" in self.axes and {"sum", "max"} & set(self.statistics):
            raise ValueError("`sum` and `max` over the batch have no value at evaluation; take mean, var, std and rms, or leave out the axis `batch`")
        unknown = [o for o in self.operators if o not in OPERATORS or not OPERATORS[o].searchable]
        if unknown:
            raise ValueError(f"a space is made of operators of the table; received `{unknown[0]}`")
        if not self.unary or not self.binary:
            raise ValueError("a space needs at least one unary and one binary operator")

    root = "tensor"
    numeric = frozenset(("number", "start"))

    @property
    def unary(self) -> tuple[str, ...]:
        return tuple(o for o in self.operators if OPERATORS[o].arity == 1)

    @property
    def binary(self) -> tuple[str, ...]:
        return tuple(o for o in self.operators if OPERATORS[o].arity == 2)

    @property
    def max_parameters(self) -> int:
        return self.layer_parameters + self.channel_parameters + 2 * self.affine

    @property
    def per_channel(self) -> bool:
        return self.channel_parameters > 0 or self.affine

    @cached_property
    def moments(self) -> dict[str, tuple[str, str]]:
        """The statistics and their axes by a name of their own, e.g. `std_group`."""
        return {f"{name}_{axes}": (name, axes) for name in self.statistics for axes in self.axes}

    def finish(self, core: Graph) -> Graph:
        """The candidate that the space makes of a formula: canonical, with the affine part if there is one."""
        return canonical(with_affine(core) if self.affine else core)

    def core(self, candidate: Graph) -> Graph | None:
        """The formula inside a candidate; None for one that lacks the space's affine part."""
        return without_affine(candidate) if self.affine else candidate

    def contains(self, candidate: Candidate) -> bool:
        """Whether a candidate lies in the space: its operators, size, parameters and constants."""
        if set(candidate.slots) != {"act"} or candidate.choices:
            return False
        graph = self.core(candidate.graph)
        return graph is not None and candidate.graph.size <= self.max_nodes and self._holds(graph)

    def _holds(self, graph: Graph) -> bool:
        kinds = [p.kind for p in parameters(graph)]
        if kinds.count("layer") > self.layer_parameters:
            return False
        if kinds.count("channel") > self.channel_parameters:
            return False
        for node in walk(graph):
            if node.op == "constant" and not self.constants:
                return False
            if isinstance(node.value, Axes):
                if (node.op, node.value.axes) not in self.moments.values() or node.value.groups not in (0, self.groups):
                    return False
            elif node.args and node.op not in self.operators:
                return False
            if node.op == "input" and node.value not in self.inputs:
                return False
        if not all(reaches(graph, name) for name in self.inputs) or dead_part(graph):  # most of a random walk: an operator took numbers or means alone
            return False
        return sum(1 for n in walk(graph) if n.args) <= (self.graph_nodes or 3 + self.extra_operators + 2 * self.constants)

    @property
    def inputs(self) -> tuple[str, ...]:
        return inputs_of(self.slot)

    def leaves(self) -> tuple[str, ...]:
        """The kinds of leaf an input of an operator may be."""
        return ("input", *(("scaled",) if self.constants and "mul" in self.operators else ()),
                *(("layer",) if self.layer_parameters else ()), *(("channel",) if self.channel_parameters else ()))  # fmt: skip

    @cached_property
    def productions(self) -> Mapping[str, tuple[Production, ...]]:
        """Inputs, operators, moments; a number; a learnable parameter by its place (the first `layer` one, ...) and its start."""
        zero = (0.0,) if self.graph_nodes else ()
        tensors = [Production(name) for name in self.inputs]
        tensors += [Production(name, ("tensor",) * OPERATORS[name].arity) for name in self.operators]
        tensors += [Production(name, ("tensor",)) for name in self.moments]
        found: dict[str, tuple[Production, ...]] = {}
        if self.constants:
            tensors.append(Production("number", ("number",)))
            found["number"] = tuple(Production(repr(value)) for value in (*zero, *CONSTANTS, *(-value for value in CONSTANTS)))
        places = [f"{kind}{i}" for kind in ("layer", "channel") for i in range(getattr(self, f"{kind}_parameters"))]
        if places:
            tensors += [Production(place, ("start",)) for place in places]
            found["start"] = tuple(Production(repr(value)) for value in (*zero, *_STARTS, *(-value for value in _STARTS)))
        return {"tensor": tuple(tensors), **found}

    def build(self, tree: Tree) -> Candidate | None:
        """The candidate of a tree; parameters of one place and one start are one. None where it breaks a limit."""
        candidate = Candidate({"act": self.finish(self._graph(tree))})
        return candidate if self.contains(candidate) else None

    def _graph(self, tree: Tree) -> Graph:
        name, inputs = tree
        if name in self.inputs:
            return variable(name)
        if name == "number":
            return constant(float(inputs[0][0]))
        if inputs and name not in OPERATORS and name not in self.moments:
            start = float(inputs[0][0])
            return parameter(f"{name}={start!r}", name.rstrip("0123456789"), start)
        return apply(self, name, *(self._graph(part) for part in inputs))

    def derive(self, candidate: Candidate) -> Tree | None:
        """The candidate's own tree; None for one that is not in the space."""
        if not self.contains(candidate):
            return None
        core = self.core(candidate.graph)
        assert core is not None
        places: dict[str, str] = {}
        for p in parameters(core):
            places[p.name] = f"{p.kind}{sum(place.startswith(p.kind) for place in places.values())}"
        return _tree(core, places)

    def sample(self, rng: random.Random) -> Candidate:
        """A random formula of the space. Raises ValueError when 1,000 walks find none that fits."""
        for _ in range(1000):
            core = walk_formula(self, rng.choice)
            if not all(reaches(core, name) for name in self.inputs):
                continue  # most walks of a graph, and soon said
            candidate = Candidate({"act": self.finish(core)})
            if self.contains(candidate):
                return candidate
        raise ValueError(f"no formula of at most {self.max_nodes} nodes was found in 1,000 samples; raise max_nodes")


def _tree(graph: Graph, places: Mapping[str, str]) -> Tree:
    if isinstance(graph.value, float):
        return "number", ((repr(graph.value), ()),)
    if isinstance(graph.value, Parameter):
        return places[graph.value.name], ((repr(graph.value.init), ()),)
    if isinstance(graph.value, str):
        return graph.value, ()
    name = f"{graph.op}_{graph.value.axes}" if isinstance(graph.value, Axes) else graph.op
    return name, tuple(_tree(arg, places) for arg in graph.args)


def walk_formula(space: OperatorSpace, choose: Choose[object]) -> Graph:
    """One formula of the space; `choose(options)` makes every decision, so that the same walk samples, enumerates and replays.

    It is as it was drawn: callers `finish` it, and check `space.contains`, for it may be too large.
    """
    if space.graph_nodes:
        return _walk_graph(space, choose)
    used: list[str] = []

    def pick(options: Sequence[T]) -> T:
        return choose(options)  # type: ignore[return-value, arg-type]

    def leaf() -> Graph:
        x = variable(pick(space.inputs) if len(space.inputs) > 1 else "x")
        # plain x three times as often: a scaled input is a variant, not the rule
        kind = pick(("input", "input", "input", *space.leaves()))
        if kind == "scaled":
            return make("mul", constant(pick(CONSTANTS)), x)
        if kind in ("layer", "channel") and kind not in used:
            used.append(kind)
            return make("mul", parameter(f"p{len(used)}", kind, pick(_STARTS)), x)
        return x

    def unary() -> Graph:
        operator = pick(("", *space.unary, *space.moments))
        inside = leaf()
        return apply(space, operator, inside) if operator else inside

    graph = make(pick(space.binary), unary(), unary())
    for _ in range(space.extra_operators):
        form = pick(("none", "unary", "binary"))
        if form == "unary":
            graph = apply(space, pick((*space.unary, *space.moments)), graph)
        elif form == "binary":
            other = constant(pick(CONSTANTS)) if space.constants and pick((True, False)) else leaf()
            graph = make(pick(space.binary), *((graph, other) if pick((True, False)) else (other, graph)))
    return graph


def apply(space: OperatorSpace, name: str, *args: Graph) -> Graph:
    """An operator or a moment of the space on its inputs."""
    if name in space.moments:
        moment, axes = space.moments[name]
        return statistic(moment, args[0], axes, groups=space.groups if axes == "group" else None)
    return make(name, *args)


def _walk_graph(space: OperatorSpace, choose: Choose[object]) -> Graph:
    """`graph_nodes` operators in a row, each on any nodes before it; the last is the result, what it does not need is gone."""
    starts: list[Graph] = [variable(name) for name in space.inputs]
    starts += [constant(0.0)] if space.constants else []
    starts += [parameter(f"c{i}", "channel", float(i % 2)) for i in range(space.channel_parameters)]
    starts += [parameter(f"l{i}", "layer", float(i % 2)) for i in range(space.layer_parameters)]
    nodes = list(starts)
    names = (*space.operators, *space.moments)
    for _ in range(space.graph_nodes):
        name = str(choose(names))
        arity = OPERATORS[name].arity if name in OPERATORS else 1
        args = [choose(nodes) for _ in range(arity)]
        nodes.append(apply(space, name, *args))  # type: ignore[arg-type]
    return nodes[-1]
