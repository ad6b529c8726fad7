"""Structure of small schemas, numbers of promising formulas and choices of networks, by Optuna's samplers; the only file with Optuna.

A finite space is one conditional study over the productions of its trees. In any other a structure is a tree with its numbers left
out, and one of the best structures has its numbers searched. At every ask the study is built afresh from the committed outcomes
(the best and the latest half of a sampler's history) and the sampler seeded from the ask's own randomness, so no Optuna object
outlives a call: CMA-ES starts from the outcomes as from another study's (arXiv 2012.06932) and needs no pickled state, and NSGA-II
finds them dealt into generations in the order in which they were told. What did not train violates a constraint.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from evosearch.language.candidate import parse_candidate
from evosearch.proposers import Outcome, Proposal
from evosearch.space import SearchSpace, Tree
from evosearch.space.trees import is_finite

optuna.logging.set_verbosity(optuna.logging.ERROR)

_FACTOR = 4.0  # a number is searched from a quarter to four times of where the structure was first met
_GENERATION = 20  # of NSGA-II
_FAILED = -3.0  # the standardized score of what did not train: the worst


@dataclass(frozen=True)
class Told:
    """An outcome as a sampler learns it: `values` are to be maximized, the first is the score."""

    tree: Tree
    values: tuple[float, ...]
    canonical_id: str
    trained: bool

    @property
    def score(self) -> float:
        """Its first value."""
        return self.values[0]


@dataclass(frozen=True)
class Kind:
    """One of Optuna's samplers: how it is made of a seed and the trials it learns from, and how many of those it bears at an ask."""

    make: Callable[[int, list[FrozenTrial]], BaseSampler]
    history: int = 200
    warm: bool = False  # the sampler itself takes the trials, and the study stays empty


def _tpe(seed: int, trials: list[FrozenTrial]) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=4, multivariate=False)


def _nsga2(seed: int, trials: list[FrozenTrial]) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=_GENERATION)


def _gp(seed: int, trials: list[FrozenTrial]) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=4)


def _cmaes(seed: int, trials: list[FrozenTrial]) -> BaseSampler:
    if len(trials) < 4 or len(trials[0].params) < 2:  # nothing to estimate a distribution from, or no two numbers for one
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of source_trials, here since Optuna 2.6
        return optuna.samplers.CmaEsSampler(seed=seed, source_trials=trials, warn_independent_sampling=False)


SAMPLERS = {
    "random": Kind(lambda seed, trials: optuna.samplers.RandomSampler(seed=seed)),
    "tpe": Kind(_tpe),
    "nsga2": Kind(_nsga2),
    "gp": Kind(_gp, history=24),
    "cma-es": Kind(_cmaes, warm=True),
}


