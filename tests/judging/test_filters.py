"""Filters before training: what they keep, what they reject, and with which figure."""

from __future__ import annotations

from functools import partial

import pytest

import evosearch
from evosearch.compiler.module import compile_graph
from evosearch.judging.filters import dead_units, propagation, stability
from evosearch.language.library import known, library

NORMALIZING = [layer for layer in library().values() if layer.kind == "norm_activation"]
UNGUARDED = [
    "x / (v * x - std(x, instance)) where v: channel = 1",
    "x / (std(x, batch) - rms(x, instance))",
    "x / (x - mean(x, layer))",
    "silu(x) / (std(x, group) - std(x, instance))",
    "x / (mean(x, batch) - mean(x, instance))",
    "exp(x) / std(x, batch)",
]


def layer_of(formula):
    return partial(evosearch.compile, formula)


@pytest.mark.parametrize("layer", NORMALIZING, ids=lambda layer: layer.name)
def test_stability_keeps_the_published_layers(layer):
    found = stability(partial(compile_graph, layer.graph, affine=layer.affine), steps=60)
    assert found.reason is None
    assert 0.1 < found.figure < 1e4


@pytest.mark.parametrize("formula", UNGUARDED)
@pytest.mark.parametrize("seed", [0, 1])
def test_stability_rejects_a_division_by_an_unguarded_difference(formula, seed):
    found = stability(layer_of(formula), seed=seed)
    assert (found.reason, found.figure > 1e8) == ("stability", True)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "mish", "elu", "selu", "tanh", "sine", "identity", "snake"])
def test_signals_reach_through_fifty_layers_of_what_works(name):
    found = propagation(partial(compile_graph, known(name).graph))
    assert found.reason is None
    assert 1e-3 < found.figure < 1e4


@pytest.mark.parametrize(
    ("formula", "reason"),
    [("sigmoid(x)", "signal:vanishing"), ("step(x)", "signal:vanishing"), ("exp(x)", "signal:exploding"), ("square(x)", "signal:exploding"),
     ("log(x)", "signal:nonfinite"), ("x - x", "signal:vanishing")],
)  # fmt: skip
def test_signals_that_do_not_get_through(formula, reason):
    assert propagation(layer_of(formula)).reason == reason


def test_dead_units_are_counted():
    assert dead_units(layer_of("relu(x)")).figure < 0.05
    found = dead_units(layer_of("relu(x - 3)"))
    assert found.reason == "dead:units"
    assert found.figure > 0.5
    assert dead_units(layer_of("relu(x - 3)"), most=1.0).reason is None


def test_a_filter_is_a_function_of_its_arguments():
    first, second = (stability(layer_of("silu(x) / std(x, group)"), steps=10) for _ in range(2))
    assert first == second
