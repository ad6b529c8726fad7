"""Emitted modules: plain == lean == TorchScript == numpy, gradients checked, running statistics like torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import evosearch
from evosearch.compiler.emit import emit
from evosearch.compiler.module import compile_graph, load
from evosearch.delivery.formats.torchscript import scripted
from evosearch.language.formula import parse
from evosearch.language.graph import depends_on
from evosearch.meaning.numeric import evaluate
from tests.strategies import graphs

LAYERS = [
    "x * sigmoid(x)",
    "max(x, sin(v * x)) + 0.5 * erf(x) ** 2 where v: layer = 1",
    "x * sigmoid(v * x) / std(x, group) where v: channel = 1",
    "x / max(std(x, batch, eps=1e-3), v * x + std(x, instance)) where v: channel = 1",
    "relu(w * (x - mean(x, batch)) / std(x, batch) + b) where w: channel = 1, b: channel = 0",
    "x * mean(x, instance) + rms(x, layer) * tanh(x) - std(x, channel)",
    "x * rms(x * sigmoid(x), batch) + mean(x / std(x, batch), batch)",
    "x * var(x, group, groups=3) - var(x, batch)",
    "exp(x) * tanh(2) + mean(x, batch)",
]


def layer_and_input(formula, shape=(5, 6, 3, 2)):
    layer = evosearch.compile(formula, 6, momentum=0.0).double().train()
    x = torch.randn(shape, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return layer, x


@pytest.mark.parametrize("formula", LAYERS)
def test_lean_equals_plain_and_passes_gradcheck_twice(formula):
    layer, x = layer_and_input(formula)
    leaves = [x, *layer.parameters()]
    out, plain = layer(x), layer._plain(x)
    upstream = torch.randn_like(out)
    for a, b in zip((out, *torch.autograd.grad(out, leaves, upstream)), (plain, *torch.autograd.grad(plain, leaves, upstream)), strict=True):
        torch.testing.assert_close(a, b)
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = (x, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("formula", LAYERS)
def test_blocks_change_nothing(formula):
    layer, x = layer_and_input(formula)
    module = load(emit(parse(formula)))
    small = module.BLOCK
    try:
        one = torch.autograd.grad(layer(x).square().sum(), x)[0]
        module.BLOCK = 40
        torch.testing.assert_close(torch.autograd.grad(layer(x).square().sum(), x)[0], one)
    finally:
        module.BLOCK = small


@pytest.mark.parametrize("formula", [*LAYERS, "relu(x) ~ relu(x + 0.1)"])
@pytest.mark.parametrize("mode", [True, False])
def test_torchscript_equals_eager(formula, mode):
    source = load(emit(parse(formula)))
    layer, script = source.Layer(8).train(mode), scripted(source.Layer(8)).train(mode)
    x = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    a, b = layer(x), script(x)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(torch.autograd.grad(a.sum(), x), torch.autograd.grad(b.sum(), x))


@given(graphs(statistics=True, max_leaves=6))
@settings(max_examples=80, deadline=None)
def test_compiled_equals_numpy_wherever_finite(graph):
    if not depends_on(graph):
        return
    x = np.random.default_rng(0).normal(size=(3, 4, 5)) * 2
    layer = compile_graph(graph, 4).double().train()
    with torch.no_grad():
        found = layer(torch.from_numpy(x)).numpy()
    expected = evaluate(graph, {"x": x})
    both = np.isfinite(found) & np.isfinite(expected) & (np.abs(expected) < 1e6)
    np.testing.assert_allclose(found[both], expected[both], rtol=1e-6, atol=1e-7)


def test_batch_norm_relu_equals_torch_in_training_and_evaluation():
    ours = evosearch.compile("relu(w * ((x - mean(x, batch)) / std(x, batch)) + b) where w: channel = 1, b: channel = 0", 6)
    theirs = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.ReLU())
    for step in range(3):
        x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(step)) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.running_var, theirs[0].running_var)
    torch.testing.assert_close(ours.running_mean, theirs[0].running_mean)
    x = torch.randn(4, 6, 5, 5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_lean_backward_saves_the_input_once():
    layer = evosearch.compile("tanh(x) * sin(x) + sigmoid(x * x) * exp(-square(x)) + erf(x) * cos(x)")
    x = torch.randn(64, 64, requires_grad=True)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        layer(x)
    assert sum(t.numel() for t in kept.values()) == x.numel()


@pytest.mark.parametrize("formula", LAYERS)
@pytest.mark.parametrize("shape", [(3, 6), (2, 6, 5), (1, 6, 1, 1), (0, 6, 4, 4), (2, 6, 3, 2, 2)])
def test_odd_shapes_keep_running_statistics_finite(formula, shape):
    layer = evosearch.compile(formula, 6)
    x = torch.randn(shape, requires_grad=True)
    layer(x).sum().backward()
    assert layer(x).shape == x.shape
    assert all(torch.isfinite(b).all() for b in layer.buffers())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_statistics_are_taken_in_float32(dtype):
    layer = evosearch.compile("(x - mean(x, layer)) / std(x, layer)")
    x = (torch.randn(2, 6, 8, 8) * 300).to(dtype)
    out = layer(x)
    assert out.dtype == dtype
    assert torch.isfinite(out).all()


def test_channels_last_dimension():
    last = evosearch.compile("x * sigmoid(v * x) / std(x, group) where v: channel = 1", 6, channel_dim=-1)
    first = evosearch.compile("x * sigmoid(v * x) / std(x, group) where v: channel = 1", 6)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(last(x), first(x.transpose(1, 2)).transpose(1, 2))


def test_a_layer_that_keeps_channels_asks_for_their_number():
    with pytest.raises(ValueError, match="num_features"):
        evosearch.compile("v * x where v: channel = 1")
