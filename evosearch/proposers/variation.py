"""Crossover and mutation of a space's trees by DEAP's strongly typed genetic programming.

DEAP's trees hold no state of a search. Two traps of DEAP 1.4 are met here: its operators draw from a module-global `random`, which is
lent our generator for the length of a call; and typed crossover iterates over a set of classes, whose hash is a memory address unless
the classes say otherwise.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from deap import gp

from evosearch.language.candidate import Candidate
from evosearch.language.operators import STATISTICS
from evosearch.proposers import Proposal
from evosearch.proposers.neighbours import Neighbours
from evosearch.proposers.selection import Parent
from evosearch.space import SearchSpace, Tree
from evosearch.space.trees import grow, heights

TRIES = 50
LITTER = 6  # children of which the most hopeful is proposed
_CROSSED = 0.4  # share of children of two parents
_RELATED, _NORMALIZED = 6, 4  # of about twenty mutations of a space with statistics
_AGAIN = 0.3  # after each change of a child, the chance of one more

Mutation = Callable[[Any], Any]
Family = tuple[Candidate, tuple[str, ...]]  # a child and the canonical ids of its parents


class _NamedType(type):
    """A class whose hash is its name's: the order of a set of them does not depend on memory addresses."""

    def __hash__(cls) -> int:
        return zlib.crc32(cls.__name__.encode())


class Variation:
    """What changes the trees of a space: DEAP's crossover, its mutations, and those of this field; each says in its docstring what it does."""

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
        root = self.types[space.root]
        self.inputs = [node for node in self.primitives.terminals[root] if _name(node) == "x"]
        self.unary = [node for node in self.primitives.primitives[root] if node.args == [root]]
        self.binary = [node for node in self.primitives.primitives[root] if node.args == [root, root]]
        self.statistics = [node for node in self.unary if _name(node).partition("_")[0] in STATISTICS]
        self.functions = [node for node in self.unary if node not in self.statistics]
        self.corrections = [kind for kind in self.types if self._has(kind, "mul", "add", "gaussian", "x", "layer0")]
        self.mutations = list(self._possible())

    def _possible(self) -> Iterator[Mutation]:
        """The mutations that the grammar has a use for, each as often as it is likely."""
        yield from (self._replace, self._redraw, self._operator, self._delete, self._hoist)
        if all(self.primitives.terminals[cls] for cls in self.types.values()):
            yield self._insert
        if self.space.numeric & set(self.types):
            yield from [self._number] * 2
        if any(self._has(kind, "mul", "number") for kind in self.types):
            yield self._scale
        if any(self._has(kind, "mul", "layer0") or self._has(kind, "mul", "channel0") for kind in self.types):
            yield from (self._add_parameter, self._remove_parameter, self._move_parameter)
        if self.corrections:
            yield self._correct
        if self.unary and self.binary:
            yield from [self._relate] * (_RELATED if self.statistics else 2)
        if len(self.statistics) > 1:
            yield from [self._moment] * 2
        if self._centers() or self._scales():
            yield from [self._normalize] * _NORMALIZED

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
        litter = self.litter(pick, rng, 1 if neighbours is None else LITTER)
        if neighbours is not None and litter:
            expected = neighbours.expected([candidate for candidate, _ in litter])
            best = max(range(len(litter)), key=expected.__getitem__)
            litter = [litter[best]] if math.isfinite(expected[best]) else []
        candidate, ids = litter[0] if litter else (self.space.sample(rng), ())
        return Proposal(str(candidate), ids, name)

    def litter(self, pick: Callable[[], Parent], rng: random.Random, size: int) -> list[Family]:
        """So many children that lie in the space and are none of their parents, fewer where most break a limit."""
        found: list[Family] = []
        with _lent_randomness(rng):
            for _ in range(TRIES + size):
                parents = [pick()]
                tree = self.tree(parents[0].tree)
                if rng.random() < _CROSSED:
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

    def _scale(self, tree: Any) -> Any:
        """A number near 1 before a part."""
        at = _any(i for i, node in enumerate(tree) if self._has(self.kinds[node.ret], "mul", "number"))
        if at is not None:
            kind, part = self.kinds[tree[at].ret], tree.searchSubtree(at)
            number = self.nodes[kind, "number"]
            value = float(f"{2 ** gp.random.gauss(0, 0.5):.3g}")
            tree[part] = [self.nodes[kind, "mul"], number, gp.Terminal(f"{self.kinds[number.args[0]]}\t{value!r}", True, number.args[0]), *tree[part]]
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
        """A part meets the input, or a function or a statistic of itself or of the input, in a binary operator: `a + x`, `a * sigmoid(a)`, `a / std(x)`."""
        at = self._tensor(tree)
        if at is None:
            return tree
        part = tree.searchSubtree(at)
        other = gp.random.choice([self._input, *([self._function] if self.functions else []), *([self._statistic] if self.statistics else [])])
        tree[part] = [gp.random.choice(self.binary), *tree[part], *other(tree[part])]
        return tree

    def _input(self, part: list[Any]) -> list[Any]:
        return self.inputs or part

    def _function(self, part: list[Any]) -> list[Any]:
        return [gp.random.choice(self.functions), *self._itself_or_input(part)]

    def _statistic(self, part: list[Any]) -> list[Any]:
        negated = [self.nodes[self.space.root, "neg"]] if self._has(self.space.root, "neg") and gp.random.random() < 0.3 else []
        return [*negated, gp.random.choice(self.statistics), *self._itself_or_input(part)]

    def _normalize(self, tree: Any) -> Any:
        """A part is centred by a mean, or scaled by a deviation, of itself or of the input."""
        at = self._tensor(tree)
        if at is None:
            return tree
        part, root = tree.searchSubtree(at), self.space.root
        inner = self._itself_or_input(tree[part])
        centers, scales = self._centers(), self._scales()
        if centers and (not scales or gp.random.random() < 0.4):
            tree[part] = [self.nodes[root, "add"], *tree[part], self.nodes[root, "neg"], gp.random.choice(centers), *inner]
        else:
            tree[part] = [self.nodes[root, "div"], *tree[part], gp.random.choice(scales), *inner]
        return tree

    def _moment(self, tree: Any) -> Any:
        """One statistic is taken over other axes, or is another one over the same."""
        at = _any(i for i, node in enumerate(tree) if node in self.statistics)
        if at is not None:
            name, _, axes = _name(tree[at]).partition("_")
            kin = [node for node in self.statistics if (name, axes) != tuple(_name(node).split("_")) and {name, axes} & set(_name(node).split("_"))]
            tree[at] = gp.random.choice(kin) if kin else tree[at]
        return tree

    def _centers(self) -> list[Any]:
        means = [node for node in self.statistics if _name(node).startswith("mean_")]
        return means if self._has(self.space.root, "add", "neg") else []

    def _scales(self) -> list[Any]:
        deviations = [node for node in self.statistics if _name(node).startswith(("std_", "rms_"))]
        return deviations if self._has(self.space.root, "div") else []

    def _tensor(self, tree: Any) -> int | None:
        return _any(i for i, node in enumerate(tree) if self.kinds[node.ret] == self.space.root)

    def _itself_or_input(self, part: list[Any]) -> list[Any]:
        return part if gp.random.random() < 0.5 or not self.inputs else self.inputs

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
