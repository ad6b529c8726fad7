"""What can be done with any typed grammar: grow a tree, count its trees, go through them from the smallest."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product

from evosearch.space import Production, SearchSpace, Tree

Grammar = Mapping[str, tuple[Production, ...]]


def heights(grammar: Grammar) -> dict[str, int]:
    """The levels of the flattest tree of each type, 1 for a type with a leaf. Raises ValueError for a type that never ends."""
    found: dict[str, int] = {}
    while True:
        before = dict(found)
        for kind, ways in grammar.items():
            ends = [1 + max((before[arg] for arg in way.args), default=0) for way in ways if all(arg in before for arg in way.args)]
            if ends:
                found[kind] = min(ends)
        if found == before:
            break
    endless = [kind for kind in grammar if kind not in found]
    if endless:
        raise ValueError(f"`{endless[0]}` never ends: every form of it needs another of its kind; give it one without")
    return found


def grow(grammar: Grammar, kind: str, rng: random.Random, levels: int, flattest: Mapping[str, int]) -> Tree:
    """A random tree of a type; after `levels` only what ends soonest, by the `heights` of the grammar."""

    def level(way: Production) -> int:
        return 1 + max((flattest[arg] for arg in way.args), default=0)

    fitting = [way for way in grammar[kind] if level(way) <= levels] or [way for way in grammar[kind] if level(way) == flattest[kind]]
    way = rng.choice(fitting)
    return way.name, tuple(grow(grammar, arg, rng, levels - 1, flattest) for arg in way.args)


def is_finite(space: SearchSpace) -> bool:
    """Whether the grammar has an end: no type needs itself, and no number is free."""
    return not space.numeric & set(space.productions) and count(space) < math.inf


def count(space: SearchSpace) -> float:
    """The number of trees, listed numbers only; infinite where a type may contain itself."""
    grammar, above = space.productions, set[str]()

    @cache
    def of(kind: str) -> float:
        if kind in above:
            return math.inf
        above.add(kind)
        total = sum(math.prod(of(arg) for arg in way.args) for way in grammar[kind])
        above.discard(kind)
        return total

    return of(space.root)


def count_up_to(space: SearchSpace, largest: int) -> int:
    """The number of trees with at most `largest` productions, listed numbers only."""
    grammar = space.productions

    @cache
    def of(kind: str, size: int) -> int:
        return sum(inputs(way.args, size - 1) for way in grammar[kind])

    @cache
    def inputs(kinds: tuple[str, ...], size: int) -> int:
        if not kinds:
            return size == 0
        return sum(of(kinds[0], first) * inputs(kinds[1:], size - first) for first in range(1, size - len(kinds) + 2))

    return sum(of(space.root, size) for size in range(1, largest + 1))


def smallest_first(grammar: Grammar, kind: str, largest: int) -> Iterator[Tree]:
    """Every tree of a type with at most `largest` productions, those of fewer first."""

    @cache
    def of(kind: str, size: int) -> tuple[Tree, ...]:
        return tuple(trees(kind, size))

    def trees(kind: str, size: int) -> Iterator[Tree]:
        for way in grammar[kind]:
            for sizes in _splits(size - 1, len(way.args)):
                for parts in product(*(of(arg, n) for arg, n in zip(way.args, sizes, strict=True))):
                    yield way.name, parts

    for size in range(1, largest + 1):
        yield from trees(kind, size)


def _splits(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """The ways to give each of `parts` at least one of `total`."""
    if parts == 0:
        if total == 0:
            yield ()
        return
    for first in range(1, total - parts + 2):
        for rest in _splits(total - first, parts - 1):
            yield first, *rest
