"""Features: of the function and not of its text, and of what training feels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evosearch.language.formula import parse
from evosearch.meaning.features import features, probe_for


def of(*texts):
    graphs = [parse(text) for text in texts]
    return features(graphs, probe_for(graphs))


def test_equal_functions_have_equal_features_however_written():
    found = of("x * sigmoid(x)", "silu(x)", "x / (1 + exp(-x))", "gelu(x)")
    np.testing.assert_allclose(found.curve[:3], np.tile(found.curve[0], (3, 1)), atol=1e-9)
    np.testing.assert_allclose(found.steepness[:3], found.steepness[0], atol=1e-9)
    assert np.abs(found.curve[3] - found.curve[0]).max() > 0.05


def test_steepness_is_the_logarithm_of_the_largest_slope():
    np.testing.assert_allclose(of("x", "3 * relu(x)", "-0.5 * x", "square(x)").steepness, [0.0, math.log(3), math.log(0.5), math.log(16)], atol=0.01)
    flat, steep = of("0 * x", "exp(x * x)").steepness
    assert (flat, steep) == (-5.0, 5.0)


def test_a_jump_is_steep():
    assert of("step(x) + 0.1 * x").steepness[0] > 2.5


def test_only_what_is_finite_is_usable():
    found = of("tanh(x)", "1 / x", "log(x)", "exp(exp(x))", "exp(x)")
    assert found.usable.tolist() == [True, False, False, False, True]
    assert np.isfinite(found.curve).all()
    assert np.isfinite(found.steepness).all()


@pytest.mark.parametrize("texts", [("sin(x)", "x", "tanh(x * x)"), ("x / std(x, batch)", "x - mean(x, layer)", "x * sigmoid(y)")])
def test_one_graph_alone_is_what_it_is_among_others(texts):
    graphs = [parse(text) for text in texts]
    probe = probe_for(graphs)
    together = features(graphs, probe)
    for i, graph in enumerate(graphs):
        alone = features([graph], probe)
        np.testing.assert_allclose(alone.curve[0], together.curve[i], atol=1e-12)
        assert alone.usable[0]
        assert together.usable[i]


def test_statistics_over_other_axes_part():
    found = of("x / std(x, batch)", "x / std(x, instance)", "x / std(x, group)", "x / std(x, layer)")
    for i in range(4):
        for j in range(i):
            assert np.abs(found.curve[i] - found.curve[j]).max() > 0.02
    assert np.abs(found.steepness).max() < 2


def test_a_gate_sees_its_second_input():
    found = of("x * sigmoid(y)", "x * sigmoid(x)")
    assert np.abs(found.curve[0] - found.curve[1]).max() > 0.5


def test_a_learnable_number_parts_functions_that_start_alike():
    found = of("a * tanh(x) where a: layer = 1", "tanh(x)", "a * tanh(x) where a: channel = 1")
    assert len({row.tobytes() for row in found.curve}) == 3


def test_no_graphs_have_no_rows():
    found = features([], probe_for([]))
    assert found.curve.shape[0] == found.steepness.size == found.usable.size == 0
