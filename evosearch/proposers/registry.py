"""The proposers by name: one line adds an algorithm. Each is imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

from evosearch.proposers import Proposer
from evosearch.space import SearchSpace

PROPOSERS = {
    "random": "evosearch.proposers.random:RandomProposer",
    "genetic": "evosearch.proposers.genetic:GeneticProposer",
    "bayes": "evosearch.proposers.bayes:BayesProposer",
    "tuned": "evosearch.proposers.tuned:TunedProposer",
}


def make_proposer(name: str, space: SearchSpace) -> Proposer:
    """The proposer of that name. Raises ValueError with the nearest name."""
    if name not in PROPOSERS:
        close = difflib.get_close_matches(name, PROPOSERS, n=1)
        raise ValueError(f"unknown proposer `{name}`; there are {', '.join(PROPOSERS)}" + (f"; did you mean `{close[0]}`?" if close else ""))
    module, _, attribute = PROPOSERS[name].partition(":")
    proposer: Proposer = getattr(importlib.import_module(module), attribute)(space)
    return proposer


def make_portfolio(shares: Mapping[str, float], space: SearchSpace) -> Proposer:
    """One proposer, or several that share the asks by fixed weights."""
    from evosearch.proposers.portfolio import Portfolio

    return Portfolio([(make_proposer(name, space), share) for name, share in shares.items() if share > 0])
