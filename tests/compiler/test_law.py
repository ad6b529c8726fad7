"""The law of meaning: compiled == numpy == sympy, value and derivative, up to the conditioning of each point."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from evosearch.compiler.module import compile_graph
from evosearch.config import load
from evosearch.language.formula import parse
from evosearch.language.graph import Axes, depends_on, variable, walk
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import derivative, gradients
from evosearch.meaning.numeric import evaluate, evaluate_all, function
from evosearch.meaning.symbolic import exact
from evosearch.run import space_of
from tests.strategies import graphs

POINTS = np.array([-6.13, -2.37, -1.31, -0.71, -0.113, 0.0937, 0.459, 0.877, 1.63, 2.91, 7.19])


def conditioned(graph, points):
    """`(error, steady)`: what rounding in every node adds up to in the value, and where no kink is within reach of that rounding."""
    order = list(walk(graph))
    values = dict(zip(order, evaluate_all(order, {"x": points}), strict=True))
    error, steady = {}, np.ones(points.shape, bool)
    with np.errstate(all="ignore"):
        for node in order:
            own = np.abs(values[node])
            args = [values[a] for a in node.args]
            if not node.args:
                error[node] = np.zeros_like(points) if node.op == "input" else own
                continue
            row = OPERATORS[node.op]
            for text, arg in zip(row.derivative, node.args, strict=True):
                local = function_of(text, args, values[node])
                own = own + np.abs(local) * error[arg]
            error[node] = own
            for text in row.kinks:
                reach = sum(error[a] for a in node.args)
                steady &= ~(np.abs(function_of(text, args, values[node])) <= 1e-9 * (1 + reach))
    return error[graph], steady


def function_of(text, args, value):
    graph = parse(text, inputs=("a", "b", "f"))
    inputs = {"a": args[0], "b": args[-1], "f": value, "x": value}
    return evaluate(graph, inputs)


def torch_value_and_slope(graph, points, plain):
    layer = compile_graph(graph).double()
    x = torch.tensor(points, requires_grad=True)
    out = layer._plain(x) if plain else layer(x)
    slope = torch.autograd.grad(out.sum(), x, allow_unused=True)[0] if out.requires_grad else None
    return out.detach().numpy(), np.zeros_like(points) if slope is None else slope.numpy()


@contextmanager
def time_limit(seconds):
    def too_long(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, too_long)  # of processor time: a busy machine is no reason to give up
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def assert_near(found, expected, error, mask, what):
    with np.errstate(all="ignore"):
        mask = mask & np.isfinite(found) & np.isfinite(expected) & np.isfinite(error)
        gap = np.abs(found - expected) > 1e-9 * (error + np.abs(expected) + 1e-3)
    assert not (gap & mask).any(), (what, POINTS[gap & mask], found[gap & mask], expected[gap & mask])


@given(graphs(max_leaves=6))
@settings(max_examples=150, deadline=None)
def test_compiled_equals_numpy_equals_sympy(graph):
    assume(depends_on(graph) and not any(n.op == "parameter" for n in walk(graph)))
    assert parse(str(graph)) is graph
    slope = derivative(graph)
    error, steady = conditioned(graph, POINTS)
    slope_error, slope_steady = conditioned(slope, POINTS)
    value, gradient = evaluate(graph, {"x": POINTS}), evaluate(slope, {"x": POINTS})
    for plain in (True, False):
        found, found_slope = torch_value_and_slope(graph, POINTS, plain)
        assert_near(found, value, error, steady, "torch")
        assert_near(found_slope, gradient, slope_error, steady & slope_steady, "torch's gradient")
    try:
        with time_limit(1.0):
            oracle = np.array([np.nan if v is None else v for v in exact(graph, POINTS)])
            oracle_slope = np.array([np.nan if v is None else v for v in exact(graph, POINTS, slope=True)])
    except (TimeoutError, NotImplementedError):  # sympy gives up: the other two have been compared
        return
    assert_near(value, oracle, error, steady, "sympy")
    assert_near(gradient, oracle_slope, slope_error, steady & slope_steady, "sympy's derivative")


@given(graphs(statistics=True, max_leaves=6))
@settings(max_examples=100, deadline=None)
def test_with_statistics_lean_equals_plain_equals_numpy(graph):
    assume(depends_on(graph))
    x = np.random.default_rng(0).normal(size=(3, 4, 2, 5)) * 2
    upstream = np.random.default_rng(1).normal(size=x.shape)
    layer = compile_graph(graph, 4).double().train()
    expected = [evaluate(graph, {"x": x})]
    pulled = gradients(graph, variable("g")).get(variable("x"))
    expected.append(np.zeros_like(x) if pulled is None else evaluate(pulled, {"x": x, "g": upstream}))
    for form in (layer._plain, layer):
        given_x = torch.tensor(x, requires_grad=True)
        out = form(given_x)
        slope = torch.autograd.grad(out, given_x, torch.tensor(upstream), allow_unused=True)[0] if out.requires_grad else None
        found = [out.detach().numpy(), np.zeros_like(x) if slope is None else slope.numpy()]
        for a, b in zip(found, expected, strict=True):
            sound = np.isfinite(a) & np.isfinite(b)
            if sound.all() and np.abs(b).max() < 1e6:
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * (1 + np.abs(b).max()))


@pytest.mark.parametrize("space", ["search_spaces/activation.yaml", "search_spaces/smoke.yaml"])
def test_graphs_of_every_space_go_through_text(space):
    import random

    for seed in range(200):
        graph = space_of(load(space, [])).sample(random.Random(seed)).graph
        assert parse(str(graph)) is graph


def test_every_operator_is_in_the_table_of_functions():
    assert all(callable(function(name)) for name in OPERATORS)
    assert not any(isinstance(n.value, Axes) for name in OPERATORS for text in OPERATORS[name].derivative for n in walk(parse(text, inputs=("a", "b", "f"))))
