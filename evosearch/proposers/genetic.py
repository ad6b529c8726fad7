"""Strongly typed genetic programming on the trees of a space's grammar, selected by NSGA-II; the only file with DEAP.

DEAP's trees hold no state of a search: the population is what was told. Two traps of DEAP 1.4 are met here: its operators draw
from a module-global `random`, which is lent our generator for the length of a call; and typed crossover iterates over a set of
classes, whose hash is a memory address unless the classes say otherwise.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
from deap import base, gp, tools

from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.operators import STATISTICS
from evosearch.meaning.numeric import Array
from evosearch.proposers import SCREENED, Outcome, Proposal
from evosearch.proposers.neighbours import Neighbours
from evosearch.space import SearchSpace, Tree
from evosearch.space.trees import grow, heights

POPULATION = 48
FOUNDERS = 16  # random candidates before selection has anything to say
TRIES = 50
TOURNAMENT = 5
MANY = 4  # objectives, for NSGA-III
NOISY = ("mean", "worst")
GREED = 0.5
LITTER = 6  # children of which the most hopeful is proposed
HOPEFUL = 0.8  # else one child as it comes
_AGAIN = 0.3  # after each change of a child, the chance of one more
_ALIKE = 0.1  # squared distance of two curves, of which 1 is usual: one parent of such is enough

Mutation = Callable[[Any], Any]


class _NamedType(type):
    """A class whose hash is its name's: the order of a set of them does not depend on memory addresses."""

    def __hash__(cls) -> int:
        return zlib.crc32(cls.__name__.encode())


class _Fitness(base.Fitness):  # type: ignore[misc]
    def __init__(self, values: tuple[float, ...]) -> None:
        self.weights = (1.0,) * len(values)
        super().__init__(values)


@dataclass(eq=False)
class Parent:
    """A told candidate in the shape that DEAP's selection wants."""

    candidate: str
    parsed: Candidate
    canonical_id: str
    tree: Tree
    mean: float  # as it was told; in `fitness` scores closer than the noise are equal
    fitness: Any
    place: Array | None = None  # where what it computes lies among others

    def is_like(self, other: Parent) -> bool:
        """Whether the two compute nearly the same."""
        if self.canonical_id == other.canonical_id or self.place is None or other.place is None:
            return self.canonical_id == other.canonical_id
        return float(((self.place - other.place) ** 2).sum()) < _ALIKE


def parent_of(outcome: Outcome, space: SearchSpace, objectives: Sequence[str]) -> Parent | None:
    """A parent, where the outcome is measured and lies in the space."""
    if outcome.status != "ok" or any(name not in outcome.objectives for name in objectives):
        return None
    candidate = parse_candidate(outcome.candidate)
    tree = space.derive(candidate)
    if tree is None:
        return None
    values = tuple(_boxed(outcome.objectives[name], outcome.noise if name in NOISY else 0.0) for name in objectives)
    return Parent(outcome.candidate, candidate, candidate.canonical_id, tree, outcome.objectives["mean"], _Fitness(values))


def _boxed(value: float, width: float) -> float:
    """The lower end of the value's box: of two in one box neither dominates by it, and the simpler one wins (epsilon-dominance, Laumanns et al. 2002)."""
    return math.floor(value / width) * width if width > 0 else value


def survivors(population: list[Parent], size: int) -> list[Parent]:
    """Who stays: fronts first, then the lonely ones of the last, by NSGA-II; with four objectives or more by NSGA-III's directions.

    The non-dominated sort takes O(n log n).
    """
    if len(population) <= size:
        return population
    objectives = len(population[0].fitness.wvalues)
    if objectives < MANY:
        return list(tools.selNSGA2(population, size, nd="log"))
    divisions = max(p for p in range(1, size) if math.comb(objectives + p - 1, p) <= size)
    before = numpy.random.get_state()  # DEAP shuffles by NumPy's global generator, which is lent to it
    numpy.random.seed(len(population))
    try:
        return list(tools.selNSGA3(population, size, tools.uniform_reference_points(objectives, divisions), nd="log"))
    finally:
        numpy.random.set_state(before)


def taken_in(population: list[Parent], outcome: Outcome, parent: Parent | None, size: int) -> list[Parent]:
    """The population after an outcome that is `parent`, or none: what it said of the same function before is forgotten.

    Of parents that compute nearly the same (where places are known) the best by the objectives in their order stays, of equals the latest
    (crowding): else the neighbourhood of the first good one is soon all there is.
    """
    if outcome.index == SCREENED:
        return population
    others = [other for other in population if other.candidate != outcome.candidate]
    alike = [other for other in others if parent is not None and parent.is_like(other)]
    if parent is None or any(other.fitness.wvalues > parent.fitness.wvalues for other in alike):
        return others
    return survivors([*(other for other in others if other not in alike), parent], size)


