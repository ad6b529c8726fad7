"""The surrogate: pure in what it was told, never outside its space, and better than chance where like scores alike."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from evosearch.language.candidate import parse_candidate
from evosearch.language.formula import parse
from evosearch.meaning.numeric import evaluate
from evosearch.proposers import Outcome
from evosearch.proposers.surrogate import SurrogateProposer
from evosearch.space.grammar import GrammarSpace
from evosearch.space.network import NetworkSpace
from evosearch.space.operators import OperatorSpace

UNARY = ("x", "abs(x)", "relu(x)", "tanh(x)", "sin(x)", "sigmoid(x)", "erf(x)", "elu(x)", "square(x)", "exp(x)", "cosh(x)", "-x", "1 / x")
FINITE = GrammarSpace({"formula": ["{unary} + {unary}", "{unary} * {unary}", "{unary} / {unary}", "max({unary}, {unary})"], "unary": UNARY})
NUMBERS = GrammarSpace({"formula": ["{number} * {unary} + {unary}", "max({unary}, {number})"], "unary": UNARY[:7]})
FREE = OperatorSpace(("add", "sub", "mul", "div", "max", "neg", "tanh", "sin", "exp", "sigmoid"), 10, 1, True, 1, 1)
NORM = OperatorSpace(
    ("add", "mul", "div", "max", "sigmoid", "square"), 10, 0, True, 0, 1, graph_nodes=4, statistics=("mean", "std"), axes=("batch", "layer"), affine=True,
    slot="norm_act",
)  # fmt: skip
GATE = OperatorSpace(("add", "mul", "max", "sigmoid", "tanh"), 8, 1, slot="gate")
NETWORK = NetworkSpace({"act0": FINITE, "act1": FREE}, {"depth": (1, 2, 3), "block": ("conv", "separable")})
CHOICES = NetworkSpace({}, {f"edge{i}": ("none", "skip", "conv", "pool") for i in range(4)})
SPACES = {"finite": FINITE, "numbers": NUMBERS, "free": FREE, "norm": NORM, "gate": GATE, "network": NETWORK, "choices": CHOICES}

POINTS = np.linspace(-3.01, 3.02, 101)
WEIGHT = np.exp(-(POINTS**2) / 2)


def likeness(text):
    """How near a function is to a bump that the space cannot say exactly; None where it is not finite."""
    values = evaluate(parse_candidate(text).graph, {"x": POINTS})
    if not np.isfinite(values).all():
        return None
    return -float((WEIGHT * np.minimum(np.abs(values - POINTS * np.exp(-(POINTS**2) / 3)), 3)).sum() / WEIGHT.sum())


def outcome(index, text, score):
    return Outcome(index, text, "anyone", "ok" if score is not None else "nonfinite", {} if score is None else {"mean": score})


def story(space, count):
    rng = random.Random(5)
    texts = [str(space.sample(rng)) for _ in range(count)]
    return [outcome(k, text, None if k % 4 == 3 else rng.gauss(0, 1)) for k, text in enumerate(texts)]


@pytest.mark.parametrize("name", SPACES)
def test_proposals_lie_in_the_space_and_are_new(name):
    space = SPACES[name]
    proposer = SurrogateProposer(space)
    asked = set()
    for k in range(15):
        proposal = proposer.ask(random.Random(k))
        candidate = parse_candidate(proposal.candidate)
        assert space.contains(candidate)
        assert str(candidate) == proposal.candidate
        assert proposal.candidate not in asked
        assert proposal.proposer == "surrogate"
        asked.add(proposal.candidate)
        proposer.tell(outcome(k, proposal.candidate, None if k % 3 == 0 else float(k % 7)))


@pytest.mark.parametrize("name", SPACES)
def test_an_ask_knows_what_was_told_and_nothing_else(name):
    space, told = SPACES[name], story(SPACES[name], 18)
    asking = SurrogateProposer(space)
    for split in (0, 9):
        for k, one in enumerate(told[split : split + 9]):
            asking.ask(random.Random(1000 + k))  # asks leave nothing behind
            asking.tell(one)
        replayed = SurrogateProposer(space)
        for one in told[: split + 9]:
            replayed.tell(one)
        for k in range(3):
            assert asking.ask(random.Random(k)) == replayed.ask(random.Random(k))
    assert len({asking.ask(random.Random(k)).candidate for k in range(12)}) > 6  # asks that know the same do not ask the same


def search(seed, informed):
    proposer, rng, asked = SurrogateProposer(FINITE), random.Random(seed), set()
    while True:
        text = proposer.ask(random.Random(rng.getrandbits(60))).candidate if informed else str(FINITE.sample(rng))
        score = likeness(text)
        if text not in asked:
            asked.add(text)
            if score is not None and score > BEST:
                return len(asked)
            if informed:
                proposer.tell(outcome(len(asked), text, score))


PAIRS = [FINITE.build((way.name, ((a, ()), (b, ())))) for way in FINITE.productions["formula"] for a in UNARY for b in UNARY]
ALL = sorted({text: score for text in map(str, filter(None, PAIRS)) if (score := likeness(text)) is not None}.values())
BEST = ALL[-max(2, len(ALL) // 100)]


def test_it_finds_the_best_sooner_than_chance():
    informed = [search(seed, True) for seed in range(4)]
    chance = [search(seed, False) for seed in range(40)]
    assert np.median(informed) < 0.4 * np.median(chance), (informed, np.median(chance))


def test_equal_functions_are_proposed_once():
    proposer = SurrogateProposer(FINITE)
    proposer.tell(outcome(0, "tanh(x) + x", 9.0))
    texts = {proposer.ask(random.Random(k)).candidate for k in range(60)}
    proposer.tell(outcome(1, "max(x, sin(x))", 9.0))
    grid = {"x": POINTS}
    for text in texts:
        assert np.abs(evaluate(parse(text), grid) - evaluate(parse("x + tanh(x)"), grid)).max() > 1e-6, text


def test_what_breaks_is_avoided_and_what_came_further_ranks_higher():
    proposer = SurrogateProposer(FREE)
    for one in story(FREE, 40):
        steep = evaluate(parse_candidate(one.candidate).graph, {"x": POINTS})
        breaks = not np.isfinite(steep).all() or np.abs(steep).max() > 3
        proposer.tell(outcome(one.index, one.candidate, None if breaks else 1.0))
    sizes = [np.abs(evaluate(parse_candidate(proposer.ask(random.Random(k)).candidate).graph, {"x": POINTS})).max() for k in range(30)]
    assert sum(size > 3 for size in sizes) < 10
    stopped = Outcome(90, "sin(x) + tanh(x)", "anyone", "ok", {"quick_mean": 2.0})
    for one in (stopped, outcome(91, "max(x, sin(x))", None), outcome(92, "max(x, tanh(x))", -2.5)):
        proposer.tell(one)
    order = [str(told.candidate) for told in proposer._best]
    measured, stopped_early, broken = (order.index(str(parse(text))) for text in ("max(x, tanh(x))", "sin(x) + tanh(x)", "max(x, sin(x))"))
    assert measured < stopped_early < broken


def test_a_verdict_of_the_driver_is_no_score_but_not_asked_again():
    proposer = SurrogateProposer(CHOICES)
    everything = {str(CHOICES.sample(random.Random(k))) for k in range(4000)}  # all 256
    left = sorted(everything)[7]
    for text in everything - {left}:
        proposer.tell(Outcome(-1, text, "anyone", "duplicate", {}))
    assert not proposer._best
    assert {proposer.ask(random.Random(k)).candidate for k in range(5)} == {left}


def test_a_long_history_costs_little():
    proposer = SurrogateProposer(FREE)
    for one in story(FREE, 600):
        proposer.tell(one)
    seconds = []
    for k in range(9):
        start = time.process_time()
        proposal = proposer.ask(random.Random(k))
        seconds.append(time.process_time() - start)
        proposer.tell(outcome(600 + k, proposal.candidate, 0.1 * k))
    assert len(proposer._process().points) <= 256
    assert np.median(seconds) < 1.0  # about 0.025 on a quiet core; it would grow with the cube of the history
