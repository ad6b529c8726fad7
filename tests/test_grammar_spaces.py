"""Grammar and network spaces: what they say, that trees and candidates go both ways, what is refused."""

from __future__ import annotations

import random

import pytest

from evosearch.config import ConfigError, load
from evosearch.language.candidate import parse_candidate
from evosearch.proposers import Outcome
from evosearch.proposers.registry import PROPOSERS, make_proposer
from evosearch.sections import SpaceSection
from evosearch.space.grammar import GrammarSpace
from evosearch.space.network import NetworkSpace
from evosearch.space.operators import OperatorSpace
from evosearch.space.trees import count, grow, heights, is_finite, smallest_first

SCHEMA = GrammarSpace({"formula": ["{unary} + {unary}", "{unary} - {unary}", "max({unary}, {unary})"], "unary": ["x", "-x", "1", "tanh(x)", "square(x)"]})
RECURSIVE = GrammarSpace(
    {"sum": ["{term} + {sum}", "{term}"], "term": ["{number} * {power}", "a * {power} where a: channel = 1"], "power": ["x", "x ** 2", "tanh({number} * x)"]},
    max_nodes=30,
)
OPERATORS = OperatorSpace(("add", "sub", "mul", "tanh", "sin", "sigmoid", "gaussian"), 8, 1, True, 1, 1)
NETWORK = NetworkSpace({"act0": OPERATORS, "act1": OPERATORS, "gate0": SCHEMA}, {"depth": (1, 2, 3), "norm": ("batch", "none"), "rate": (0.5, 1.0)})
SPACES = {"schema": SCHEMA, "recursive": RECURSIVE, "operators": OPERATORS, "network": NETWORK}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_candidate_is_the_one_that_its_tree_builds(space):
    for seed in range(150):
        candidate = space.sample(random.Random(seed))
        assert space.contains(candidate)
        assert str(parse_candidate(str(candidate))) == str(candidate)
        tree = space.derive(candidate)
        assert tree is not None
        assert str(space.build(tree)) == str(candidate)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_grown_tree_builds_a_member_or_nothing(space):
    built = [space.build(grow(space.productions, space.root, random.Random(seed), 5, heights(space.productions))) for seed in range(150)]
    assert any(built)
    assert all(space.contains(candidate) for candidate in built if candidate is not None)


def size(tree):
    return 1 + sum(size(part) for part in tree[1])


def test_a_schema_is_counted_and_gone_through_from_the_smallest():
    assert (count(SCHEMA), is_finite(SCHEMA), is_finite(RECURSIVE), is_finite(NETWORK)) == (75, True, False, False)
    trees = list(smallest_first(SCHEMA.productions, SCHEMA.root, 10))
    assert len(set(trees)) == 75
    texts = {str(candidate) for tree in trees if (candidate := SCHEMA.build(tree)) is not None}
    assert {"tanh(x) + x", "x - 1", "max(-x, x)"} <= texts
    assert not {"1 + 1", "max(1, 1)"} & texts  # no input
    sizes = [size(tree) for _, tree in zip(range(400), smallest_first(RECURSIVE.productions, RECURSIVE.root, 8), strict=False)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("text", ["tanh(x) * x", "sin(x) + x", "tanh(x) + x + 1", "act0 := tanh(x)"])
def test_what_the_grammar_does_not_say_is_not_in_it(text):
    assert not SCHEMA.contains(parse_candidate(text))


def test_a_commutative_form_is_found_both_ways_round():
    assert all(SCHEMA.contains(parse_candidate(text)) for text in ("tanh(x) + square(x)", "square(x) + tanh(x)", "x - tanh(x)", "x - 1"))


def test_slots_and_choices_must_be_those_of_the_network():
    good = str(NETWORK.sample(random.Random(0)))
    assert NETWORK.contains(parse_candidate(good))
    for old, new in (("norm := 'batch'", "norm := 'group'"), ("norm := 'none'", "norm := 'group'"), ("depth", "width"), ("act0 :=", "act7 :=")):
        assert not NETWORK.contains(parse_candidate(good.replace(old, new))) or old not in good


@pytest.mark.parametrize("name", PROPOSERS)
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_proposer_stays_in_every_space(name, space):
    if name == "bayes-cmaes" and is_finite(space):
        with pytest.raises(ValueError, match="has none to tune"):
            make_proposer(name, space)
        return
    proposer = make_proposer(name, space)
    seen = set()
    for k in range(25 if name == "bayes-gp" else 60):
        proposal = proposer.ask(random.Random(k))
        assert space.contains(parse_candidate(proposal.candidate)), proposal
        seen.add(proposal.candidate)
        score = -float(len(proposal.candidate))
        proposer.tell(Outcome(k, proposal.candidate, name, "ok", {"mean": score, "worst": score, "complexity": 0.0}))
    assert len(seen) > (8 if name == "bayes-gp" else 15)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "at least one rule"),
        ({"f": ["{g} + x"]}, "no rule `g`"),
        ({"f": ["{f} + x"]}, "never ends"),
        ({"f": ["tanh(x"]}, "the rule `f` has the form `tanh\\(x`"),
        ({"f": ["{u} + z"], "u": ["x"]}, "has the form"),
    ],
)
def test_a_grammar_that_makes_no_sense(rules, message):
    with pytest.raises(ValueError, match=message):
        GrammarSpace(rules)


SECTION = """space:
  {}
judging:
  quality: {{pairs: [digits/mlp], steps: 5, rates: [1]}}
  full: {{pairs: [digits/mlp], steps: 6, rates: [1]}}
  final: {{pairs: [digits/mlp], steps: 5, rates: [1]}}
baselines: [identity, relu]
proposers: {{random: 1}}
budget: {{evaluations: 5}}
"""


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{operators: [add, tanh], max_nodes: 8, layers: [relu]}", "operators and layers"),
        ("{layers: [relu], constants: false}", "`constants` goes with operators"),
        ("{slot: act}", "a space has operators, a grammar or layers"),
        ("{slots: 2}", "goes with `formula:`"),
        ("{slots: {act0: {max_nodes: 8}}}", "every slot has"),
        ("{layers: [relu], choices: {depth: [1]}}", "a space has operators, a grammar or layers"),
        ("{grammar: {f: ['{g}']}}", "no rule `g`"),
        ("{grammer: {f: [x]}}", "did you mean `grammar`"),
    ],
)
def test_a_space_section_that_makes_no_sense(tmp_path, section, message):
    file = tmp_path / "space.yaml"
    file.write_text(SECTION.format(section).replace("space:\n  ", "space: "))
    with pytest.raises(ConfigError, match=message):
        load(str(file))


def test_a_space_section_makes_each_kind():
    sections = (
        {"grammar": {"f": ["{u} + {u}"], "u": ["x", "tanh(x)"]}},
        {"layers": ["relu", "gelu"]},
        {"slots": 3, "formula": {"layers": ["relu", "gelu"]}, "choices": {"depth": [1, 2]}},
        {"slots": {"act0": {"layers": ["relu"]}, "act1": {"operators": ["add", "tanh"], "max_nodes": 5}}},
        {"choices": {"depth": [1, 2]}},
    )
    found = [SpaceSection.model_validate(section).space() for section in sections]
    assert [count(space) for space in found] == [4, 2, 16, float("inf"), 2]
    assert len({str(found[2].sample(random.Random(k))) for k in range(100)}) == 16
