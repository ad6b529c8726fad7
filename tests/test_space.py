"""The search space: EvoNorms' graphs, the affine part, what lies in a space and what does not."""

from __future__ import annotations

import random
from functools import cache

import pytest

from evosearch.config import load
from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.formula import parse
from evosearch.language.graph import Axes, canonical, parameters, reaches, walk, with_affine, without_affine
from evosearch.meaning.screen import Screen
from evosearch.proposers import Outcome
from evosearch.proposers.registry import PROPOSERS, make_proposer
from evosearch.run import space_of
from evosearch.space.operators import OperatorSpace


@cache
def evonorm():
    return space_of(load("evonorm.yaml"))


@cache
def samples():
    rng = random.Random(0)
    return [evonorm().sample(rng).graph for _ in range(300)]


def test_samples_lie_in_the_space_and_say_all_of_it():
    assert all(evonorm().contains(Candidate({"act": graph})) for graph in samples())
    seen = {(n.op, n.value.axes) for g in samples() for n in walk(g) if isinstance(n.value, Axes)}
    assert seen == set(evonorm().moments.values())
    assert {n.op for g in samples() for n in walk(g)} >= set(evonorm().operators)
    assert all(reaches(g) for g in samples())
    assert max(len(parameters(g)) for g in samples()) == 4


def test_every_sample_ends_with_the_affine_part():
    for graph in samples():
        inner = without_affine(graph)
        assert inner is not None
        assert canonical(with_affine(inner)) is graph


@pytest.mark.parametrize(
    "text",
    [
        "x / max(std(x, batch), v * x + std(x, instance)) where v: channel = 1", "x * sigmoid(v * x) / std(x, group, groups=8) where v: channel = 1",
        "max((x - mean(x, batch)) / std(x, batch), 0)", "x / max(std(x, batch), (x + 1) * rms(x, instance)) where v: channel = 1",
    ],
)  # fmt: skip
def test_the_published_layers_lie_in_the_space(text):
    text = text.replace("sub", "add").replace("(x - mean(x, batch))", "(x + -mean(x, batch))").replace("(x + 1)", "(x + v)")
    assert evonorm().contains(Candidate({"act": evonorm().finish(parse(text))}))


@pytest.mark.parametrize(
    "text",
    ["x / std(x, channel)", "x / var(x, batch)", "sin(x)", "mean(x, batch)", "x / std(x, group)", "a * x where a: layer = 1", "x * u * v * w where "
     "u: channel = 1, v: channel = 1, w: channel = 1"],
)  # fmt: skip
def test_what_the_space_does_not_say_is_not_in_it(text):
    assert not evonorm().contains(Candidate({"act": evonorm().finish(parse(text))}))
    assert not evonorm().contains(parse_candidate("x / std(x, batch)"))  # lacks the affine part


@pytest.mark.parametrize("name", PROPOSERS)
def test_every_proposer_stays_in_the_space(name):
    proposer, rng = make_proposer(name, evonorm()), random.Random(1)
    screen = Screen(evonorm().max_nodes, evonorm().max_parameters)
    proposed = set()
    for k in range(80):
        proposal = proposer.ask(rng)
        proposed.add(proposal.candidate)
        graph = parse(proposal.candidate)
        assert evonorm().contains(parse_candidate(proposal.candidate)) or name == "bayes"  # whose numbers are free
        assert without_affine(graph) is not None
        objectives = {"mean": -float(graph.size), "worst": -float(graph.size), "complexity": 0.0}
        proposer.tell(Outcome(k, proposal.candidate, name, "ok" if screen.check(proposal.candidate) is None else "rejected", objectives))
    assert len(proposed) > 30


@pytest.mark.parametrize(("fields", "message"), [({"statistics": ("std",)}, "go together"), ({"operators": ("tanh",)}, "unary and one binary")])
def test_a_space_that_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        OperatorSpace(**{"operators": ("add", "tanh"), "max_nodes": 8, **fields})
