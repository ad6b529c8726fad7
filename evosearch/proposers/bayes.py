"""Structure of small schemas, numbers of promising formulas and choices of networks, by Optuna's TPE; the only file with Optuna, so `highest` is here too.

A finite space is one conditional study over the productions of its trees. In any other a structure is a tree with its numbers left
out, and one of the best structures has its numbers searched. At every ask the study is built afresh from the committed outcomes
(the best and the latest `_HISTORY / 2`) and the sampler seeded from the ask's own randomness, so no Optuna object outlives a call.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from evosearch.language.candidate import parse_candidate
from evosearch.proposers import Outcome, Proposal
from evosearch.space import SearchSpace, Tree
from evosearch.space.trees import is_finite

optuna.logging.set_verbosity(optuna.logging.WARNING)

_PROMISING = 5
_FACTOR = 4.0  # a number is searched from a quarter to four times of where the structure was first met
_HISTORY = 200
_FAILED = -3.0  # the standardized score of what did not train: the worst

Told = tuple[Tree, float, str]  # tree, score, canonical id


class BayesProposer:
    """TPE over the productions of a finite space, else over the numbers of one of the best structures met so far."""

    name = "bayes"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._finite = is_finite(space)
        self._told: list[Told] = []
        self._structures: dict[str, list[Told]] = {}

    def tell(self, outcome: Outcome) -> None:
        """Files an outcome, under its structure where numbers are searched; there one without numbers gets the rate 1 on its input."""
        measured = outcome.status == "ok" and "mean" in outcome.objectives
        if outcome.status == "duplicate" or not (measured or self._finite):
            return
        candidate = parse_candidate(outcome.candidate)
        tree = self.space.derive(candidate)
        if tree is None:
            return
        score = outcome.objectives["mean"] if measured else _FAILED
        if self._finite:
            self._told.append((tree, score, candidate.canonical_id))
            return
        numbered = tree if _numbers(tree, self.space) else _with_rate(tree, self.space)
        if _numbers(numbered, self.space) and self.space.build(numbered) is not None:
            self._structures.setdefault(_skeleton(numbered, self.space), []).append((numbered, score, candidate.canonical_id))

    def ask(self, rng: random.Random) -> Proposal:
        parents: tuple[str, ...] = ()
        if self._finite and self._told:
            tree = _schema(self.space, _kept(self._told), rng.getrandbits(31))
        elif self._structures:
            ranked = sorted(self._structures, key=lambda s: (-max(told[1] for told in self._structures[s]), s))
            told = self._structures[rng.choice(ranked[:_PROMISING])]
            tree, parents = _tuned(self.space, told[0][0], _kept(told), rng.getrandbits(31)), (max(told, key=lambda t: t[1])[2],)
        else:
            return Proposal(str(self.space.sample(rng)), (), self.name)
        candidate = self.space.build(tree)
        return Proposal(str(candidate or self.space.sample(rng)), parents, self.name)


def _kept(told: list[Told]) -> list[Told]:
    """The best and the latest half of the history, in the order they were told."""
    if len(told) <= _HISTORY:
        return told
    latest = told[-_HISTORY // 2 :]
    best = sorted(range(len(told) - _HISTORY // 2), key=lambda i: (-told[i][1], i))[: _HISTORY // 2]
    return [told[i] for i in sorted(best)] + latest


def _schema(space: SearchSpace, told: list[Told], seed: int) -> Tree:
    """A tree whose every production is suggested, that of a part by where the part is."""
    study = _study(seed)
    for tree, score, _ in told:
        made = dict(_choices(tree, space, space.root, "0"))
        spread: dict[str, BaseDistribution] = {
            place: CategoricalDistribution([way.name for way in space.productions[kind]]) for place, (kind, _) in made.items()
        }
        study.add_trial(create_trial(params={place: name for place, (_, name) in made.items()}, distributions=spread, value=score, state=TrialState.COMPLETE))
    trial = study.ask()

    def suggest(kind: str, place: str) -> Tree:
        ways = space.productions[kind]
        name = trial.suggest_categorical(f"{place}:{kind}", [way.name for way in ways])
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


def _tuned(space: SearchSpace, first: Tree, told: list[Told], seed: int) -> Tree:
    """The structure with numbers suggested near those it was first met with."""
    center = _numbers(first, space)
    box: dict[str, BaseDistribution] = {f"n{i}": FloatDistribution(1 / _FACTOR, _FACTOR, log=True) for i in range(len(center))}
    study = _study(seed)
    for tree, score, _ in told:
        ratios = {f"n{i}": min(max(n / c, 1 / _FACTOR), _FACTOR) for i, (n, c) in enumerate(zip(_numbers(tree, space), center, strict=True))}
        study.add_trial(create_trial(params=ratios, distributions=dict(box), value=score, state=TrialState.COMPLETE))
    trial = study.ask(dict(box))
    suggested = iter([_two_digits(c * trial.params[f"n{i}"]) for i, c in enumerate(center)])
    study.tell(trial, state=TrialState.FAIL)
    return _replaced(first, space, space.root, lambda number: next(suggested))


def _study(seed: int) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=4, multivariate=False))


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
