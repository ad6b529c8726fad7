"""Properties that a space may require: decided before training, with the figure."""

from __future__ import annotations

import pytest

from evosearch.language.formula import parse
from evosearch.meaning.require import Requirements, unmet
from evosearch.meaning.screen import Screen

CASES = [
    ({"smooth": "C0"}, ["relu(x)", "abs(x)", "silu(x)"], ["step(x)", "1 / x", "sign(x)"]),
    ({"smooth": "C1"}, ["silu(x)", "elu(x)", "square(relu(x))"], ["relu(x)", "hardswish(x)", "max(x, sin(2 * x))"]),
    ({"smooth": "C2"}, ["silu(x)", "tanh(x)", "sin(x)"], ["elu(x)", "square(relu(x))"]),
    ({"monotone": True}, ["relu(x)", "tanh(x)", "-x", "softplus(x)"], ["silu(x)", "sin(x)", "square(x)"]),
    ({"lipschitz": 1.0}, ["relu(x)", "tanh(x)", "sin(x)", "softplus(x)"], ["silu(x)", "2 * x", "square(x)", "exp(x)"]),
    ({"bounded": True}, ["tanh(x)", "sin(x)", "gaussian(x)"], ["relu(x)", "silu(x)", "log(1 + abs(x))"]),
    ({"invertible": True}, ["tanh(x)", "softplus(x)", "x + 0.5 * sin(x)", "symlog(x)"], ["relu(x)", "silu(x)", "step(x)", "hardtanh(x)"]),
    ({"batch_independent": True}, ["x / std(x, group)", "relu(x)"], ["x / std(x, batch)", "x - mean(x, batch)"]),
]


@pytest.mark.parametrize(("required", "meet", "fail"), CASES, ids=lambda c: next(iter(c)) if isinstance(c, dict) else "")
def test_a_requirement_is_decided(required, meet, fail):
    wanted = Requirements(**required)
    assert [t for t in meet if unmet(parse(t), wanted)] == []
    assert [t for t in fail if not unmet(parse(t), wanted)] == []


def test_a_statistic_has_no_curve_to_judge():
    assert unmet(parse("x / std(x, group)"), Requirements(bounded=True)) == ("elementwise", None)


def test_the_screen_says_reason_and_figure():
    screen = Screen(20, 2, max_cost=10, required=Requirements(lipschitz=1.05))
    assert screen.check("tanh(x)") is None
    steep = screen.check("silu(x)")
    assert (steep.status, steep.reason) == ("rejected", "require:lipschitz")
    assert steep.figure == pytest.approx(1.0998, abs=1e-3)
    dear = screen.check("tanh(x) * sin(x)")
    assert (dear.reason, dear.figure) == ("static:cost", 14.0)


def test_what_only_statistics_see_is_rejected():
    assert Screen(20, 2).check("mean(x, layer) + std(x, batch)").reason == "static:only_statistics"