class BayesProposer:
    """A sampler over the productions of a finite space, else over the numbers of one of the best structures met so far.

    Raises ValueError for CMA-ES in a finite space, which has no numbers to tune.
    """

    name = "bayes"
    sampler = "tpe"
    promising = 5

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._finite = is_finite(space)
        self._told: list[Told] = []
        self._structures: dict[str, list[Told]] = {}
        self._heard: set[str] = set()  # of what anyone proposed
        if self._finite and self.sampler == "cma-es":
            raise ValueError("CMA-ES tunes numbers, and this space has none to tune: leave it out, or let the space have constants")

    def tell(self, outcome: Outcome) -> None:
        """Files an outcome, under its structure where numbers are searched; there one without numbers gets the rate 1 on its input."""
        self._heard.add(outcome.candidate)
        values = self.values(outcome)
        if outcome.status == "duplicate" or not (values or self._finite):
            return
        candidate = parse_candidate(outcome.candidate)
        tree = self.space.derive(candidate)
        if tree is None:
            return
        if self._finite:
            self._told.append(Told(tree, values or self.worst, candidate.canonical_id, bool(values)))
            return
        numbered = tree if _numbers(tree, self.space) else _with_rate(tree, self.space)
        if _numbers(numbered, self.space) and self.space.build(numbered) is not None:
            self._structures.setdefault(_skeleton(numbered, self.space), []).append(Told(numbered, values, candidate.canonical_id, True))

    def values(self, outcome: Outcome) -> tuple[float, ...]:
        """What the sampler maximizes; nothing for an outcome without a score."""
        return (outcome.objectives["mean"],) if outcome.status == "ok" and "mean" in outcome.objectives else ()

    @property
    def worst(self) -> tuple[float, ...]:
        """The values of what did not train."""
        return (_FAILED,)

    def ask(self, rng: random.Random) -> Proposal:
        parents: tuple[str, ...] = ()
        kind = SAMPLERS[self.sampler]
        if self._finite and self._told:
            candidate = self.space.build(_schema(self.space, kind, _kept(self._told, kind.history), rng.getrandbits(31)))
        elif self._structures:
            ranked = sorted(self._structures, key=lambda s: (-max(told.score for told in self._structures[s]), s))
            told = self._structures[rng.choice(ranked[: self.promising])]
            candidate = self.space.build(_tuned(self.space, kind, told[0].tree, _kept(told, kind.history), rng.getrandbits(31)))
            if str(candidate) in self._heard:  # a sampler that is sure of itself says the same again
                candidate = self.space.build(_tuned(self.space, SAMPLERS["random"], told[0].tree, told[:1], rng.getrandbits(31)))
            parents = (max(told, key=lambda t: t.score).canonical_id,)
        else:
            return Proposal(str(self.space.sample(rng)), (), self.name)
        return Proposal(str(candidate or self.space.sample(rng)), parents, self.name)


class NsgaProposer(BayesProposer):
    """NSGA-II over the mean and the `goals`."""

    name = "bayes-nsga2"
    sampler = "nsga2"

    def __init__(self, space: SearchSpace, goals: tuple[str, ...] = ("worst", "complexity")) -> None:
        super().__init__(space)
        self.objectives = ("mean", *goals)

    def values(self, outcome: Outcome) -> tuple[float, ...]:
        """The objectives; nothing for an outcome that lacks one."""
        known = outcome.status == "ok" and all(name in outcome.objectives for name in self.objectives)
        return tuple(outcome.objectives[name] for name in self.objectives) if known else ()

    @property
    def worst(self) -> tuple[float, ...]:
        return (_FAILED,) * len(self.objectives)


class GaussianProposer(BayesProposer):
    """A Gaussian process over the productions or numbers (Optuna's, which needs torch), from the best and the latest 12 outcomes."""

    name = "bayes-gp"
    sampler = "gp"


class CmaProposer(BayesProposer):
    """CMA-ES over the numbers."""

    name = "bayes-cmaes"
    sampler = "cma-es"


