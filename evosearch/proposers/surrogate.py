"""Proposals by a model of what was told: layers that do alike to signals score alike.

A Gaussian process over the layers' curves and the network's choices learns the normal scores of the outcomes' ranks, broken ones the
worst, so that neither the scale of a task nor a score of minus infinity matters. Every ask draws one function of those that the process
believes in (Thompson sampling) over candidates of its own, and proposes its best: asks that know the same do not ask the same.
Before anything is told a layer is believed to be the better, the nearer its largest slope is to 1: then signals and gradients
neither explode nor vanish, whatever the task (arXiv 1611.01232).
"""

from __future__ import annotations

import random
from bisect import insort
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from scipy import special, stats

from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.graph import Graph
from evosearch.meaning.numeric import Array
from evosearch.meaning.screen import numeric
from evosearch.proposers import STAGES, Outcome, Proposal
from evosearch.proposers.points import Key, Point, Points, keys
from evosearch.proposers.process import Process, fit
from evosearch.proposers.selection import POPULATION, Parent, parent_of, taken_in, tournament
from evosearch.proposers.variation import Variation
from evosearch.space import Production, SearchSpace, Tree
from evosearch.space.trees import count, is_finite

_WHOLE = 20_000  # a finite space of at most so many trees is looked through
_LOOKED = 1000  # candidates of a finite space an ask
_SAMPLED, _CHILDREN = 6, 32  # candidates of any other space an ask
_FOUNDERS = 16
_JOINT = 50  # the most hopeful, over which a function is drawn
_BEST, _LATEST = 128, 128  # what was told that the process knows
_FAULTS = ("duplicate", "lost")  # say nothing of how good the candidate is


@dataclass(frozen=True, order=True)
class _Told:
    """An outcome as the process learns it; the least is the best."""

    loss: tuple[int, float]
    count: int  # of those told before it; an index is no number of what was never dispatched
    candidate: Candidate = field(compare=False)
    point: Point = field(compare=False)


class SurrogateProposer:
    """Thompson sampling on a Gaussian process, over the whole of a finite space or over samples and mutants of the best."""

    name = "surrogate"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._variation = Variation(space)
        self._population: list[Parent] = []
        self._asked: set[Key] = set()
        self._best: list[_Told] = []
        self._latest: deque[_Told] = deque(maxlen=_LATEST)
        self._count = 0
        self._fitted: Process | None = None

    @cached_property
    def _points(self) -> Points:
        return Points(self.space)  # with the first outcome or ask: a configuration is checked with a proposer that is never asked

    @cached_property
    def _pool(self) -> _Pool | None:
        return _Pool(self.space, self._points) if is_finite(self.space) and count(self.space) <= _WHOLE else None

    def tell(self, outcome: Outcome) -> None:
        """Takes an outcome of any proposer, or a verdict of the driver; one without a mean is ranked by how far it came."""
        candidate = parse_candidate(outcome.candidate)
        if not self._points.fits(candidate):
            return
        self._asked.update(keys([candidate]))
        (point,) = self._points.of([candidate])
        if self._pool is None:
            parent = parent_of(outcome, self.space, ("mean", "complexity"))
            if parent is not None:
                parent.place = point.place if point.usable else None
            self._population = taken_in(self._population, outcome, parent, POPULATION)
        if outcome.status in _FAULTS or not _trainable(candidate, point):
            return
        self._count += 1
        told = _Told(_loss(outcome), self._count, candidate, point)
        self._latest.append(told)
        insort(self._best, told)
        del self._best[_BEST:]
        self._fitted = None

    def ask(self, rng: random.Random) -> Proposal:
        process, numbers = self._process(), np.random.default_rng(rng.getrandbits(64))
        members = self._pool.some(self._asked, numbers) if self._pool is not None else self._near(rng)
        for member in _ranked(process, members, numbers):
            key = member.key or keys([member.candidate])[0]
            if key not in self._asked and _trainable(member.candidate, member.point):
                return Proposal(str(member.candidate), member.parents, self.name)
        return Proposal(str(self.space.sample(rng)), (), self.name)

    def _process(self) -> Process:
        """What is believed after the best and the latest outcomes; the same until the next is told."""
        if self._fitted is None:
            told = sorted({t.count: t for t in (*self._best, *self._latest)}.values(), key=lambda t: t.count, reverse=True)
            self._fitted = fit(_stacked([t.point for t in told]), _normal_scores([t.loss for t in told]))
        return self._fitted

    def _near(self, rng: random.Random) -> list[_Member]:
        """Random candidates, and mutants of the best ones."""
        ready = len(self._population) >= _FOUNDERS
        found: list[tuple[Candidate, tuple[str, ...]]] = [(self.space.sample(rng), ()) for _ in range(_SAMPLED if ready else 6 * _SAMPLED)]
        if ready:
            found += self._variation.litter(lambda: tournament(self._population, rng), rng, _CHILDREN)
        points = self._points.of([candidate for candidate, _ in found])
        return [_Member(candidate, point, origin) for (candidate, origin), point in zip(found, points, strict=True) if point.usable]


