"""EvoNorms against references written from the published formulas, and the normalization layers against torch.nn."""

from __future__ import annotations

import pytest
import torch

import evosearch
from evosearch.language.library import known

C, GROUPS = 8, 2


def rms(x, dims, eps):
    return (x.square().mean(dims, keepdim=True) + eps).sqrt()


def std(x, dims, eps):
    return (x.var(dims, unbiased=False, keepdim=True) + eps).sqrt()


def grouped(statistic, x, eps):
    """A statistic over the channels of a group and all places: `(N, C, H, W)` -> `(N, C, 1, 1)`."""
    n, c, h, w = x.shape
    value = statistic(x.reshape(n, GROUPS, c // GROUPS, h, w), (2, 3, 4), eps)
    return value.expand(n, GROUPS, c // GROUPS, 1, 1).reshape(n, c, 1, 1)


class Batch:
    """EvoNorm B0, B1, B2 (arXiv 2004.02967, table 2): the batch's standard deviation in training, the running one in evaluation."""

    def __init__(self, name, eps, unbiased, momentum=0.1):
        self.name, self.eps, self.unbiased, self.momentum = name, eps, unbiased, momentum
        self.running = torch.ones(C, dtype=torch.double)

    def __call__(self, x, v, training):
        if training:
            var = x.var((0, 2, 3), unbiased=False)
            tracked = x.var((0, 2, 3), unbiased=self.unbiased).detach()
            self.running = (1 - self.momentum) * self.running + self.momentum * tracked
        else:
            var = self.running
        left = (var + self.eps).sqrt().view(1, -1, 1, 1)
        right = {
            "b0": lambda: v.view(1, -1, 1, 1) * x + std(x, (2, 3), self.eps),
            "b1": lambda: (x + 1) * rms(x, (2, 3), self.eps),
            "b2": lambda: rms(x, (2, 3), self.eps) - x,
        }[self.name]()
        return x / torch.maximum(left, right)


def sample_based(name, eps):
    """EvoNorm S0, S1, S2 and timm's `a` variants: no batch statistics; the statistic is of x before the activation."""
    statistic = rms if name.startswith("s2") else std

    def layer(x, v):
        gate = torch.sigmoid(v.view(1, -1, 1, 1) * x) if name.startswith("s0") else torch.sigmoid(x)
        return x * gate / grouped(statistic, x, eps)

    return layer


def ours(name, **arguments):
    entry = known(name)
    formula = entry.formula.replace(", group", f", group, groups={GROUPS}")
    return evosearch.compile(formula, C, affine=True, tracked_variance=entry.tracked_variance, **arguments).double()


def batch(seed):
    return torch.randn(4, C, 5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


def randomized(layer):
    for i, (_, p) in enumerate(sorted(layer.named_parameters())):
        with torch.no_grad():
            p.copy_(torch.rand(C, dtype=torch.double, generator=torch.Generator().manual_seed(i)) + 0.5)
    return dict(layer.named_parameters())


def assert_same_slopes(out, leaves, expected, twins):
    found, wanted = torch.autograd.grad(out.square().sum(), leaves), torch.autograd.grad(expected.square().sum(), twins)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "reference"),
    [("evonorm_b0", Batch("b0", 1e-3, True)), ("evonorm_b0_official", Batch("b0", 1e-5, False)),
     ("evonorm_b1", Batch("b1", 1e-5, True)), ("evonorm_b2", Batch("b2", 1e-5, True))],
)  # fmt: skip
def test_batch_evonorms_in_training_and_evaluation(name, reference):
    layer = ours(name)
    parts = randomized(layer)
    for training in (True, True, False):
        layer.train(training)
        x, twin = (batch(int(training)).requires_grad_() for _ in range(2))
        out = layer(x)
        expected = reference(twin, parts.get("v0", torch.ones(C)), training) * parts["weight"].view(1, -1, 1, 1) + parts["bias"].view(1, -1, 1, 1)
        torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
        assert_same_slopes(out, [x, *parts.values()], expected, [twin, *parts.values()])
        torch.testing.assert_close(layer.running_var, reference.running, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "eps"), [("s0", 1e-5), ("s0a", 1e-3), ("s1", 1e-5), ("s1a", 1e-3), ("s2", 1e-5), ("s2a", 1e-3)])
@pytest.mark.parametrize("training", [True, False])
def test_sample_evonorms(name, eps, training):
    layer = ours(f"evonorm_{name}").train(training)
    parts = randomized(layer)
    x, twin = (batch(3).requires_grad_() for _ in range(2))
    out = layer(x)
    expected = sample_based(name, eps)(twin, parts.get("v0", torch.ones(C))) * parts["weight"].view(1, -1, 1, 1) + parts["bias"].view(1, -1, 1, 1)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    assert_same_slopes(out, [x, *parts.values()], expected, [twin, *parts.values()])


@pytest.mark.parametrize("apply_act", [True, False])
@pytest.mark.parametrize("name", ["b0", "b1", "b2", "s0", "s1", "s2"])
def test_the_form_without_activation_is_affine_only(name, apply_act):
    """timm: `apply_act=False` skips the statistics of these six; the `a` variants still divide."""
    layer = evosearch.compile(known(f"evonorm_{name}").formula, C, affine=True, apply_act=apply_act)
    assert torch.equal(layer(batch(0)), batch(0)) is not apply_act


@pytest.mark.parametrize("name", ["s0a", "s1a", "s2a"])
def test_the_a_variants_without_activation_still_divide(name):
    entry = known(f"evonorm_{name}")
    layer = evosearch.compile(entry.formula, C, affine=True, apply_act=False).double()
    statistic = rms if name == "s2a" else std
    torch.testing.assert_close(layer(batch(0)), batch(0) / statistic(batch(0), (2, 3), 1e-3))  # 8 groups of one channel each


NORMS = {
    "batch_norm": lambda: torch.nn.BatchNorm2d(C),
    "group_norm": lambda: torch.nn.GroupNorm(C, C),  # 32 groups, lowered until they divide 8
    "instance_norm": lambda: torch.nn.InstanceNorm2d(C),
    "layer_norm_chw": lambda: torch.nn.GroupNorm(1, C),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalization_layers_equal_torch(name):
    layer, theirs = evosearch.compile(known(name).formula, C).double(), NORMS[name]().double()
    for training in (True, True, False):
        layer.train(training)
        theirs.train(training)
        x, twin = (batch(7 + training).requires_grad_() for _ in range(2))
        out, expected = layer(x), theirs(twin)
        torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
        upstream = batch(9)
        torch.testing.assert_close(torch.autograd.grad(out, x, upstream), torch.autograd.grad(expected, twin, upstream), rtol=1e-6, atol=1e-6)
    for buffer, value in layer.named_buffers():
        torch.testing.assert_close(value, getattr(theirs, buffer), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "theirs"), [("layer_norm", torch.nn.LayerNorm(C)), ("rms_norm", torch.nn.RMSNorm(C, eps=1e-6))])
def test_token_normalization_equals_torch(name, theirs):
    layer = evosearch.compile(known(name).formula, C, channel_dim=-1).double()
    x = torch.randn(3, 7, C, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), theirs.double()(x), rtol=1e-6, atol=1e-6)


def test_a_state_dict_of_batch_norm_fits():
    theirs = torch.nn.BatchNorm2d(C)
    theirs(torch.randn(4, C, 3, 3))
    layer = evosearch.compile("(x - mean(x, batch)) / std(x, batch)", C, affine=True)
    missing = layer.load_state_dict({k: v for k, v in theirs.state_dict().items() if k != "num_batches_tracked"})
    assert not missing.missing_keys
    x = torch.randn(2, C, 3, 3)
    torch.testing.assert_close(layer.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["batch", "group", "layer"])
def test_timm_if_it_imports(name):
    timm = pytest.importorskip("timm", reason="timm needs torchvision, which has no CPU build here")
    reference = {"batch": timm.layers.EvoNorm2dB0, "group": timm.layers.EvoNorm2dS0, "layer": timm.layers.EvoNorm2dS1}[name](C)
    entry = known({"batch": "evonorm_b0", "group": "evonorm_s0", "layer": "evonorm_s1"}[name])
    layer = evosearch.compile(entry.formula, C, affine=True)
    x = batch(0).float()
    torch.testing.assert_close(layer(x), reference(x), rtol=1e-4, atol=1e-5)
