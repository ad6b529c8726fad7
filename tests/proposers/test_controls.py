"""Controls: as many functions as the search, and nothing that the search learns from."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from evosearch.config import ConfigError, load
from evosearch.proposers import Outcome
from evosearch.proposers.portfolio import Control, Portfolio
from evosearch.proposers.random import RandomProposer
from evosearch.proposers.registry import make_portfolio
from evosearch.search.pick import Pick, best_controls, is_found, pick
from evosearch.search.scale import Scale
from evosearch.space.operators import OperatorSpace

SPACE = OperatorSpace(("add", "mul", "max", "tanh", "sin", "exp", "sigmoid"), 8, 1, True, 1, 0)


class Listener:
    """A proposer that keeps what it is told."""

    name = "listener"

    def __init__(self):
        self.heard = []

    def tell(self, outcome):
        self.heard.append(outcome.proposer)

    def ask(self, rng):
        return RandomProposer(SPACE).ask(rng)


def test_each_gets_as_many_as_all_proposers_together():
    portfolio = make_portfolio({"genetic": 3, "bayes": 1}, SPACE, {"random": 1, "tuned": 0.5})
    rng = random.Random(0)
    found = Counter(portfolio.ask(rng).proposer for _ in range(2000))
    assert set(found) == {"genetic", "bayes", "control:random", "control:tuned"}
    for name, share in (("genetic", 0.3), ("bayes", 0.1), ("control:random", 0.4), ("control:tuned", 0.2)):
        assert abs(found[name] - 2000 * share) < 4 * (2000 * share * (1 - share)) ** 0.5


def test_the_search_learns_nothing_from_a_control():
    listener = Listener()
    portfolio = Portfolio([(listener, 1.0)], [(Control(RandomProposer(SPACE)), 1.0)])
    for proposer in ("listener", "control:random", "baseline"):
        portfolio.tell(Outcome(0, "sin(x)", proposer, "ok", {"mean": 1.0}))
    assert listener.heard == ["listener", "baseline"]


def test_who_earns_more_is_asked_more():
    """Outcomes among the best tenth earn asks; a share of 0 would never come back, so that who fails is still asked now and then."""

    def asked(good):
        portfolio = make_portfolio({"random": 1, "genetic": 1, "aging": 1}, SPACE, by_earnings=True)
        rng, found = random.Random(0), Counter()
        for k in range(400):
            proposal = portfolio.ask(rng)
            found[proposal.proposer] += k >= 100
            mean = rng.random() + (proposal.proposer == good)
            portfolio.tell(Outcome(k, proposal.candidate, proposal.proposer, "ok", {"mean": mean, "worst": mean, "complexity": 0.0}))
        return found

    for good in ("random", "aging"):
        found = asked(good)
        assert found[good] > 2 * max(count for name, count in found.items() if name != good)
        assert len(found) == 3
    fixed = make_portfolio({"random": 1, "genetic": 1}, SPACE)
    for k in range(100):
        fixed.tell(Outcome(k, "sin(x)", "random", "ok", {"mean": float(k), "worst": 0.0, "complexity": 0.0}))
    rng = random.Random(1)
    assert 0.4 < sum(fixed.ask(rng).proposer == "random" for _ in range(400)) / 400 < 0.6


def test_a_control_is_no_find():
    def row(index, proposer, mean):
        objectives = {"mean": mean, "worst": mean, "complexity": 5.0, "saved_per_element": 1.0}
        return {"index": index, "proposer": proposer, "candidate": f"{index}", "status": "ok", "stage": "full", "objectives": objectives, "scores": {}}

    rows = [row(0, "baseline", 0.0), row(1, "control:random", 2.0), row(2, "genetic", 1.0), row(3, "control:random", 1.5), row(4, "control:tuned", 0.1)]
    assert [is_found(r) for r in rows] == [False, False, True, False, False]
    assert pick(rows, Scale({"full:a": 0.0}, {"full:a": 1.0}, {})).candidate == "2"
    assert {who: r["candidate"] for who, r in best_controls(rows).items()} == {"control:random": "1", "control:tuned": "4"}


def test_a_control_takes_no_find_off_the_front():
    def row(index, proposer, mean, worst, cost):
        objectives = {"mean": mean, "worst": worst, "complexity": cost, "saved_per_element": 1.0}
        return {"index": index, "proposer": proposer, "candidate": f"{index}", "status": "ok", "stage": "full", "objectives": objectives, "scores": {}}

    rows = [row(0, "baseline", 0.1, 0.1, 1.0), row(1, "genetic", 1.0, 0.5, 6.0), row(2, "genetic", 1.02, -2.0, 7.0)]
    scale = Scale({"full:a": 0.0}, {"full:a": 1.0}, {})
    assert pick([*rows, row(3, "control:random", 1.1, 0.6, 6.0)], scale) == pick(rows, scale) == Pick(1, "1", True)


def test_an_unknown_control_is_refused_and_tuned_is_for_activations():
    with pytest.raises(ConfigError, match="unknown control `randon`; did you mean `random`"):
        load("smoke.yaml", ["controls={randon: 1}"])
    with pytest.raises(ValueError, match="leave it out of controls"):
        make_portfolio({"random": 1}, replace(SPACE, slot="norm_act"), {"tuned": 1})
