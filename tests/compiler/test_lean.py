"""The lean backward of every operator and every statistic: gradcheck and gradgradcheck in float64, values and slopes of the plain form."""

from __future__ import annotations

import pytest
import torch

import evosearch
from evosearch.language.operators import AXIS_SETS, OPERATORS, STATISTICS

# inside every operator's domain, and away from its kinks by more than the step of gradcheck
DOMAIN = {"sqrt": (0.4, 2.0), "log": (0.4, 2.0), "pow": (0.4, 2.0), "log1p": (-0.5, 2.0), "i0": (-2.0, 2.0), "i1": (-2.0, 2.0)}


def points(low, high, *shape):
    x = torch.linspace(low, high, 24, dtype=torch.double).reshape(shape or (2, 3, 2, 2))
    return (x + 0.0137 * torch.sin(100 * x)).requires_grad_()


def assert_lean(layer, *inputs):
    out, plain = layer(*inputs), layer._plain(*inputs)
    leaves = [*inputs, *layer.parameters()]
    upstream = torch.linspace(0.5, 1.5, out.numel(), dtype=torch.double).reshape(out.shape)
    slopes, expected = (torch.autograd.grad(o, leaves, upstream, allow_unused=True, materialize_grads=True) for o in (out, plain))
    torch.testing.assert_close([out, *slopes], [plain, *expected], rtol=1e-9, atol=1e-11)
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator(name):
    low, high = DOMAIN.get(name, (-2.9, 2.9))
    inside = "x" if OPERATORS[name].arity == 1 else "x, 0.3 + 0.4 * sin(x)"
    layer = evosearch.compile(f"v * {name}({inside}) + square(x) where v: layer = 0.7").double()
    assert hasattr(layer, "_lean")
    assert_lean(layer, points(low, high))


@pytest.mark.parametrize("axes", AXIS_SETS)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_over_every_axis_set(statistic, axes):
    if axes == "batch" and statistic in ("sum", "max"):
        with pytest.raises(ValueError, match="no value at evaluation"):
            evosearch.compile(f"{statistic}(x, batch)", 4)
        return
    layer = evosearch.compile(f"tanh(v * x) * {statistic}(x * sigmoid(x), {axes}) + x where v: channel = 0.8", 4, momentum=0.0).double()
    assert_lean(layer, torch.randn(2, 4, 2, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_())


@pytest.mark.parametrize("axes", ["batch", "instance", "layer", "group", "channel"])
def test_statistics_of_gated_inputs(axes):
    layer = evosearch.compile(f"silu(x) * y / std(x + y, {axes}) + v * y where v: channel = 0.8", 4, momentum=0.0).double()
    x, y = (torch.randn(2, 4, 3, dtype=torch.double, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in (0, 1))
    assert_lean(layer, x, y)


def test_a_surrogate_has_the_forward_of_one_and_the_gradient_of_the_other():
    layer = evosearch.compile("relu(x) * std(x, channel) ~ softplus(x) * v where v: channel = 2", 3).double()
    x = points(-2.9, 2.9)
    slope = torch.autograd.grad(layer(x).sum(), x)[0]
    torch.testing.assert_close(layer(x), torch.relu(x) * (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(slope, 2 * torch.sigmoid(x))


def test_ties_are_shared_as_torch_shares_them():
    x = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]], dtype=torch.double, requires_grad=True)
    ours = torch.autograd.grad((evosearch.compile("x * max(x, row)").double()(x)).sum(), x)[0]
    theirs = torch.autograd.grad((x * x.amax(-1, keepdim=True)).sum(), x)[0]
    torch.testing.assert_close(ours, theirs)


SINGULAR = [
    "relu(x) ** v where v: layer = 2", "relu(x) ** v where v: channel = 2", "sqrt(relu(x))", "relu(x) ** 0.5", "0 ** abs(x)",
    "log(1 + relu(x)) ** 0.5", "sqrt(relu6(x))", "sqrt(max(x, 0))", "sqrt(1 - min(x, 1))", "relu(x) ** v / std(x, batch) where v: channel = 1.5",
]  # fmt: skip


@pytest.mark.parametrize("text", SINGULAR)
def test_a_slope_of_zero_wins_over_an_infinite_one(text):
    """As in torch's own backward of a rectifier: 0 * inf must not reach the weights as NaN."""
    layer = evosearch.compile(text, 2)
    x = torch.tensor([[-1.0, 0.0], [2.0, -3.0], [0.0, 1.0]])
    found = []
    for form in (layer, layer._plain):
        leaves = [x.clone().requires_grad_(), *layer.parameters()]
        found.append(torch.autograd.grad(form(leaves[0]).sum(), leaves))
    for ours, torchs in zip(*found, strict=True):
        assert torch.isfinite(ours[torch.isfinite(torchs)]).all()
        torch.testing.assert_close(ours[torch.isfinite(torchs)], torchs[torch.isfinite(torchs)])


@pytest.mark.parametrize("text", ["x / sqrt(1 + square(x))", "(x + cube(x)) / (1 + square(x) * square(x))", "log(1 + exp(0.5 * x)) * 2"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_same_in_training_and_evaluation(text, dtype):
    layer = evosearch.compile(text)
    x = torch.tensor([-300.0, -12.0, -0.3, 0.0, 0.7, 12.0, 30.0], dtype=dtype)
    trained = layer(x.clone().requires_grad_()).detach()
    with torch.no_grad():
        assert torch.equal(layer(x), trained)
    torch.testing.assert_close(trained.float(), layer(x.float()), rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(("name", "slope"), [("symlog", 1.0), ("signed_log", 0.0), ("softsign", 1.0), ("gaussian", 0.0)])
def test_an_operator_alone_has_the_slope_of_the_table(name, slope):
    for text in (f"{name}(x)", f"2 * {name}(x)"):
        x = torch.zeros(3, requires_grad=True)
        evosearch.compile(text)(x).sum().backward()
        assert x.grad.tolist() == [slope * (2 if text[0] == "2" else 1)] * 3
