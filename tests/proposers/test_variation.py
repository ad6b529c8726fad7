"""Variation: children lie in the space, near their parent, and reach what normalization and self-gating want in one step."""

from __future__ import annotations

import random
import re

import pytest

from evosearch.language.candidate import Candidate
from evosearch.language.formula import parse
from evosearch.proposers.variation import Variation
from evosearch.space.grammar import GrammarSpace
from evosearch.space.operators import OperatorSpace

ACTIVATIONS = OperatorSpace(("add", "mul", "max", "neg", "tanh", "sin", "sigmoid"), 12, 2, True, 1, 0)
NORMALIZATIONS = OperatorSpace(("add", "mul", "div", "neg", "sigmoid"), 32, graph_nodes=8, statistics=("mean", "std", "rms"), axes=("batch", "instance"))
SCHEMA = GrammarSpace({"formula": ["{unary} * {unary}", "{number} * {unary}"], "unary": ["x", "sin(x)", "tanh(x)", "relu(x)"]})


def tree(space, text):
    found = space.derive(Candidate({"act": space.finish(parse(text)) if isinstance(space, OperatorSpace) else parse(text)}))
    assert found is not None
    return found


def mutants(space, text, count=300):
    """The mutants that keep the limits of the space."""
    variation, parent = Variation(space), tree(space, text)
    return [found for k in range(count) if (found := variation.mutant(parent, random.Random(k))) is not None]


def same(first, second):
    """How many parts at the same place have the same name."""
    return (first[0] == second[0]) + sum(same(a, b) for a, b in zip(first[1], second[1], strict=False))


def test_mutants_are_buildable_and_near():
    parent = tree(ACTIVATIONS, "max(tanh(x), sin(x * 0.5)) + sigmoid(x)")
    found = mutants(ACTIVATIONS, "max(tanh(x), sin(x * 0.5)) + sigmoid(x)")
    assert len(found) > 150
    assert len({str(candidate) for candidate in found}) > 80
    assert sum(same(parent, ACTIVATIONS.derive(candidate)) >= 4 for candidate in found) > 100


def test_a_part_is_scaled():
    """`x + x` has no number that could move."""
    texts = {str(candidate) for candidate in mutants(ACTIVATIONS, "x * sigmoid(x + x)", 600)}
    assert len([text for text in texts if re.fullmatch(r"x \* sigmoid\([\d.]+ \* \(x \+ x\)\)", text)]) > 2


def test_every_part_of_a_form_may_change_and_each_alone():
    found = {str(candidate) for candidate in mutants(SCHEMA, "sin(x) * tanh(x)")}
    assert any("sin(x)" in text and "tanh(x)" not in text for text in found)
    assert any("tanh(x)" in text and "sin(x)" not in text for text in found)


def test_a_number_moves_beyond_those_that_are_listed():
    numbers = {c.graph.args[0].value for c in mutants(SCHEMA, "0.5 * sin(x)") if c.graph.op == "mul" and c.graph.args[0].op == "constant"}
    assert len(numbers - {float(way.name) for way in SCHEMA.productions["number"]}) > 10
    assert sum(0.25 < number < 1.0 for number in numbers) > 5
    assert mutants(SCHEMA, "0.4321 * sin(x)", 20)  # a number that the grammar does not list


@pytest.mark.parametrize(
    ("space", "parent", "child"),
    [
        (ACTIVATIONS, "max(x, 0.5)", "max(x * sigmoid(x), 0.5)"),  # a part meets a function of itself
        (NORMALIZATIONS, "x * sigmoid(x)", "x * sigmoid(x) / std(x, instance)"),  # scaled by a deviation of the input
        (NORMALIZATIONS, "x / std(x, batch)", "(x + -mean(x, batch)) / std(x, batch)"),  # centred
        (NORMALIZATIONS, "x / std(x, batch)", "x / std(x, instance)"),  # other axes
        (NORMALIZATIONS, "x / std(x, batch)", "x / rms(x, batch)"),  # another statistic
        (NORMALIZATIONS, "x / std(x, batch)", "x / (std(x, batch) + x)"),  # a part meets the input
    ],
)
def test_one_step_is_enough_for(space, parent, child):
    """As often as once in 2,000 mutants, where a fresh part of as many nodes comes once in millions."""
    wanted = Candidate({"act": space.finish(parse(child))}).canonical_id
    variation, start = Variation(space), tree(space, parent)
    assert any(found is not None and found.canonical_id == wanted for k in range(6000) if (found := variation.mutant(start, random.Random(k))))
