"""Networks before any training: every slot is screened, and two are the same if their functions and choices are."""

from __future__ import annotations

import pytest

from evosearch.meaning.require import Requirements
from evosearch.meaning.screen import Screen


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("act0 := relu(x); act1 := tanh(x)", None),
        ("act0 := relu(x); act1 := x", None),  # one linear slot is a network like others
        ("act0 := 2 * x; act1 := x", "numeric:affine"),
        ("act0 := relu(x); act1 := 1 + 2", "static:no_input"),
        ("act0 := x; act1 := exp(exp(x))", "numeric:nonfinite"),
        ("act0 := relu(x); act1 := x*x*x*x*x*x*x*x*x", "static:size"),
        ("act := relu(x); depth := 2", None),
    ],
)
def test_slot_by_slot(text, reason):
    verdict = Screen(8, 1).check(text)
    assert (verdict and verdict.reason) == reason


def test_equal_functions_in_equal_slots_of_equal_choices_are_one_network():
    screen = Screen(12, 1)
    screen.add(4, "act0 := x * sigmoid(x); act1 := max(x, 0); depth := 2; norm := 'batch'")
    same = screen.check("act0 := sigmoid(x) * x; act1 := relu(x); depth := 2; norm := 'batch'")
    assert (same.reason, same.duplicate_of) == ("duplicate", 4)
    for other in (
        "act0 := x * sigmoid(x); act1 := max(x, 0); depth := 3; norm := 'batch'",
        "act0 := x * sigmoid(x); act1 := max(x, 0); depth := 2; norm := 'none'",
        "act0 := max(x, 0); act1 := x * sigmoid(x); depth := 2; norm := 'batch'",
        "act0 := x * sigmoid(x); act1 := max(x, 0)",
        "act := x * sigmoid(x); depth := 2; norm := 'batch'",
    ):
        assert screen.check(other) is None, other


def test_the_cost_is_of_all_slots_and_each_meets_the_requirements():
    screen = Screen(12, 1, max_cost=10)
    verdict = screen.check("act0 := tanh(x); act1 := tanh(x)")
    assert (verdict.reason, verdict.figure) == ("static:cost", 14.0)
    bounded = Screen(12, 1, required=Requirements(bounded=True))
    assert bounded.check("act0 := tanh(x); act1 := sigmoid(x)") is None
    assert bounded.check("act0 := tanh(x); act1 := relu(x)").reason == "require:bounded"