def _kept(told: list[Told], history: int) -> list[Told]:
    """The best and the latest half of the history, in the order they were told."""
    if len(told) <= history:
        return told
    latest = told[-history // 2 :]
    best = sorted(range(len(told) - history // 2), key=lambda i: (-told[i].score, i))[: history // 2]
    return [told[i] for i in sorted(best)] + latest


def _study(kind: Kind, trials: list[FrozenTrial], seed: int) -> optuna.Study:
    """A study that knows the trials, to be asked once."""
    values = len(trials[0].values) if trials else 1
    study = optuna.create_study(directions=["maximize"] * values, sampler=kind.make(seed, trials))
    study.add_trials([] if kind.warm else trials)
    return study


def _trial(told: Told, position: int, params: dict[str, Any], distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    """A finished trial of Optuna's. Its generation counts for NSGA-II alone."""
    return create_trial(
        params=params, distributions=distributions, values=told.values, state=TrialState.COMPLETE,
        system_attrs={"NSGAIISampler:generation": position // _GENERATION}, constraints={"trained": -1.0 if told.trained else 1.0},
    )  # fmt: skip


def _schema(space: SearchSpace, kind: Kind, told: list[Told], seed: int) -> Tree:
    """A tree whose every production is suggested, that of a part by where the part is."""
    trials = []
    for position, one in enumerate(told):
        made = dict(_choices(one.tree, space, space.root, "0"))
        spread: dict[str, BaseDistribution] = {place: CategoricalDistribution([w.name for w in space.productions[of]]) for place, (of, _) in made.items()}
        trials.append(_trial(one, position, {place: name for place, (_, name) in made.items()}, spread))
    study = _study(kind, trials, seed)
    trial = study.ask()

    def suggest(of: str, place: str) -> Tree:
        ways = space.productions[of]
        name = trial.suggest_categorical(f"{place}:{of}", [way.name for way in ways])
        way = next(way for way in ways if way.name == name)
        return name, tuple(suggest(arg, f"{place}.{i}") for i, arg in enumerate(way.args))

    tree = suggest(space.root, "0")
    study.tell(trial, state=TrialState.FAIL)
    return tree


def _choices(tree: Tree, space: SearchSpace, kind: str, place: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each part's place and type (another branch may have another there), and its type and production."""
    name, parts = tree
    yield f"{place}:{kind}", (kind, name)
    way = next(way for way in space.productions[kind] if way.name == name)
    for i, (part, arg) in enumerate(zip(parts, way.args, strict=True)):
        yield from _choices(part, space, arg, f"{place}.{i}")


def _tuned(space: SearchSpace, kind: Kind, first: Tree, told: list[Told], seed: int) -> Tree:
    """The structure with numbers suggested near those it was first met with."""
    center = _numbers(first, space)
    box: dict[str, BaseDistribution] = {f"n{i}": FloatDistribution(1 / _FACTOR, _FACTOR, log=True) for i in range(len(center))}
    trials = []
    for position, one in enumerate(told):
        ratios = {f"n{i}": min(max(n / c, 1 / _FACTOR), _FACTOR) for i, (n, c) in enumerate(zip(_numbers(one.tree, space), center, strict=True))}
        trials.append(_trial(one, position, ratios, dict(box)))
    study = _study(kind, trials, seed)
    trial = study.ask(dict(box))
    suggested = iter([_two_digits(c * trial.params[f"n{i}"]) for i, c in enumerate(center)])
    study.tell(trial, state=TrialState.FAIL)
    return _replaced(first, space, space.root, lambda number: next(suggested))


def highest(value: Callable[[Mapping[str, float]], float], box: Mapping[str, tuple[float, float]], trials: int, seed: int) -> dict[str, float]:
    """The best of `trials` points of a box (bounds by name): 10 at random, then by a Gaussian process (which needs torch) over those before."""
    sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=10)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: value({name: trial.suggest_float(name, *bounds) for name, bounds in box.items()}), n_trials=trials)
    return {name: float(study.best_params[name]) for name in box}


def _two_digits(value: float) -> float:
    """Two significant digits: a formula that people can read."""
    return float(f"{value:.2g}") if math.isfinite(value) and value else 1.0


def _numbers(tree: Tree, space: SearchSpace) -> list[float]:
    """The numbers of a tree other than 0, from left to right."""
    found: list[float] = []

    def note(number: float) -> float:
        found.append(number)
        return number

    _replaced(tree, space, space.root, note)
    return found


def _skeleton(tree: Tree, space: SearchSpace) -> str:
    """The tree's text with the signs of its numbers alone."""
    return str(_replaced(tree, space, space.root, lambda number: math.copysign(1.0, number)))


def _replaced(tree: Tree, space: SearchSpace, kind: str, new: Callable[[float], float]) -> Tree:
    """The tree with every number other than 0 replaced."""
    name, parts = tree
    if kind in space.numeric:
        return (name if float(name) == 0 else repr(new(float(name)))), ()
    way = next(way for way in space.productions[kind] if way.name == name)
    return name, tuple(_replaced(part, space, arg, new) for part, arg in zip(parts, way.args, strict=True))


def _with_rate(tree: Tree, space: SearchSpace) -> Tree:
    """`1 * x` in place of the input, where the space has such a product."""
    names = {way.name for way in space.productions[space.root]}
    return _rated(tree) if {"mul", "number", "x"} <= names else tree


def _rated(tree: Tree) -> Tree:
    return ("mul", (("number", (("1.0", ()),)), tree)) if tree == ("x", ()) else (tree[0], tuple(_rated(part) for part in tree[1]))
