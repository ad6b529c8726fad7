"""Values, derivatives, equality, sympy, novelty, the screen."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from hypothesis import given, settings

from evosearch.language.formula import parse
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import derivative
from evosearch.meaning.facts import complexity, novelty
from evosearch.meaning.numeric import equal, evaluate, fingerprints
from evosearch.meaning.screen import Screen
from evosearch.meaning.symbolic import from_sympy, latex, simplify, to_sympy
from tests.strategies import graphs

POINTS = np.array([-7.3, -2.1, -0.9, -0.31, 0.27, 0.8, 1.7, 3.4, 8.2])
CASES = [f"{n}(x)" if r.arity == 1 else f"{n}(x, {c})" for n, r in OPERATORS.items() if r.searchable for c in ((1.7,) if r.arity == 1 else (1.7, -0.6))]


@pytest.mark.parametrize("text", CASES)
def test_numpy_equals_sympy_in_value_and_derivative(text):
    graph = parse(text)
    expression, x = to_sympy(graph, opaque=False), sympy.Symbol("x", real=True)
    for values, form in ((evaluate(graph, {"x": POINTS}), expression), (evaluate(derivative(graph), {"x": POINTS}), sympy.diff(expression, x))):
        for point, value in zip(POINTS, values, strict=True):
            exact = sympy.N(form.subs(x, sympy.Float(str(point), 40)).doit(), 30)
            if exact.is_real and np.isfinite(value):
                assert value == pytest.approx(float(exact), rel=1e-9, abs=1e-12), (text, point)
            elif exact.is_real and exact.is_finite:
                pytest.fail(f"{text} at {point}: {value}, sympy says {exact}")


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_equality_is_reflexive_through_text(graph):
    assert equal(graph, parse(str(graph)))


MERGED = [("x * sigmoid(x)", "silu(x)"), ("x / (1 + exp(-x))", "silu(x)"), ("max(x, 0)", "relu(x)"), ("(x + abs(x)) / 2", "relu(x)"), ("x ** 2", "x * x")]
APART = [("gelu(x)", "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * cube(x))))"), ("relu(x)", "relu6(x)"), ("gelu(x)", "x * sigmoid(1.702 * x)"),
         ("relu(x)", "relu(x) ~ relu(x + 0.1)"), ("v * x where v: layer = 1", "x"), ("std(x, batch) * x", "std(x, instance) * x")]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), MERGED)
def test_equal_functions_share_a_fingerprint_and_are_confirmed(first, second):
    a, b = parse(first), parse(second)
    assert fingerprints([a])[0] == fingerprints([b])[0]
    assert equal(a, b)


@pytest.mark.parametrize(("first", "second"), APART)
def test_different_functions_are_not_confirmed(first, second):
    assert not equal(parse(first), parse(second))


def test_simplify_accepts_only_what_is_smaller_equal_and_as_finite():
    texts = ["max(max(x, 0), x)", "1 / (1 + exp(-x))", "-(-x) * sigmoid(x)", "x * sigmoid(x)"]
    found = simplify([parse(t) for t in texts])
    assert [s.accepted for s in found] == [True, False, True, False]
    assert str(found[0].graph) == "max(x, 0)"
    assert "less finite" in found[1].note


def test_a_formula_with_statistics_is_simplified():
    (simple,) = simplify([parse("max(rms(x, layer), 0) + abs(tanh(abs(max(x, 0))))")])
    assert simple.accepted, simple.note
    assert simple.graph.size < parse("max(rms(x, layer), 0) + abs(tanh(abs(max(x, 0))))").size


def test_simplify_gives_up_in_time():
    (found,) = simplify([parse("+".join(f"sin(x * {i}.5) * exp(cos(x + {i})) / (1 + x * {i})" for i in range(1, 9)))], seconds=0.2)
    assert not found.accepted
    assert "no answer within" in found.note


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_latex_with_balanced_braces(name):
    text = latex(parse(f"{name}({', '.join(['x'] * OPERATORS[name].arity)})"))
    assert "x" in text
    assert text.count("{") == text.count("}")


def test_sympy_and_back_is_the_same_function():
    for text in ("x / 3 - 2 * sin(x)", "exp(-x) * (x - 1)", "max(x, tanh(x))", "1 / (1 + square(x))", "silu(x) - sqrt(abs(x))"):
        atoms = {}
        assert equal(from_sympy(to_sympy(parse(text), atoms), atoms), parse(text))


@pytest.mark.parametrize(
    ("text", "label", "nearest"),
    [("x * sigmoid(x)", "known", "silu"), ("3 * relu(2 * x)", "rescaled", "relu"), ("0.7 * sin(3 * x)", "rescaled", "sine"),
     ("min(cos(x), x)", "new", "min_sin"), ("0.3 * y * silu(-2 * x)", "rescaled", "swiglu"), ("min(x * silu(y), 20)", "new", "geglu"),
     ("x * relu(y) + 0.1 * x * y", "new", "swiglu"), ("2 * exp(3 * x - max(3 * x, row)) / sum(exp(3 * x - max(3 * x, row)), row)", "rescaled", "softmax"),
     ("relu(3 * x) / (sum(1, row) + 2)", "new", "relu_attention"), ("relu(3 * x) / sum(2, row)", "rescaled", "relu_attention"),
     ("relu(x) / (sum(relu(x), row) + 1)", "new", "softpick")],
)  # fmt: skip
def test_novelty(text, label, nearest):
    found = novelty(parse(text))
    assert (found.label, found.nearest) == (label, nearest)


def test_a_surrogate_is_never_taken_for_its_forward():
    assert novelty(parse("relu(x) ~ relu(x + 0.1)")).label == "new"


def test_complexity_counts_shared_parts_once():
    assert complexity(parse("sin(x) + sin(x) * sin(x)")) == OPERATORS["sin"].cost + 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x * (x * (x * (x * x)))", "static:size"), ("2 * x + 1", "numeric:affine"), ("x - x", "numeric:constant"), ("sin(x) / x", "numeric:nonfinite"),
     ("exp(exp(x))", "numeric:nonfinite"), ("tanh(2) * x", "static:constant_part"), ("cube(cube(x))", "numeric:too_large"),
     ("sqrt(abs(x))", "numeric:nonfinite_gradient"), ("a * x + b * sin(x) where a: layer = 1, b: layer = 2", "static:parameters")],
)  # fmt: skip
def test_the_screen_rejects_with_a_reason(text, reason):
    verdict = Screen(8, 1).check(text)
    assert verdict is not None
    assert verdict.reason == reason


def test_the_screen_names_the_job_that_a_duplicate_repeats():
    screen = Screen(8, 1)
    assert screen.check("silu(x)") is None
    screen.add(7, "silu(x)")
    verdict = screen.check("x * sigmoid(x)")
    assert verdict is not None
    assert (verdict.status, verdict.duplicate_of) == ("duplicate", 7)


# pairs that differ only at negative parameters, between channels, in which group count is whose, in how many are summed,
# at another scale, or far out
APART = [
    ("x * sigmoid(max(v, 0) * x) where v: layer = 1", "x * sigmoid(v * x) where v: layer = 1"),
    ("x * abs(v) where v: layer = 1", "x * v where v: layer = 1"),
    ("x - mean(v * x, layer) where v: channel = 1", "x - v * mean(x, layer) where v: channel = 1"),
    ("mean(x, group, groups=4) + x * std(x, group, groups=8)", "mean(x, group, groups=8) + x * std(x, group, groups=4)"),
    ("x * sum(x, channel)", "x * 4 * mean(x, channel)"),
    ("x * sum(x, channel)", "x * 8 * mean(x, channel)"),
    ("x + sum(x, row)", "x + 4 * mean(x, row)"),
    ("x / std(x, batch)", "x / max(std(x, batch), 1)"),
    ("x * std(x, batch)", "x * min(std(x, batch), 50)"),
    ("x * max(x, layer)", "x * max(max(x, layer), 0)"),
    ("x * max(x, instance)", "x * max(max(x, instance), 0)"),
    ("relu(x)", "min(relu(x), 40)"),
    ("x", "x + relu(x - 35)"),
    ("x", "max(x, -40)"),
]


@pytest.mark.parametrize(("first", "second"), APART)
def test_functions_that_differ_somewhere_are_not_equal(first, second):
    assert not equal(parse(first), parse(second))


@pytest.mark.parametrize("text", ["softplus(x) = log(1 + exp(x))", "silu(x) = x / (1 + exp(-x))", "tanh(x) = 2 * sigmoid(2 * x) - 1"])
def test_equal_functions_may_overflow_differently_far_out(text):
    first, _, second = text.partition(" = ")
    assert equal(parse(first), parse(second))
