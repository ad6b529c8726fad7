"""Restarts: a search that gains nothing for long begins anew, and only then."""

from __future__ import annotations

import random

from evosearch.proposers import Outcome, Proposal
from evosearch.proposers.portfolio import Portfolio
from evosearch.proposers.registry import make_portfolio
from evosearch.proposers.restarts import _FOUNDERS, _PATIENCE, Course, Restarting
from evosearch.space.grammar import GrammarSpace
from evosearch.space.operators import OperatorSpace

SPACE = OperatorSpace(("add", "mul", "max", "neg", "tanh", "sin"), 12, 2, True, 1, 0)


class Listener:
    name = "listener"

    def __init__(self):
        self.told = []

    def tell(self, outcome):
        self.told.append(outcome)

    def ask(self, rng):
        return Proposal("x", (), self.name)


def outcome(index, score, proposer="listener", status="ok"):
    return Outcome(index, "x", proposer, status, {"mean": score} if status == "ok" else {})


def lengths(scores):
    """After how many outcomes each listener was given up."""
    made = []
    restarting = Restarting(lambda: made.append(Listener()) or made[-1])
    for index, score in enumerate(scores):
        restarting.tell(outcome(index, score))
    return [len(listener.told) + 1 for listener in made[:-1]]


def test_what_gains_goes_on_and_what_does_not_begins_anew():
    assert lengths([float(k) for k in range(3000)]) == []
    assert lengths([0.0] * 1000) == [_FOUNDERS + _PATIENCE] * 3
    (length,) = lengths([float(min(k, 500)) for k in range(1000)])
    assert 470 + _PATIENCE < length <= 501 + _PATIENCE


def test_polish_is_no_gain():
    course = Course()
    for k in range(_FOUNDERS):
        course.tell(-float(k))
    course.tell(10.0)
    for _ in range(_PATIENCE):
        assert not course.is_over
        course.tell(course.best + 1e-4)
    assert course.is_over


def test_controls_and_what_was_not_measured_do_not_count():
    made = []
    restarting = Restarting(lambda: made.append(Listener()) or made[-1])
    for k in range(3 * _PATIENCE):
        restarting.tell(outcome(k, 0.0, "control:random"))
        restarting.tell(outcome(k, 0.0, status="nonfinite"))
    assert len(made) == 1
    assert len(made[0].told) == 6 * _PATIENCE


def test_a_search_forgets_its_parents_and_a_finite_space_has_no_restarts():
    portfolio = make_portfolio({"genetic": 1}, SPACE)
    assert isinstance(portfolio, Restarting)
    rng = random.Random(0)
    for k in range(_FOUNDERS + _PATIENCE):
        text = str(SPACE.sample(rng))
        portfolio.tell(Outcome(k, text, "genetic", "ok", {"mean": 0.0, "worst": 0.0, "complexity": 0.0}))
        population = portfolio.proposer.members[0].population
        assert population or k == _FOUNDERS + _PATIENCE - 1
    assert not population
    assert isinstance(make_portfolio({"genetic": 1}, GrammarSpace({"formula": ["{u} + {u}"], "u": ["x", "tanh(x)"]})), Portfolio)
