"""Facts that a coarse look gets wrong: what is narrow, far out, slow or tiny. Expected values are closed forms."""

from __future__ import annotations

import math

import pytest

from evosearch.language.formula import parse
from evosearch.meaning.bounds import bounds, limit
from evosearch.meaning.explain import described
from evosearch.meaning.facts import describe
from evosearch.meaning.gaussian import moments
from evosearch.meaning.shape import shape

# E f, E f^2, E f'^2; to first order a bump at c of area A adds A phi(c), and so on
NARROW = [
    ("relu(0.1 - abs(x - 0.12))", 0.0039575, 0.00026392, 0.0790861),
    ("max(0, 1 - 20*abs(x-0.12))", 0.0197999, 0.0132010, 15.8367),
    ("step(x-0.02)*step(0.2-x)", 0.0712814, 0.0712814, 0.0),
    ("gaussian(10000*x - 12345)", 3.300309e-05, 2.333671e-05, 2333.67),
    ("exp(0.24*x*x)", 1 / math.sqrt(0.52), 5.0, 28.8),
    ("exp(0.2499*x*x)", 1 / math.sqrt(0.5002), math.nan, math.nan),
    ("1/(1+exp(1/x))", 0.5, 0.371081, 0.0673923),
    ("sin(x)/cos(x)", math.nan, math.inf, math.inf),
]


@pytest.mark.parametrize(("text", "mean", "square", "slope_square"), NARROW)
def test_moments_of_what_a_scan_may_miss(text, mean, square, slope_square):
    found = moments(parse(text))
    assert (found.mean, found.square, found.slope_square) == pytest.approx((mean, square, slope_square), rel=2e-5, abs=1e-6, nan_ok=True)


def test_moments_that_do_not_settle_are_not_determined():
    lines = dict(described(describe(parse("exp(0.2499*x*x)"))))
    assert "E f^2 = not determined" in lines["moments"]
    assert lines["criticality"] == "not determined"
    assert moments(parse("1 / x")).determined  # undefined, and known to be


def test_a_pole_outside_the_scan_leaves_no_criticality():
    assert describe(parse("sin(x)/cos(x)")).edge is None


# infimum, supremum, the tails' kinds, monotonic, parity
FAR = [
    ("softsign(symlog(x))", -1, 1, "line", "line", "increasing", "odd"),
    ("atan(symlog(x))", -math.pi / 2, math.pi / 2, "line", "line", "increasing", "odd"),
    ("1/log1p(abs(x)+1)", 0, 1 / math.log(2), "line", "line", "no", "even"),
    ("sin(0.01*x)", -1, 1, "oscillation", "oscillation", "no", "odd"),
    ("sin(0.02*x)", -1, 1, "oscillation", "oscillation", "no", "odd"),
    ("cos(0.02*x)", -1, 1, "oscillation", "oscillation", "no", "even"),
    ("sin(0.001*x)", -1, 1, "oscillation", "oscillation", "no", "odd"),
    ("sin(symlog(x))", -1, 1, "undetermined", "undetermined", "no", "odd"),
    ("sin(sqrt(abs(x)))", -1, 1, "undetermined", "undetermined", "no", "even"),
    ("sin(x)/cos(x)", -math.inf, math.inf, "undetermined", "undetermined", "no", "odd"),
    ("sign(sin(x))", -1, 1, "oscillation", "oscillation", "no", "odd"),
    ("log1p(log1p(abs(x)))", 0, math.inf, "unbounded", "unbounded", "no", "even"),
    ("softsign(x)*sin(x)", -1, 1, "oscillation", "oscillation", "no", "even"),
    ("x - 1e-8*cube(x)", -math.inf, math.inf, "power", "power", "no", "odd"),
    ("max(x,-25)", -25, math.inf, "line", "line", "increasing", "none"),
    ("relu(x-25)", 0, math.inf, "line", "line", "increasing", "none"),
    ("sinc(x)+relu(x-25)", -0.2172336282, math.inf, "line", "line", "no", "none"),
    ("max(0, 1 - 20*abs(x-0.12))", 0, 1, "line", "line", "no", "none"),
    ("gaussian(10000*x - 12345)", 0, 1, "line", "line", "no", "none"),
    ("abs(abs(x)-0.002)", 0, math.inf, "line", "line", "no", "even"),
    ("relu(x-1500)", 0, math.inf, "line", "line", "increasing", "none"),
    ("hardtanh(0.0005*x)", -1, 1, "line", "line", "increasing", "odd"),
    ("1e-13*sin(x)", -1e-13, 1e-13, "oscillation", "oscillation", "no", "odd"),
    ("sigmoid(x)*1e-11", 0, 1e-11, "line", "line", "increasing", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "low", "high", "left", "right", "monotonic", "parity"), FAR)