@dataclass(frozen=True)
class _Member:
    """A candidate that an ask may propose."""

    candidate: Candidate
    point: Point
    parents: tuple[str, ...] = ()
    key: Key | None = None


class _Pool:
    """A finite space, one of each set of equal candidates, without those whose layers are not finite."""

    def __init__(self, space: SearchSpace, points: Points) -> None:
        built = [c for tree in _every(space.productions, space.root) if (c := space.build(tree)) is not None]
        unlike = dict(reversed(list(zip(keys(built), built, strict=True))))
        found = zip(unlike.items(), points.of(list(unlike.values())), strict=True)
        self.members = [_Member(candidate, point, (), key) for (key, candidate), point in found if point.usable]

    def some(self, asked: set[Key], rng: np.random.Generator) -> list[_Member]:
        """A random part of what was not asked."""
        order = rng.permutation(len(self.members))[: _LOOKED + len(asked)]
        return [m for m in (self.members[i] for i in order) if m.key not in asked][:_LOOKED]


def _every(grammar: Mapping[str, tuple[Production, ...]], kind: str) -> Iterator[Tree]:
    """Every tree of a type of a grammar that has an end."""
    known: dict[str, list[Tree]] = {}

    def of(kind: str) -> list[Tree]:
        if kind not in known:
            known[kind] = [(way.name, parts) for way in grammar[kind] for parts in product(*(of(arg) for arg in way.args))]
        return known[kind]

    yield from of(kind)


def _ranked(process: Process, members: Sequence[_Member], rng: np.random.Generator) -> list[_Member]:
    """The most hopeful members, by one function drawn from the process."""
    if not members:
        return []
    points = _stacked([m.point for m in members])
    mean, deviation = process.expect(points)
    hopeful = np.argsort(-(mean + 2 * deviation), kind="stable")[:_JOINT]
    drawn = process.draw(points[hopeful], rng)
    return [members[hopeful[i]] for i in np.argsort(-drawn, kind="stable")]


def _stacked(points: Sequence[Point]) -> Array:
    """One row a point: its place, then the trend."""
    return np.stack([np.append(p.place, p.prior) for p in points]) if points else np.zeros((0, 1))


def _loss(outcome: Outcome) -> tuple[int, float]:
    """Lower is better: first how far it came, then its score there."""
    if outcome.status in ("ok", "rejected"):
        for behind, stage in enumerate(reversed(STAGES)):
            if stage in outcome.objectives:
                return behind, -outcome.objectives[stage]
    return len(STAGES), 0.0


def _normal_scores(losses: Sequence[tuple[int, float]]) -> Array:
    """The ranks as quantiles of a Gaussian, the best the highest; equal ones share theirs."""
    order = {loss: i for i, loss in enumerate(sorted(set(losses), reverse=True))}
    ranks = stats.rankdata([order[loss] for loss in losses]) if losses else np.zeros(0)
    return np.asarray(special.ndtri(ranks / (len(losses) + 1)))


def _trainable(candidate: Candidate, point: Point) -> bool:
    """Whether its layers are finite and pass the driver's own numeric check: what it turns away is worth no ask and no model."""
    return point.usable and all(_passes(graph) for graph in candidate.slots.values())


@lru_cache(maxsize=4096)
def _passes(graph: Graph) -> bool:
    return numeric(graph) is None
