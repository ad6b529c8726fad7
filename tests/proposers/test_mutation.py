"""Mutants: trees of the same grammar, a part apart from their parent."""

from __future__ import annotations

import random

from evosearch.language.candidate import Candidate
from evosearch.language.formula import parse
from evosearch.proposers.mutation import Mutation
from evosearch.space.grammar import GrammarSpace
from evosearch.space.operators import OperatorSpace

OPERATORS = OperatorSpace(("add", "mul", "max", "neg", "tanh", "sin", "sigmoid"), 12, 2, True, 1, 0)
GRAMMAR = GrammarSpace({"formula": ["{unary} * {unary}", "{number} * {unary}"], "unary": ["x", "sin(x)", "tanh(x)", "relu(x)"]})


def tree(space, text):
    found = space.derive(Candidate({"act": parse(text)}))
    assert found is not None
    return found


def same(first, second):
    """How many parts at the same place have the same name."""
    return (first[0] == second[0]) + sum(same(a, b) for a, b in zip(first[1], second[1], strict=False))


def test_mutants_are_buildable_and_near():
    parent = tree(OPERATORS, "max(tanh(x), sin(x * 0.5)) + sigmoid(x)")
    mutants = [Mutation(OPERATORS).of(parent, random.Random(k)) for k in range(300)]
    built = [OPERATORS.build(mutant) for mutant in mutants]
    assert sum(candidate is not None for candidate in built) > 150
    assert len({str(candidate) for candidate in built}) > 80
    assert sum(same(parent, mutant) >= 4 for mutant in mutants) > 150


def test_every_part_may_change_and_each_alone():
    parent = tree(GRAMMAR, "sin(x) * tanh(x)")
    found = {str(c) for k in range(300) if (c := GRAMMAR.build(Mutation(GRAMMAR).of(parent, random.Random(k)))) is not None}
    assert {"relu(x) * tanh(x)", "sin(x) * sin(x)", "2.0 * tanh(x)"} & found or len(found) > 20
    assert any("sin(x)" in text and "tanh(x)" not in text for text in found)
    assert any("tanh(x)" in text and "sin(x)" not in text for text in found)


def test_a_number_moves_beyond_those_that_are_listed():
    parent = tree(GRAMMAR, "0.5 * sin(x)")
    numbers = {m[1][0][0] for k in range(300) if (m := Mutation(GRAMMAR).of(parent, random.Random(k)))[0] == parent[0]}
    assert len(numbers - {way.name for way in GRAMMAR.productions["number"]}) > 10
    moved = [float(n) for n in numbers]
    assert sum(0.25 < n < 1.0 for n in moved) > 10
    again = tree(GRAMMAR, "0.4321 * sin(x)")  # a number that the grammar does not list
    assert all(GRAMMAR.build(Mutation(GRAMMAR).of(again, random.Random(k))) is not None for k in range(20))