def front(population: Sequence[Parent]) -> list[Parent]:
    """Those that no other dominates."""
    return list(tools.sortLogNondominated(list(population), len(population), first_front_only=True)) if population else []


class GeneticProposer:
    """Parents by NSGA-II over the mean and the `goals` of committed outcomes, children by typed crossover and mutation."""

    name = "genetic"

    def __init__(self, space: SearchSpace, goals: tuple[str, ...] = ("worst", "complexity")) -> None:
        self.space, self.objectives = space, ("mean", *goals)
        self.population: list[Parent] = []
        self.variation = Variation(space)
        self.neighbours = Neighbours(space)

    def tell(self, outcome: Outcome) -> None:
        """Takes an outcome into the population if it lies in the space, is measured and none like it is better; NSGA-II says who stays."""
        parent = parent_of(outcome, self.space, self.objectives)
        if parent is not None:
            parent.place = self.neighbours.tell(parent.parsed, parent.mean)
        self.population = taken_in(self.population, outcome, parent, POPULATION)

    def ask(self, rng: random.Random) -> Proposal:
        if len(self.population) < FOUNDERS:
            return Proposal(str(self.space.sample(rng)), (), self.name)
        hopeful = self.neighbours if rng.random() < HOPEFUL else None
        return self.variation.child(lambda: tournament(self.population, rng), rng, self.name, hopeful)


def tournament(population: Sequence[Parent], rng: random.Random) -> Parent:
    """Of some drawn at random the one with the best mean, or any that none of them dominates (EvoNorms, arXiv 2004.02967, section 3.3)."""
    drawn = [rng.choice(population) for _ in range(TOURNAMENT)]
    return max(drawn, key=lambda parent: parent.mean) if rng.random() < GREED else rng.choice(front(drawn))


