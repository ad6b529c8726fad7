"""What users do with a layer: copy, pickle, autocast, compile, functional transforms, memory formats, distributed training."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch

import evosearch
from evosearch.language.library import library

LAYERS = {
    "elementwise": "tanh(x) * sin(x) + p * sigmoid(x * x) where p: layer = 0.5",
    "EvoNorm-S0": "x * sigmoid(v * x) / std(x, group) where v: channel = 1",
    "EvoNorm-B0": "x / max(std(x, batch, eps=1e-3), v * x + std(x, instance)) where v: channel = 1",
    "softmax": "exp(x - max(x, row)) / sum(exp(x - max(x, row)), row)",
    "every axis": "x / (1 + std(x, instance)) + max(x, row) * v - sum(x, layer) * 0.01 + max(x, group) + mean(x, channel) where v: channel = 1",
    "surrogate": "relu(x) ~ relu(x + 0.1)",
}
everyone = pytest.mark.parametrize("formula", LAYERS.values(), ids=LAYERS)


def sample(*shape, seed=0):
    return torch.randn(shape or (3, 6, 4, 5), generator=torch.Generator().manual_seed(seed))


def value_and_slope(layer, x):
    x = x.clone().requires_grad_()
    out = layer(x)
    (slope,) = torch.autograd.grad(out, x, sample(*out.shape, seed=1).to(out.dtype))
    return out.detach(), slope


def assert_same(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@everyone
def test_a_copy_and_a_pickle_compute_the_same(formula):
    layer = evosearch.compile(formula, 6, affine=True)
    layer(sample())
    expected = value_and_slope(layer.eval(), sample(seed=2))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.state_dict().keys() == layer.state_dict().keys()
        assert_same(value_and_slope(twin, sample(seed=2)), expected)


def test_a_pickle_opens_in_another_process_with_an_empty_cache(tmp_path):
    layer = evosearch.compile(LAYERS["EvoNorm-B0"], 6, affine=True)
    layer(sample())
    torch.save(layer, tmp_path / "layer.pt")
    torch.save(layer.eval()(sample(seed=2)), tmp_path / "expected.pt")
    code = (
        "import torch, sys; layer = torch.load('layer.pt', weights_only=False).eval(); "
        "x = torch.randn((3, 6, 4, 5), generator=torch.Generator().manual_seed(2)); "
        "torch.testing.assert_close(layer(x), torch.load('expected.pt'))"
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@everyone
def test_autocast_keeps_the_dtype_and_stays_near_float32(formula):
    layer = evosearch.compile(formula, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(sample().bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), evosearch.compile(formula, 6)(sample()), rtol=0.05, atol=0.05)


@everyone
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_layer_in_half_precision_is_finite_and_keeps_its_dtype(formula, dtype):
    layer = evosearch.compile(formula, 6).to(dtype)
    out, slope = value_and_slope(layer, (sample() * 20).to(dtype))
    assert out.dtype == slope.dtype == dtype
    assert torch.isfinite(out).all()
    assert torch.isfinite(slope).all()


@everyone
@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
def test_torch_compile_has_no_graph_break(formula):
    compiled = torch.compile(evosearch.compile(formula, 6), fullgraph=True)
    assert_same(value_and_slope(compiled, sample()), value_and_slope(evosearch.compile(formula, 6), sample()), rtol=1e-4, atol=1e-5)


@everyone
@pytest.mark.filterwarnings("ignore")
def test_torch_export_equals_eager(formula):
    layer = evosearch.compile(formula, 6).eval()
    torch.testing.assert_close(torch.export.export(layer, (sample(),)).module()(sample(seed=3)), layer(sample(seed=3)))


@everyone
def test_functional_transforms(formula):
    layer = evosearch.compile(formula, 6).eval()
    weights = dict(layer.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(layer, weights, (x,)).square().sum()

    x = sample().unsqueeze(1)
    each = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, 0))(weights, x)
    for i in range(len(x)):
        alone = torch.func.grad(loss, argnums=(0, 1))(weights, x[i])
        torch.testing.assert_close(each[1][i], alone[1], rtol=1e-4, atol=1e-5)
        for name, slope in alone[0].items():
            torch.testing.assert_close(each[0][name][i], slope, rtol=1e-4, atol=1e-4)
    direction = sample(seed=4)
    forward = torch.func.jvp(lambda x: layer(x).sum(), (sample(),), (direction,))[1]
    torch.testing.assert_close(forward, (value_and_slope_of_sum(layer) * direction).sum(), rtol=1e-4, atol=1e-4)


def value_and_slope_of_sum(layer):
    x = sample().requires_grad_()
    return torch.autograd.grad(layer(x).sum(), x)[0]


@pytest.mark.parametrize("name", ["elementwise", "EvoNorm-S0", "EvoNorm-B0", "every axis"])
def test_channels_last_stays_channels_last(name):
    layer = evosearch.compile(LAYERS[name], 6)
    x = sample().contiguous(memory_format=torch.channels_last)
    assert layer(x.requires_grad_()).is_contiguous(memory_format=torch.channels_last)
    assert_same(value_and_slope(layer.eval(), x.detach()), value_and_slope(layer, sample()))


@everyone
def test_inputs_that_are_not_contiguous(formula):
    layer = evosearch.compile(formula, 6).eval()
    wide = sample(3, 6, 4, 10)[..., ::2]
    assert_same(value_and_slope(layer, wide), value_and_slope(layer, wide.contiguous()))


@pytest.mark.parametrize("name", ["elementwise", "EvoNorm-S0", "EvoNorm-B0", "softmax"])
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3), (2, 6, 3, 2), (2, 6, 3, 2, 2), (1, 6, 1, 1), (0, 6, 4, 4)])
def test_every_rank_batch_one_one_place_and_the_empty_batch(name, shape):
    layer = evosearch.compile(LAYERS[name], 6)
    out, slope = value_and_slope(layer, sample(*shape))
    assert out.shape == slope.shape == shape
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(b).all() for b in layer.buffers())


def test_the_wrong_number_of_channels_is_said():
    layer = evosearch.compile(LAYERS["EvoNorm-S0"], 6)
    with pytest.raises(ValueError, match="made for num_features=6; the input has 7"):
        layer(torch.ones(2, 7, 3))


@everyone
def test_whole_numbers_are_refused(formula):
    with pytest.raises(TypeError, match="floating-point"):
        evosearch.compile(formula, 6)(torch.ones(2, 6, 3, dtype=torch.int64))


@pytest.mark.parametrize("arguments", [{"num_features": 0}, {"num_features": 8.0}, {"num_features": True}, {"momentum": None}, {"momentum": 2}])
def test_arguments_that_do_not_fit_are_said(arguments):
    with pytest.raises(ValueError, match="received"):
        evosearch.compile(LAYERS["EvoNorm-B0"], **{"num_features": 6, **arguments})


def test_row_beside_other_axes_needs_an_axis_of_its_own():
    with pytest.raises(ValueError, match="write `channel`"):
        evosearch.compile("max(x, row) * v where v: channel = 1", 6, channel_dim=-1)(torch.ones(2, 3, 6))


def test_a_gated_formula_takes_two_inputs():
    gate = evosearch.compile("silu(x) * y * v where v: channel = 1", 6)
    x, y = sample().requires_grad_(), sample(seed=5).requires_grad_()
    expected = torch.nn.functional.silu(x) * y
    torch.testing.assert_close(gate(x, y), expected)
    assert_same(torch.autograd.grad(gate(x, y).sum(), (x, y)), torch.autograd.grad(expected.sum(), (x, y)))


@pytest.mark.parametrize("layer", [entry for entry in library().values() if entry.without_activation], ids=lambda entry: entry.name)
def test_without_activation_is_a_layer(layer):
    assert evosearch.compile(layer.formula, 6, affine=True, apply_act=False)(sample()).shape == sample().shape


def test_without_activation_a_found_layer_is_an_affine_map():
    layer = evosearch.compile("x * sigmoid(x) / rms(x, layer)", 6, affine=True, apply_act=False)
    torch.testing.assert_close(layer(sample()), sample())
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layer = torch.nn.parallel.DistributedDataParallel(evosearch.compile(LAYERS["EvoNorm-B0"], 6))
        layer(sample()).sum().backward()
        assert layer.module.v0.grad is not None
        assert layer.module.running_var.ne(1).any()
    finally:
        torch.distributed.destroy_process_group()
