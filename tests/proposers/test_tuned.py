"""The control of usual functions with tuned scale and slope."""

from __future__ import annotations

import random

import pytest

from evosearch.language.formula import parse
from evosearch.language.graph import parameters
from evosearch.meaning.screen import Screen
from evosearch.proposers.tuned import LARGEST, TunedProposer
from evosearch.space.operators import OperatorSpace


def test_it_draws_usual_functions_with_two_starting_values():
    proposer, rng = TunedProposer(OperatorSpace(("add", "tanh"), 8)), random.Random(0)
    texts = [proposer.ask(rng).candidate for _ in range(50)]
    assert len(set(texts)) == 50
    for text in texts:
        graph = parse(text)
        assert {n for n in ("relu", "silu") if n in text}
        assert all(1 / LARGEST <= p.init <= LARGEST and p.kind == "layer" for p in parameters(graph))
        assert len(parameters(graph)) == 2
    assert sum(Screen(8, 2).check(text) is None for text in texts) == 50


def test_it_has_nothing_to_say_about_normalizations():
    space = OperatorSpace(("add", "tanh"), 8, statistics=("std",), axes=("batch",), slot="norm_act")
    with pytest.raises(ValueError, match="scales activations"):
        TunedProposer(space)
