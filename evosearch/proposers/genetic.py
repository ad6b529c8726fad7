"""Strongly typed genetic programming with NSGA-II selection; the only file with DEAP.

DEAP's trees live and die inside one call: what is kept is the text of the selected parents. Two traps of DEAP 1.4
are met here: its operators draw from a module-global `random`, which is lent our generator for the length of a call;
and typed crossover iterates over a set of classes, whose hash is a memory address unless the classes say otherwise.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deap import base, gp, tools

from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, Parameter, constant, make, parameter, parameters, variable
from evosearch.language.operators import OPERATORS
from evosearch.proposers import Outcome, Proposal
from evosearch.space import CONSTANTS, SearchSpace, apply, sample

_POPULATION = 24
_FOUNDERS = 16  # random candidates before selection has anything to say
_TRIES = 50


class _NamedType(type):
    """A class whose hash is its name's: the order of a set of them does not depend on memory addresses."""

    def __hash__(cls) -> int:
        return zlib.crc32(cls.__name__.encode())


class Tensor(metaclass=_NamedType):
    """What operators take and give."""


class Number(metaclass=_NamedType):
    """A constant, before `number` makes a Tensor of it."""


class Learnable(metaclass=_NamedType):
    """A learnable parameter's kind and start, before `learn` makes a Tensor of it."""


class _Fitness(base.Fitness):  # type: ignore[misc]
    def __init__(self, values: tuple[float, ...]) -> None:
        self.weights = (1.0,) * len(values)
        super().__init__(values)


@dataclass
class _Parent:
    """A told candidate in the shape DEAP's selection wants."""

    candidate: str
    canonical_id: str
    fitness: Any


class GeneticProposer:
    """Parents by NSGA-II over the mean and the `goals` of committed outcomes, children by typed crossover and five mutations."""

    name = "genetic"

    def __init__(self, space: SearchSpace, goals: tuple[str, ...] = ("worst", "complexity")) -> None:
        self.space, self.objectives = space, ("mean", *goals)
        self.population: list[_Parent] = []
        self._primitives = _primitive_set(space)

    def tell(self, outcome: Outcome) -> None:
        """Takes an outcome into the population if it lies in the space and is measured; NSGA-II says who stays."""
        if outcome.status != "ok" or any(name not in outcome.objectives for name in self.objectives):
            return
        graph = parse(outcome.candidate)
        if not self.space.contains(graph):
            return
        fitness = _Fitness(tuple(outcome.objectives[name] for name in self.objectives))
        self.population.append(_Parent(outcome.candidate, graph.canonical_id, fitness))
        if len(self.population) > _POPULATION:
            self.population = tools.selNSGA2(self.population, _POPULATION, nd="log")

    def ask(self, rng: random.Random) -> Proposal:
        if len(self.population) < _FOUNDERS:
            return Proposal(str(sample(self.space, rng)), (), self.name)
        with _lent_randomness(rng):
            for _ in range(_TRIES):
                parents, tree = self._child(rng)
                graph = self.space.finish(_graph(tree, self.space))
                ids = tuple(p.canonical_id for p in parents)
                if graph.canonical_id not in ids and self.space.contains(graph):
                    return Proposal(str(graph), ids, self.name)
        return Proposal(str(sample(self.space, rng)), (), self.name)

    def _child(self, rng: random.Random) -> tuple[list[_Parent], Any]:
        parents = [self._tournament(rng)]
        tree = self._tree(parents[0])
        crossed = rng.random() < 0.5
        if crossed:
            parents.append(self._tournament(rng))
            tree, _ = gp.cxOnePoint(tree, self._tree(parents[1]))
        if not crossed or rng.random() < 0.5:
            (tree,) = rng.choice(_MUTATIONS)(tree, self._primitives)
        return parents, tree

    def _tournament(self, rng: random.Random) -> _Parent:
        """The better of two by dominance, the first drawn where neither dominates."""
        first, second = rng.choice(self.population), rng.choice(self.population)
        return second if second.fitness.dominates(first.fitness) else first

    def _tree(self, parent: _Parent) -> Any:
        core = self.space.core(parse(parent.candidate))
        assert core is not None, "the population holds only members of the space"
        return gp.PrimitiveTree(list(_nodes(core, self._primitives, _places(core))))


@contextmanager
def _lent_randomness(rng: random.Random) -> Iterator[None]:
    """DEAP's gp module draws from its global `random`; for the length of one ask that is ours."""
    before, gp.random = gp.random, rng
    try:
        yield
    finally:
        gp.random = before


