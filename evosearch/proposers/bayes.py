"""Numeric constants and initial values of promising structures, by Optuna's TPE; the only file with Optuna, so `highest` is here too.

A structure is a formula with its numbers left out. At every ask the study of one structure is built afresh from the
committed outcomes and the sampler seeded from the ask's own randomness, so no Optuna object outlives a call.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from evosearch.language.formula import parse
from evosearch.language.graph import Graph, Parameter, canonical, constant, make, parameter, replace, variable, walk
from evosearch.proposers import Outcome, Proposal
from evosearch.space import SearchSpace, sample

optuna.logging.set_verbosity(optuna.logging.WARNING)

_PROMISING = 5
_FACTOR = 4.0  # a number is searched from a quarter to four times of where the structure was first met
_HISTORY = 200


class BayesProposer:
    """TPE over the numbers of one of the best structures met so far."""

    name = "bayes"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._told: dict[str, list[tuple[list[float], float, str]]] = {}

    def tell(self, outcome: Outcome) -> None:
        """Files an outcome under its structure; one without numbers is filed with the rate 1 on its input."""
        if outcome.status != "ok" or "mean" not in outcome.objectives:
            return
        core = self.space.core(parse(outcome.candidate))
        if core is None:
            return
        graph = _with_numbers(core)
        if self.space.contains(self.space.finish(graph)):
            structure, numbers = _split(graph)
            self._told.setdefault(structure, []).append((numbers, outcome.objectives["mean"], str(graph)))

    def ask(self, rng: random.Random) -> Proposal:
        if not self._told:
            return Proposal(str(sample(self.space, rng)), (), self.name)
        ranked = sorted(self._told, key=lambda s: (-max(score for _, score, _ in self._told[s]), s))
        structure = rng.choice(ranked[:_PROMISING])
        told = self._told[structure][-_HISTORY:]
        first = self._told[structure][0]
        best = max(told, key=lambda entry: entry[1])
        numbers = _suggest(first[0], told, rng.getrandbits(31))
        graph = self.space.finish(_join(parse(first[2]), numbers))
        return Proposal(str(graph), (self.space.finish(parse(best[2])).canonical_id,), self.name)


def _suggest(center: list[float], told: list[tuple[list[float], float, str]], seed: int) -> list[float]:
    space = {f"n{i}": FloatDistribution(1 / _FACTOR, _FACTOR, log=True) for i in range(len(center))}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=4, multivariate=False))
    for numbers, score, _ in told:
        ratios = {f"n{i}": min(max(n / c, 1 / _FACTOR), _FACTOR) for i, (n, c) in enumerate(zip(numbers, center, strict=True))}
        study.add_trial(create_trial(params=ratios, distributions=dict(space), value=score, state=TrialState.COMPLETE))
    trial = study.ask(dict(space))
    suggested = [_two_digits(c * trial.params[f"n{i}"]) for i, c in enumerate(center)]
    study.tell(trial, state=TrialState.FAIL)
    return suggested


def highest(value: Callable[[Mapping[str, float]], float], box: Mapping[str, tuple[float, float]], trials: int, seed: int) -> dict[str, float]:
    """The best of `trials` points of a box (bounds by name): 10 at random, then by a Gaussian process (which needs torch) over those before."""
    sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=10)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: value({name: trial.suggest_float(name, *bounds) for name, bounds in box.items()}), n_trials=trials)
    return {name: float(study.best_params[name]) for name in box}


def _two_digits(value: float) -> float:
    """Two significant digits: a formula that people can read."""
    return float(f"{value:.2g}") if math.isfinite(value) and value else 1.0


def _numeric_leaves(graph: Graph) -> list[Graph]:
    return [n for n in walk(graph) if n.op in ("constant", "parameter") and _start(n) != 0.0]


def _start(node: Graph) -> float:
    assert isinstance(node.value, (float, Parameter))
    return node.value if isinstance(node.value, float) else node.value.init


def _with_numbers(graph: Graph) -> Graph:
    """The graph itself, or with its input as `1 * x` where it holds no number to tune."""
    if _numeric_leaves(graph):
        return graph
    return canonical(replace(graph, {variable("x"): make("mul", constant(1.0), variable("x"))}))


def _split(graph: Graph) -> tuple[str, list[float]]:
    """The structure's text (signs of the numbers, then the graph without them), and the numbers in order of use."""
    leaves = _numeric_leaves(graph)
    numbers = [_start(n) for n in leaves]
    signs = "".join("-" if n < 0 else "+" for n in numbers)
    return f"{signs} {_skeleton(graph)}", numbers


def _skeleton(graph: Graph) -> str:
    """Prefix text of the graph without its numbers."""
    text: dict[Graph, str] = {}
    for node in walk(graph):
        if node.op in ("constant", "parameter"):
            text[node] = "#" if node.op == "constant" else f"#{node.value.kind}"  # type: ignore[union-attr]
        else:
            inside = ",".join(text[a] for a in node.args)
            text[node] = f"{node.op}({inside})" if node.args else str(node.value)
    return text[graph]


def _join(graph: Graph, numbers: list[float]) -> Graph:
    mapping: dict[Graph, Graph] = {}
    for leaf, number in zip(_numeric_leaves(graph), numbers, strict=True):
        if isinstance(leaf.value, Parameter):
            mapping[leaf] = parameter(leaf.value.name, leaf.value.kind, number)
        else:
            mapping[leaf] = constant(number)
    return canonical(replace(graph, mapping))
