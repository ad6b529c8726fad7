"""Neighbours of a candidate in any typed grammar: one part of its tree is drawn anew, or one of its numbers moves."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from evosearch.space import Production, SearchSpace, Tree
from evosearch.space.trees import heights

_SPREAD = 0.3  # of a number's logarithm

Path = tuple[int, ...]


class Mutation:
    """What a space's grammar makes of a part that is drawn anew: as high as the old one and one level more, at most."""

    def __init__(self, space: SearchSpace) -> None:
        flattest = heights(space.productions)
        self._numeric = space.numeric
        self._root = space.root
        self._ways = {
            kind: sorted(((1 + max((flattest[arg] for arg in way.args), default=0), way) for way in ways), key=lambda pair: pair[0])
            for kind, ways in space.productions.items()
        }
        self._args = {(kind, way.name): way.args for kind, ways in space.productions.items() for way in ways}

    def of(self, tree: Tree, rng: random.Random) -> Tree:
        """A mutant of the tree; it may break a limit of the space."""
        kind, path, old = rng.choice(list(self._parts(self._root, tree, ())))
        if kind in self._numeric and rng.random() < 0.5:
            return _replaced(tree, path, (_moved(old[0], rng), ()))
        return _replaced(tree, path, self._grown(kind, rng, _height(old) + 1))

    def _parts(self, kind: str, tree: Tree, path: Path) -> Iterator[tuple[str, Path, Tree]]:
        yield kind, path, tree
        args = self._args.get((kind, tree[0]), ())  # a number that is not listed has none
        for i, (arg, part) in enumerate(zip(args, tree[1], strict=True)):
            yield from self._parts(arg, part, (*path, i))

    def _grown(self, kind: str, rng: random.Random, levels: int) -> Tree:
        ways = self._ways[kind]
        highest = max(levels, ways[0][0])  # beyond the levels only what ends soonest
        fitting: list[Production] = [way for level, way in ways if level <= highest]
        way = rng.choice(fitting)
        return way.name, tuple(self._grown(arg, rng, levels - 1) for arg in way.args)


def _moved(number: str, rng: random.Random) -> str:
    """Two significant digits: a formula that people can read."""
    return repr(float(f"{float(number) * math.exp(rng.gauss(0, _SPREAD)):.2g}"))


def _height(tree: Tree) -> int:
    return 1 + max((_height(part) for part in tree[1]), default=0)


def _replaced(tree: Tree, path: Path, fresh: Tree) -> Tree:
    if not path:
        return fresh
    name, parts = tree
    return name, tuple(_replaced(part, path[1:], fresh) if i == path[0] else part for i, part in enumerate(parts))