class Variation:
    """Crossover and mutation of a space's trees, by DEAP: subtree, inputs, insert, delete, hoist, operator, number, parameter, correction."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.types = {kind: _NamedType(kind, (), {}) for kind in space.productions}
        self.kinds = {cls: kind for kind, cls in self.types.items()}
        self.primitives = gp.PrimitiveSetTyped("candidate", [], self.types[space.root])
        self.nodes: dict[tuple[str, str], Any] = {}
        self.heights = heights(space.productions)
        for kind, ways in space.productions.items():
            for way in ways:
                self._add(kind, way.name, way.args)
        self.corrections = [kind for kind in self.types if self._has(kind, "mul", "add", "gaussian", "x", "layer0")]
        self.mutations: list[Mutation] = [self._replace, self._redraw, self._operator, self._delete, self._hoist]
        if all(self.primitives.terminals[cls] for cls in self.types.values()):
            self.mutations.append(self._insert)
        if space.numeric & set(self.types):
            self.mutations += [self._number, self._number]
        if any(self._has(kind, "mul", "layer0") or self._has(kind, "mul", "channel0") for kind in self.types):
            self.mutations += [self._add_parameter, self._remove_parameter, self._move_parameter]
        if self.corrections:
            self.mutations.append(self._correct)
        self.statistics = [node for (kind, name), node in self.nodes.items() if kind == space.root and name.partition("_")[0] in STATISTICS and node.arity == 1]
        if self.statistics:
            self.mutations += [self._relate, self._relate]
        root = self.types[space.root]
        self.binary = [node for node in self.primitives.primitives[root] if node.args == [root, root]]
        self.inputs = [node for node in self.primitives.terminals[root] if _name(node) == "x"]

    def _add(self, kind: str, name: str, args: tuple[str, ...]) -> None:
        label = f"{kind}\t{name}"  # a name of its own among all types
        if args:
            self.primitives.addPrimitive(label.__len__, [self.types[arg] for arg in args], self.types[kind], name=label)
        else:
            self.primitives.addTerminal(label, self.types[kind], name=label)
        self.nodes[kind, name] = self.primitives.mapping[label]

    def _has(self, kind: str, *names: str) -> bool:
        return all((kind, name) in self.nodes for name in names)

    # -- trees -------------------------------------------------------------------------------------------------------

    def tree(self, tree: Tree) -> Any:
        """A tree of the space as DEAP's prefix list."""
        return gp.PrimitiveTree(list(self._flat(tree, self.space.root)))

    def _flat(self, tree: Tree, kind: str) -> Iterator[Any]:
        name, parts = tree
        node = self.nodes.get((kind, name))
        if node is None:  # a number that the space does not list
            node = gp.Terminal(f"{kind}\t{name}", True, self.types[kind])
        yield node
        for part, arg in zip(parts, node.args if parts else (), strict=True):
            yield from self._flat(part, self.kinds[arg])

    def read(self, tree: Any) -> Tree:
        """DEAP's prefix list as a tree of the space."""
        stack: list[Tree] = []
        for node in reversed(tree):
            parts = tuple(stack.pop() for _ in range(node.arity))
            stack.append((_name(node), parts))
        return stack.pop()

    def child(self, pick: Callable[[], Parent], rng: random.Random, name: str, neighbours: Neighbours | None = None) -> Proposal:
        """A child of picked parents, with `neighbours` the most hopeful of several; a random candidate where there is none."""
        litter = self._litter(pick, rng, 1 if neighbours is None else LITTER)
        if neighbours is not None and litter:
            expected = neighbours.expected([candidate for candidate, _ in litter])
            best = max(range(len(litter)), key=expected.__getitem__)
            litter = [litter[best]] if math.isfinite(expected[best]) else []
        candidate, ids = litter[0] if litter else (self.space.sample(rng), ())
        return Proposal(str(candidate), ids, name)

    def _litter(self, pick: Callable[[], Parent], rng: random.Random, size: int) -> list[tuple[Candidate, tuple[str, ...]]]:
        """So many children that lie in the space and are none of their parents."""
        found: list[tuple[Candidate, tuple[str, ...]]] = []
        with _lent_randomness(rng):
            for _ in range(TRIES):
                parents = [pick()]
                tree = self.tree(parents[0].tree)
                if rng.random() < 0.4:
                    parents.append(pick())
                    tree, _ = gp.cxOnePoint(tree, self.tree(parents[1].tree))
                else:
                    tree = rng.choice(self.mutations)(tree)
                while rng.random() < _AGAIN:
                    tree = rng.choice(self.mutations)(tree)
                candidate = self.space.build(self.read(tree))
                ids = tuple(parent.canonical_id for parent in parents)
                if candidate is not None and candidate.canonical_id not in ids:
                    found.append((candidate, ids))
                if len(found) == size:
                    break
        return found

    def mutant(self, tree: Tree, rng: random.Random) -> Candidate | None:
        """One change of a tree; None where it breaks a limit of the space."""
        with _lent_randomness(rng):
            return self.space.build(self.read(rng.choice(self.mutations)(self.tree(tree))))

    # -- mutations ---------------------------------------------------------------------------------------------------

    def _fresh(self, type_: Any, levels: int = 2) -> list[Any]:
        kind = self.kinds[type_]
        return list(self._flat(grow(self.space.productions, kind, gp.random, 1 + gp.random.randrange(levels + 1), self.heights), kind))

    def _replace(self, tree: Any) -> Any:
        """A subtree is replaced by a fresh one."""
        return gp.mutUniform(tree, lambda pset, type_: self._fresh(type_), self.primitives)[0]

    def _redraw(self, tree: Any) -> Any:
        """One operator stays, its inputs are drawn again."""
        at = _any(i for i, node in enumerate(tree) if node.arity)
        if at is not None:
            tree[tree.searchSubtree(at)] = [tree[at], *(part for type_ in tree[at].args for part in self._fresh(type_, 1))]
        return tree

    def _operator(self, tree: Any) -> Any:
        """One operator, axis set, form or choice becomes another with the same inputs."""
        if len(tree) > 1 and gp.random.random() < 0.8:
            return gp.mutNodeReplacement(tree, self.primitives)[0]
        same = [p for p in self.primitives.primitives[tree[0].ret] if p.args == (tree[0].args if tree[0].arity else None)]
        tree[0] = gp.random.choice(same) if same else tree[0]  # DEAP leaves the root alone
        return tree

    def _insert(self, tree: Any) -> Any:
        return gp.mutInsert(tree, self.primitives)[0]

    def _delete(self, tree: Any) -> Any:
        return gp.mutShrink(tree)[0]

    def _hoist(self, tree: Any) -> Any:
        """A part takes the place of what it is a part of."""
        at = _any(i for i, node in enumerate(tree) if node.arity)
        if at is not None:
            whole = tree.searchSubtree(at)
            inner = _any(i for i in range(at + 1, whole.stop) if tree[i].ret is tree[at].ret)
            if inner is not None:
                tree[whole] = tree[tree.searchSubtree(inner)]
        return tree

    def _number(self, tree: Any) -> Any:
        """A number times 2 to the power of a normal one, whose deviation is 1, 1/2, 1/4 or 1/8: far and near."""
        at = _any(i for i, node in enumerate(tree) if self.kinds[node.ret] in self.space.numeric and not node.arity)
        if at is not None:
            kind = self.kinds[tree[at].ret]
            value = float(f"{float(_name(tree[at])) * 2 ** gp.random.gauss(0, 0.5 ** gp.random.randrange(4)):.3g}")
            tree[at] = gp.Terminal(f"{kind}\t{min(max(value, -1e3), 1e3)!r}", True, tree[at].ret)
        return tree

    def _add_parameter(self, tree: Any) -> Any:
        """A learnable factor before a part (PANGAEA, arXiv 2006.03179)."""
        at = _any(i for i, node in enumerate(tree) if self._has(self.kinds[node.ret], "mul") and self._places(self.kinds[node.ret]))
        if at is not None:
            kind = self.kinds[tree[at].ret]
            place = gp.random.choice(self._places(kind))
            part = tree.searchSubtree(at)
            tree[part] = [self.nodes[kind, "mul"], place, *self._fresh(place.args[0], 0), *tree[part]]
        return tree

    def _places(self, kind: str) -> list[Any]:
        return [node for (of, name), node in self.nodes.items() if of == kind and name.rstrip("0123456789") in ("layer", "channel")]

    def _remove_parameter(self, tree: Any) -> Any:
        """A learnable factor is left out."""
        for first, second in ((1, 2), (2, 1)):
            at = _any(i for i, node in enumerate(tree) if _name(node) == "mul" and self._is_parameter(self._inputs(tree, i)[first - 1], tree))
            if at is not None:
                tree[tree.searchSubtree(at)] = tree[self._inputs(tree, at)[second - 1]]
                return tree
        return tree

    def _move_parameter(self, tree: Any) -> Any:
        return self._add_parameter(self._remove_parameter(tree))

    def _inputs(self, tree: Any, at: int) -> list[slice]:
        """Where the inputs of a node lie."""
        found, begin = [], at + 1
        for _ in range(tree[at].arity):
            found.append(tree.searchSubtree(begin))
            begin = found[-1].stop
        return found

    def _is_parameter(self, where: slice, tree: Any) -> bool:
        return tree[where.start] in self._places(self.kinds[tree[where.start].ret])

    def _relate(self, tree: Any) -> Any:
        """A part and a statistic of it or of the input become the inputs of a binary operator, the statistic as it is or negated."""
        root = self.types[self.space.root]
        at = _any(i for i, node in enumerate(tree) if node.ret is root)
        if at is None or not self.binary:
            return tree
        part = tree.searchSubtree(at)
        of = tree[part] if gp.random.random() < 0.5 or not self.inputs else self.inputs
        statistic = [gp.random.choice(self.statistics), *of]
        if self._has(self.space.root, "neg") and gp.random.random() < 0.3:
            statistic = [self.nodes[self.space.root, "neg"], *statistic]
        tree[part] = [gp.random.choice(self.binary), *tree[part], *statistic]
        return tree

    def _correct(self, tree: Any) -> Any:
        """`f + eps * x * exp(-x^2)` with a learnable small eps: the first-order correction of EAFO (arXiv 2405.12954)."""
        at = _any(i for i, node in enumerate(tree) if self.kinds[node.ret] in self.corrections and (i == 0 or tree[0].ret is not node.ret))
        if at is None:
            return tree
        kind = self.kinds[tree[at].ret]
        add, mul, gaussian, x, eps = (self.nodes[kind, name] for name in ("add", "mul", "gaussian", "x", "layer0"))
        start = gp.Terminal(f"{self.kinds[eps.args[0]]}\t0.01", True, eps.args[0])
        part = tree.searchSubtree(at)
        tree[part] = [add, *tree[part], mul, eps, start, mul, x, gaussian, x]
        return tree


def _name(node: Any) -> str:
    return str(node.name).partition("\t")[2]


def _any(places: Iterator[int]) -> int | None:
    found = list(places)
    return gp.random.choice(found) if found else None


@contextmanager
def _lent_randomness(rng: random.Random) -> Iterator[None]:
    """DEAP's gp module draws from its global `random`; for the length of one call that is ours."""
    before, gp.random = gp.random, rng
    try:
        yield
    finally:
        gp.random = before
