"""The form of a formula of its inputs alone, in float32: the slope is computed beside the value and saved in place of the input."""

from __future__ import annotations

import pytest
import torch

import evosearch
from evosearch.language.operators import OPERATORS

UNSAFE_BELOW = {"sqrt": 0.2, "log": 0.2, "pow": 0.2, "log1p": -0.9, "reciprocal": 0.2}


def kept(layer, *inputs):
    """What the backward keeps, in elements of the input."""
    found = {}

    def pack(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(*inputs)
    return out, sum(t.numel() for t in found.values()) / inputs[0].numel()


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator(name):
    inside = "x" if OPERATORS[name].arity == 1 else "x, 0.3 + 0.4 * sin(x)"
    layer = evosearch.compile(f"{name}({inside}) + 0.5 * sin(x)")
    x = torch.linspace(UNSAFE_BELOW.get(name, -3.0), 3.0, 301).requires_grad_()
    upstream = torch.linspace(0.5, 1.5, 301)
    out, saved = kept(layer, x)
    assert saved == 1.0
    plain = layer._plain(x)
    ours, theirs = (torch.autograd.grad(o, x, upstream)[0] for o in (out, plain))
    assert torch.equal(out, plain)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_it_is_the_slope_that_is_saved():
    x = torch.randn(64, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda tensor: tensor):
        evosearch.compile("x * sigmoid(x)")(x)
    sigmoid = torch.sigmoid(x)
    torch.testing.assert_close(saved, [sigmoid * (1 + x * (1 - sigmoid))])


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_blocks_and_layouts(memory):
    layer = evosearch.compile("tanh(x) * sin(y)")
    x, y = (torch.randn(3, 40, 48, 49, generator=torch.Generator().manual_seed(i)).to(memory_format=memory).requires_grad_() for i in (0, 1))
    out, saved = kept(layer, x, y)
    assert saved == 2.0
    assert out.is_contiguous(memory_format=memory)
    ours, theirs = (torch.autograd.grad(o.square().sum(), (x, y)) for o in (out, layer._plain(x, y)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3, 2), (1,), (2, 3, 1, 1, 2)])
def test_any_shape(shape):
    x = torch.ones(shape, requires_grad=True)
    evosearch.compile("2 * tanh(x)")(x).sum().backward()
    torch.testing.assert_close(x.grad, 2 / torch.cosh(torch.ones(shape)) ** 2)


def test_a_second_derivative_is_refused_with_the_switch_named():
    layer = evosearch.compile("sin(x) + 0.5 * x")
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    with pytest.raises(RuntimeError, match="set `differentiable_twice = True`"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    model = evosearch.differentiable_twice(torch.nn.Sequential(layer))
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(bend, -torch.sin(x.detach()))


def test_float64_and_torch_func_differentiate_as_often_as_asked():
    layer = evosearch.compile("x * sin(x)")
    assert torch.autograd.gradgradcheck(layer, torch.linspace(-2, 2, 9, dtype=torch.double, requires_grad=True))
    bend = torch.func.vmap(torch.func.grad(torch.func.grad(layer)))(torch.linspace(-2, 2, 9))
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(bend, 2 * torch.cos(x) - x * torch.sin(x))


def test_forward_mode_sees_what_depends_on_the_input():
    """A slope saved as a number would be a constant to it: the plain form is used, which is differentiable in every way."""
    layer = evosearch.compile("x * sin(x) ~ x * sin(x)")
    x, ones = torch.linspace(-1, 1, 5), torch.ones(5)
    bend = 2 * torch.cos(x) - x * torch.sin(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.clone().requires_grad_(), ones)
        (slope,) = torch.autograd.grad(layer(dual).sum(), dual)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(slope).tangent, bend)
    leaf = x.clone().requires_grad_()
    with torch.autograd.forward_ad.dual_level():
        out = layer(torch.autograd.forward_ad.make_dual(leaf, ones))
        torch.autograd.forward_ad.unpack_dual(out).tangent.sum().backward()
    torch.testing.assert_close(leaf.grad, bend)


@pytest.mark.parametrize("text", ["x * sin(x)", "x * sin(x) + 0.5 * a * square(x) where a: layer = 0"])
def test_every_order_of_functional_derivatives(text):
    layer, x = evosearch.compile(text), torch.tensor(0.7)
    bend = 2 * torch.cos(x) - x * torch.sin(x)
    for outer in (torch.func.jacfwd, torch.func.jacrev):
        for inner in (torch.func.jacfwd, torch.func.jacrev):
            torch.testing.assert_close(outer(inner(layer))(x).detach(), bend)


def test_a_gate_in_half_precision_keeps_its_digits():
    """Its slope would be kept in its own type: large ones as infinity, small ones with few digits."""
    x = torch.tensor([300.0], requires_grad=True)
    y = torch.ones(1, dtype=torch.float16, requires_grad=True)
    (slope,) = torch.autograd.grad((evosearch.compile("x * x * y + sin(y)")(x, y) * 1e-3).sum(), y)
    torch.testing.assert_close(slope, torch.tensor([90.0], dtype=torch.float16))


def test_a_gate_that_needs_no_gradient_has_no_slope():
    x, y = torch.ones(16, requires_grad=True), torch.ones(16)
    with torch.no_grad():
        y *= 2
    x_slope = torch.autograd.grad(evosearch.compile("sin(x) * y + 0.5 * x")(x, y).sum(), x)[0]
    torch.testing.assert_close(x_slope, 2 * torch.cos(torch.ones(16)) + 0.5)
    assert kept(evosearch.compile("sin(x) * y + 0.5 * x"), x, y)[1] == 2.0  # the inputs, which are there anyway


def test_an_input_that_needs_no_gradient_saves_nothing_more():
    layer = evosearch.compile("x * sigmoid(x)")
    out, saved = kept(layer, torch.randn(16))
    assert saved == 0
    assert not out.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    layer = evosearch.compile("x * sigmoid(x) + sin(x)")
    x = torch.linspace(-4, 4, 99).to(dtype).requires_grad_()
    out, saved = kept(layer, x)
    wide = x.detach().float().requires_grad_()
    assert saved == 1.0
    (ours,), (theirs,) = (torch.autograd.grad(o.sum(), i) for o, i in ((out, x), (layer(wide), wide)))
    torch.testing.assert_close(ours, theirs.to(dtype), rtol=0.01, atol=0.01)