def _primitive_set(space: SearchSpace) -> Any:
    primitives = gp.PrimitiveSetTyped("formula", [Tensor] * len(space.inputs), Tensor, prefix="x")
    primitives.renameArguments(**{f"x{i}": name for i, name in enumerate(space.inputs)})
    for name in space.operators:
        primitives.addPrimitive(make, [Tensor] * OPERATORS[name].arity, Tensor, name=name)
    for name in space.moments:
        primitives.addPrimitive(apply, [Tensor], Tensor, name=name)
    zero = (0.0,) if space.graph_nodes else ()
    if space.constants:
        primitives.addPrimitive(constant, [Number], Tensor, name="number")
        primitives.addPrimitive(abs, [Number], Number, name="minus")  # DEAP's growth needs an operator of every type
        for value in (*zero, *CONSTANTS):
            primitives.addTerminal(value, Number, name=repr(value))  # DEAP keeps the name, not the value
    kinds = [f"layer{i}" for i in range(space.layer_parameters)] + [f"channel{i}" for i in range(space.channel_parameters)]
    if kinds:
        primitives.addPrimitive(parameter, [Learnable], Tensor, name="learn")
        primitives.addPrimitive(abs, [Learnable], Learnable, name="minus_start")
        for kind in kinds:
            for start in (*zero, 0.1, 0.5, 1.0):
                primitives.addTerminal((kind, start), Learnable, name=f"{kind}={start!r}")
    return primitives


def _places(graph: Graph) -> dict[str, str]:
    """Each parameter's place: `layer0` for the first of its kind."""
    places: dict[str, str] = {}
    for p in parameters(graph):
        places[p.name] = f"{p.kind}{sum(place.startswith(p.kind) for place in places.values())}"
    return places


def _nodes(graph: Graph, primitives: Any, places: Mapping[str, str]) -> Iterator[Any]:
    """A graph as DEAP's prefix list of primitives and terminals."""
    if isinstance(graph.value, float):
        yield primitives.mapping["number"]
        yield gp.Terminal(repr(graph.value), True, Number)
    elif isinstance(graph.value, Parameter):
        yield primitives.mapping["learn"]
        yield gp.Terminal(f"{places[graph.value.name]}={graph.value.init!r}", True, Learnable)
    elif isinstance(graph.value, str):
        yield primitives.mapping[graph.value]
    else:
        yield primitives.mapping[f"{graph.op}_{graph.value.axes}" if isinstance(graph.value, Axes) else graph.op]
        for arg in graph.args:
            yield from _nodes(arg, primitives, places)


def _graph(tree: Any, space: SearchSpace) -> Graph:
    """The graph of a DEAP tree; learnable leaves of one place and one start are one parameter."""
    stack: list[Graph] = []
    values: list[str] = []
    for position in range(len(tree) - 1, -1, -1):
        node = tree[position]
        if node.name == "minus":
            values.append(repr(0.0 - float(values.pop())))
        elif node.name == "minus_start":
            place, _, start = values.pop().partition("=")
            values.append(f"{place}={0.0 - float(start)!r}")
        elif node.ret is Number or node.ret is Learnable:
            values.append(node.value)
        elif node.name == "number":
            stack.append(constant(float(values.pop())))
        elif node.name == "learn":
            text = values.pop()
            place, _, start = text.partition("=")
            stack.append(parameter(text, place.rstrip("0123456789"), float(start)))
        elif isinstance(node, gp.Primitive):
            stack.append(apply(space, node.name, *(stack.pop() for _ in range(node.arity))))
        else:
            stack.append(variable(node.value))
    return stack.pop()


def _fresh(primitives: Any, type_: Any, largest: int = 2) -> list[Any]:
    grown: list[Any] = gp.genHalfAndHalf(primitives, min_=0, max_=largest, type_=type_)
    return grown


def _replace(tree: Any, primitives: Any) -> tuple[Any]:
    """A subtree is replaced by a fresh one."""
    return gp.mutUniform(tree, lambda pset, type_: _fresh(pset, type_), primitives)  # type: ignore[no-any-return]


def _redraw_inputs(tree: Any, primitives: Any) -> tuple[Any]:
    """One operator stays, its inputs are drawn again."""
    operators = [i for i, node in enumerate(tree) if isinstance(node, gp.Primitive) and node.args[0] is Tensor]
    if operators:
        at = gp.random.choice(operators)
        inputs = [part for type_ in tree[at].args for part in _fresh(primitives, type_, 1)]
        tree[tree.searchSubtree(at)] = [tree[at], *inputs]
    return (tree,)


_MUTATIONS: tuple[Callable[[Any, Any], tuple[Any]], ...] = (
    _replace,
    _redraw_inputs,
    gp.mutInsert,
    lambda tree, primitives: gp.mutShrink(tree),
    gp.mutNodeReplacement,
)