def test_the_shape_far_out(text, low, high, left, right, monotonic, parity):
    found = shape(parse(text))
    assert (found.infimum, found.supremum) == pytest.approx((low, high), rel=1e-9, abs=1e-22)
    assert (found.left.kind, found.right.kind) == (left, right)
    assert (found.monotonic, found.parity) == (monotonic, parity)
    assert all(text for _, text in described(describe(parse(text))))


def test_limits_that_are_reached_too_slowly_to_be_seen():
    assert shape(parse("softsign(symlog(x))")).right.intercept == 1
    assert shape(parse("1/log1p(abs(x)+1)")).right.intercept == 0
    assert shape(parse("sigmoid(x)*1e-11")).right.intercept == pytest.approx(1e-11, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "bound"),
    [("sin(x)*log1p(abs(x))", math.inf), ("sin(x)*symlog(x)", math.inf), ("x * cos(x)", math.inf), ("1e-13*sin(x)", 1e-13), ("sigmoid(x)*1e-11", 2.5e-12),
     ("relu(x-1500)", 1.0), ("hardtanh(0.0005*x)", 5e-4), ("cos(0.02*x)", 0.02), ("softsign(x)*sin(x)", math.nan)],
)  # fmt: skip
def test_lipschitz_bounds_far_out(text, bound):
    assert shape(parse(text)).lipschitz == pytest.approx(bound, rel=1e-6, nan_ok=True, abs=0)


@pytest.mark.parametrize(
    ("text", "zeros", "kinks"),
    [("abs(abs(x)-0.002)", [(-0.002, -0.002), (0.002, 0.002)], [-0.002, 0, 0.002]), ("relu(x-1500)", [(-math.inf, 1500)], [1500]),
     ("hardtanh(0.0005*x)", [(0, 0)], [-2000, 2000]), ("x - 1e-8*cube(x)", [(-1e4, -1e4), (0, 0), (1e4, 1e4)], [])],
)  # fmt: skip
def test_zeros_and_kinks_between_the_samples_and_far_out(text, zeros, kinks):
    found = shape(parse(text))
    assert len(found.zeros) == len(zeros)
    for ours, expected in zip(found.zeros, zeros, strict=True):
        assert ours == pytest.approx(expected, abs=1e-9)
    assert [k.x for k in found.kinks] == pytest.approx(kinks)


def test_what_was_searched_for_near_zero_only_is_said_to_be():
    lines = dict(described(describe(parse("abs(sin(0.05 * x))"))))
    assert lines["kinks"].endswith("(on [-30, 30])")
    assert lines["zeros"].endswith("(on [-30, 30])")
    assert dict(described(describe(parse("sin(symlog(x))"))))["at +inf"] == "not determined"
    assert dict(described(describe(parse("gelu(x)"))))["zeros"] == "x = 0"


def test_bounds_from_the_graph():
    assert bounds(parse("sin(x) * tanh(x) + 2")) == (1, 3)
    assert bounds(parse("x * sigmoid(x)")) == (-math.inf, math.inf)  # wide, but true
    assert limit(parse("softsign(symlog(x))"), -1.0) == -1
    assert math.isnan(limit(parse("x * sigmoid(x)"), -1.0))
    assert math.isnan(limit(parse("sign(exp(-x))"), 1.0))  # the limit is 1, the value at the limit 0
