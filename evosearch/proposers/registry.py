"""The proposers by name: one line adds an algorithm. Each is imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from evosearch.proposers import Proposer
from evosearch.space import SearchSpace
from evosearch.space.trees import is_finite

if TYPE_CHECKING:
    from evosearch.proposers.portfolio import Control

PROPOSERS = {
    "random": "evosearch.proposers.random:RandomProposer",
    "enumerate": "evosearch.proposers.enumerate:EnumerateProposer",
    "genetic": "evosearch.proposers.genetic:GeneticProposer",
    "aging": "evosearch.proposers.aging:AgingProposer",
    "islands": "evosearch.proposers.islands:IslandsProposer",
    "late-acceptance": "evosearch.proposers.late_acceptance:LateAcceptanceProposer",
    "bayes": "evosearch.proposers.bayes:BayesProposer",
    "bayes-nsga2": "evosearch.proposers.bayes:NsgaProposer",
    "bayes-gp": "evosearch.proposers.bayes:GaussianProposer",
    "bayes-cmaes": "evosearch.proposers.bayes:CmaProposer",
    "surrogate": "evosearch.proposers.surrogate:SurrogateProposer",
}

# What a search is measured against, in the same run: they learn from no result.
CONTROLS = {
    "random": "evosearch.proposers.random:RandomProposer",
    "tuned": "evosearch.proposers.tuned:TunedProposer",
}


def make_proposer(name: str, space: SearchSpace, goals: Sequence[str] | None = None) -> Proposer:
    """The proposer of that name. Raises ValueError with the nearest name.

    One that selects by several objectives takes the names of those beside the mean; without `goals` it has its own.
    """
    if name not in PROPOSERS:
        close = difflib.get_close_matches(name, PROPOSERS, n=1)
        raise ValueError(f"unknown proposer `{name}`; there are {', '.join(PROPOSERS)}" + (f"; did you mean `{close[0]}`?" if close else ""))
    return _load(PROPOSERS[name], space, goals)


def _load(place: str, space: SearchSpace, goals: Sequence[str] | None = None) -> Proposer:
    module, _, attribute = place.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    chosen = {"goals": tuple(goals)} if goals is not None and "goals" in inspect.signature(kind).parameters else {}
    proposer: Proposer = kind(space, **chosen)
    return proposer


def make_portfolio(
    shares: Mapping[str, float],
    space: SearchSpace,
    controls: Mapping[str, float] = MappingProxyType({}),
    goals: Sequence[str] | None = None,
    by_earnings: bool = False,
) -> Proposer:
    """Proposers that share the asks, and controls beside them, each a multiple of all proposers together; in a space without end with restarts."""
    from evosearch.proposers.portfolio import Portfolio
    from evosearch.proposers.restarts import Restarting

    total = sum(shares.values())

    def make() -> Proposer:
        members = [(make_proposer(name, space, goals), share / total) for name, share in shares.items() if share > 0]
        return Portfolio(members, _controls(controls, space), by_earnings)

    return make() if is_finite(space) else Restarting(make)


def make_tuner(survivors: int, sampler: str, space: SearchSpace, controls: Mapping[str, float] = MappingProxyType({})) -> Proposer:
    """What takes over for the last functions of a search: the numbers of its best structures, and the controls as before. Raises ValueError."""
    from evosearch.proposers.portfolio import Portfolio
    from evosearch.proposers.tuning import TuningProposer

    tuner = TuningProposer(space, survivors, sampler)
    return Portfolio([(tuner, 1.0)], _controls(controls, space))


def _controls(shares: Mapping[str, float], space: SearchSpace) -> list[tuple[Control, float]]:
    from evosearch.proposers.portfolio import Control

    return [(Control(_load(CONTROLS[name], space)), share) for name, share in shares.items() if share > 0]
