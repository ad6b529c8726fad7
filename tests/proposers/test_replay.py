"""The law of the seam: an ask is a function of what was told and of its own randomness, for every proposer."""

from __future__ import annotations

import hashlib
import random

import pytest

from evosearch.proposers import SCREENED, Outcome
from evosearch.proposers.registry import PROPOSERS, make_portfolio, make_proposer
from evosearch.space.grammar import GrammarSpace
from evosearch.space.network import NetworkSpace
from evosearch.space.operators import OperatorSpace
from evosearch.space.trees import is_finite

OPERATORS = OperatorSpace(("add", "sub", "mul", "max", "neg", "tanh", "sin", "sigmoid", "gaussian"), 8, 1, True, 1, 0)
SCHEMA = GrammarSpace({"formula": ["{u} + {u}", "{u} * {u}", "max({u}, {u})"], "u": ["x", "-x", "tanh(x)", "sin(x)", "square(x)", "exp(x)", "abs(x)"]})
NETWORK = NetworkSpace({"act0": OPERATORS, "act1": SCHEMA}, {"depth": (1, 2, 3), "norm": ("batch", "none")})
SPACES = {"operators": OPERATORS, "schema": SCHEMA, "network": NETWORK}
WINDOW, SPLITS = 6, 20


def asks(name):
    return 30 if name == "bayes-gp" else 80  # a Gaussian process of Optuna's takes a quarter of a second an ask


def fresh(name, space):
    if name == "portfolio":
        return make_portfolio({"genetic": 2, "bayes": 1, "aging": 1}, space, {"random": 0.3}, by_earnings=True)
    return make_proposer(name, space)


def outcome(index, proposal):
    """What a worker would say: scores and failures are a hash of the candidate."""
    number = int(hashlib.sha256(proposal.candidate.encode()).hexdigest(), 16) % 1000 / 100
    objectives = {"mean": number, "worst": number - 1, "complexity": -float(len(proposal.candidate))}
    return Outcome(index, proposal.candidate, proposal.proposer, "rejected" if number < 2 else "ok", {} if number < 2 else objectives)


def history(name, space):
    """Each ask's first proposal, and all that had been told before it, in order."""
    proposer, told, asked, pending = fresh(name, space), [], [], {}
    seen = set()

    def tell(one):
        told.append(one)
        proposer.tell(one)

    for k in range(asks(name)):
        if k - WINDOW in pending:
            tell(pending.pop(k - WINDOW))
        rng = random.Random(f"replay/{k}")
        proposal = proposer.ask(rng)
        asked.append((proposal, len(told)))
        for _ in range(20):  # as the study does with what the screen turns away
            if proposal.candidate not in seen:
                break
            tell(Outcome(SCREENED, proposal.candidate, proposal.proposer, "duplicate", {}))
            proposal = proposer.ask(rng)
        seen.add(proposal.candidate)
        pending[k] = outcome(k, proposal)
    return asked, told


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("name", [*(pytest.param(n, marks=pytest.mark.slow) if n == "bayes-gp" else n for n in PROPOSERS), "portfolio"])
def test_a_proposer_that_was_told_the_same_proposes_the_same(name, space):
    if name == "bayes-cmaes" and is_finite(space):
        pytest.skip("CMA-ES tunes numbers, and this space has none")
    asked, told = history(name, space)
    points = sorted(random.Random(f"{name}/splits").sample(range(asks(name)), SPLITS))
    resumed, heard = fresh(name, space), 0
    for k in points:
        proposal, known = asked[k]
        for one in told[heard:known]:
            resumed.tell(one)
        heard = known
        assert resumed.ask(random.Random(f"replay/{k}")) == proposal, f"ask {k}"
    cold = fresh(name, space)
    for one in told[: asked[points[-1]][1]]:
        cold.tell(one)
    assert cold.ask(random.Random(f"replay/{points[-1]}")) == asked[points[-1]][0]
