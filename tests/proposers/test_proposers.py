"""Laws of the proposers: every proposal lies in its space; the same seed gives the same proposals in any process."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from evosearch.language.candidate import parse_candidate
from evosearch.language.formula import parse
from evosearch.meaning.numeric import evaluate
from evosearch.proposers import Outcome
from evosearch.proposers.registry import PROPOSERS, make_portfolio, make_proposer
from evosearch.proposers.selection import front, parent_of, survivors
from evosearch.space.operators import OperatorSpace

SPACE = OperatorSpace(("add", "sub", "mul", "div", "max", "min", "neg", "tanh", "sin", "exp", "sigmoid", "gaussian"), 8, 1, True, 1, 0)


def proposals(name, count=60):
    proposer, count = make_proposer(name, SPACE), min(count, 20 if name == "bayes-gp" else count)  # a quarter of a second an ask
    texts = []
    for k in range(count):
        proposal = proposer.ask(random.Random(k))
        texts.append(proposal.candidate)
        score = int(hashlib.sha256(proposal.candidate.encode()).hexdigest(), 16) % 1000 / 1000
        proposer.tell(Outcome(k, proposal.candidate, name, "ok", {"mean": score, "worst": score - 0.1, "complexity": -float(k % 7), "saved_per_element": -1.0}))
    return texts


@pytest.mark.parametrize("name", PROPOSERS)
def test_every_proposal_lies_in_its_space(name):
    for text in proposals(name):
        graph = parse(text)
        assert SPACE.contains(parse_candidate(text))
        assert str(graph) == text


@pytest.mark.parametrize("name", PROPOSERS)
def test_the_same_in_another_process_with_another_hash_seed(name):
    code = "import json, csv, email\nfrom tests.proposers.test_proposers import proposals, sys\nsys.stdout.write('\\n'.join(proposals(%r)))" % name  # noqa: UP031
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.getcwd()}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == proposals(name)


def test_global_randomness_is_neither_used_nor_changed():
    random.seed(1)
    before = random.getstate()
    for name in PROPOSERS:
        proposals(name, 30)
    assert random.getstate() == before


def test_who_stays_is_said_by_the_goals():
    def survivors(goals):
        proposer = make_proposer("genetic", SPACE, goals)
        for k in range(200):
            text = str(SPACE.sample(random.Random(k)))
            proposer.tell(Outcome(k, text, "random", "ok", {"mean": 0.0, "worst": -float(k), "complexity": 0.0, "noise": float(k)}))
        return {p.candidate for p in proposer.population}

    early, late = ([str(SPACE.sample(random.Random(k))) for k in ks] for ks in (range(5), range(195, 200)))
    assert set(early) <= survivors(None)
    assert set(late) <= survivors(["noise"])
    assert not set(early) & survivors(["noise"])
    proposer = make_proposer("genetic", SPACE, ["noise"])
    proposer.tell(Outcome(0, "sin(x) + x", "random", "ok", {"mean": 9.0, "worst": 9.0, "complexity": 0.0}))
    assert proposer.population == []  # it was not measured


def test_scores_closer_than_the_noise_are_equal_and_the_simpler_wins():
    told = [("sin(x) + x", 1.04, 5.0), ("tanh(x) + x", 1.01, 4.0), ("sin(x) * tanh(x)", 0.5, 3.0)]

    def undominated(noise):
        parents = [
            parent_of(Outcome(k, text, "random", "ok", {"mean": m, "complexity": -c}, noise), SPACE, ("mean", "complexity"))
            for k, (text, m, c) in enumerate(told)
        ]
        return {p.candidate for p in front(parents)}

    assert len(undominated(0.0)) == 3
    assert undominated(0.1) == {str(parse(text)) for text, _, _ in told[1:]}


def test_four_objectives_are_selected_by_nsga3_which_leaves_numpy_alone():
    names = ("mean", "a", "b", "c")
    rng, before = random.Random(0), np.random.get_state()[1].tolist()
    population = []
    for k in range(80):
        outcome = Outcome(k, str(SPACE.sample(rng)), "random", "ok", {name: rng.random() for name in names})
        population.append(parent_of(outcome, SPACE, names))
    kept = survivors(population, 48)
    assert len(kept) == 48
    assert {p.candidate for p in kept} == {p.candidate for p in survivors(population, 48)}
    assert {p.candidate for p in front(population)[:48]} & {p.candidate for p in kept}
    assert np.random.get_state()[1].tolist() == before


def test_of_parents_that_compute_nearly_the_same_the_best_stays():
    proposer = make_proposer("genetic", SPACE)
    told = [("sin(x) + x", 1.0), ("sin(1.02 * x) + x", 2.0), ("sin(x) + 0.98 * x", 1.5), ("tanh(x) * x", 0.0)]
    for k, (text, mean) in enumerate(told):
        proposer.tell(Outcome(k, text, "random", "ok", {"mean": mean, "worst": mean, "complexity": 0.0}))
    assert [parent.mean for parent in proposer.population] == [2.0, 0.0]


def test_a_failed_candidate_is_no_parent():
    proposer = make_proposer("genetic", SPACE)
    proposer.tell(Outcome(0, "sin(x) + x", "random", "rejected", {"mean": 9.0, "worst": 9.0, "complexity": 0.0}))
    assert proposer.population == []


@pytest.mark.parametrize("planted", ["x * sigmoid(x)", "tanh(x) * sin(2 * x)", "max(x, sin(x)) - 0.25"])
def test_selection_draws_proposals_towards_a_planted_target(planted):
    """The later half of what genetic proposes is nearer to the target than what random draws; no claim about finding it."""
    grid = np.linspace(-4, 4, 81)
    target = evaluate(parse(planted), {"x": grid})

    def later_gaps(name):
        found = []
        for seed in range(3):
            proposer, gaps = make_proposer(name, SPACE), []
            for k in range(300):
                proposal = proposer.ask(random.Random(1000 * seed + k))
                gap = float(np.abs(evaluate(parse(proposal.candidate), {"x": grid}) - target).mean())
                gaps.append(gap if np.isfinite(gap) else 100.0)
                proposer.tell(Outcome(k, proposal.candidate, name, "ok", {"mean": -gaps[-1], "worst": -gaps[-1], "complexity": 0.0}))
            found.append(np.median(gaps[150:]))
        return np.median(found)

    assert later_gaps("genetic") < 0.8 * later_gaps("random")


def test_deap_and_optuna_do_the_work(monkeypatch):
    from deap import gp, tools

    from evosearch.proposers import bayes

    called = set()
    samplers = [(bayes.optuna.samplers, name) for name in ("TPESampler", "NSGAIISampler", "GPSampler", "CmaEsSampler")]
    for owner, name in [(gp, "cxOnePoint"), (tools, "selNSGA2"), *samplers]:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, _o=original, _n=name, **k: (called.add(_n), _o(*a, **k))[1])
    proposals("genetic", 500)
    for name in ("bayes", "bayes-nsga2", "bayes-gp", "bayes-cmaes"):
        proposals(name, 20)
    assert called == {"cxOnePoint", "selNSGA2", *(name for _, name in samplers)}


def test_a_space_of_unknown_operators_is_refused():
    with pytest.raises(ValueError, match="operators of the table"):
        OperatorSpace(("add", "sinn"), 8)
    with pytest.raises(ValueError, match="did you mean `genetic`"):
        make_portfolio({"genetics": 1.0}, SPACE)


def test_samples_differ():
    assert len({str(SPACE.sample(random.Random(k))) for k in range(100)}) > 80
