"""Training-free scores: against closed forms where there are any, NaN where there is nothing, weights left as they were."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evosearch.judging import proxies


def network(activation, seed=0, width=12):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        slots = [activation(), activation()]
        return nn.Sequential(nn.Linear(6, width), slots[0], nn.Linear(width, width), slots[1], nn.Linear(width, 3)), slots


def batch(n=24):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def scored(activation, seed=0):
    model, slots = network(activation, seed)
    return proxies.scores(model, slots, *batch(), F.cross_entropy)


def test_every_score_is_a_number_and_repeats():
    found = scored(nn.GELU)
    assert set(found) == set(proxies.NAMES)
    assert all(math.isfinite(value) for value in found.values())
    assert found == scored(nn.GELU)
    assert found != scored(nn.GELU, seed=1)


def test_gradient_scores_equal_their_definitions():
    model, slots = network(nn.Tanh)
    found = proxies.scores(model, slots, *batch(), F.cross_entropy)
    model, _ = network(nn.Tanh)
    model, (x, y) = model.double(), batch()
    weights = [p for p in model.parameters() if p.dim() > 1]
    slopes = torch.autograd.grad(F.cross_entropy(model(x.double()), y), weights)
    assert found["grad_norm"] == pytest.approx(math.sqrt(sum(float((g**2).sum()) for g in slopes)))
    assert found["snip"] == pytest.approx(sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, slopes, strict=True)))


def test_grasp_is_the_hessian_gradient_product():
    model, slots = network(nn.Tanh)
    found = proxies.scores(model, slots, *batch(), F.cross_entropy)["grasp"]
    weights = [p for p in model.parameters() if p.dim() > 1]
    start = [w.detach().clone() for w in weights]

    def slopes():
        x, y = batch()
        return torch.autograd.grad(F.cross_entropy(model(x.double()), y), weights)

    first, reach, moved = slopes(), 1e-5, []
    for sign in (1, -1):  # the gradient's own derivative along itself, by differences
        with torch.no_grad():
            for w, s, g in zip(weights, start, first, strict=True):
                w.copy_(s + sign * reach * g)
        moved.append(slopes())
    product = [(a - b) / (2 * reach) for a, b in zip(*moved, strict=True)]
    assert found == pytest.approx(-sum(float((s * h).sum()) for s, h in zip(start, product, strict=True)), rel=1e-4)


def test_a_linear_network_has_the_flattest_kernel_of_slopes():
    assert scored(nn.Identity)["slope_kernel"] < scored(nn.ReLU)["slope_kernel"]


def test_the_entropy_of_a_gaussian_at_unit_variance():
    """With identities the slots are Gaussian: 0.5 log(2 pi e), but for the histogram."""
    model, slots = network(nn.Identity, width=256)
    found = proxies.entropy(model.double(), slots, torch.randn(400, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0)), None, None)
    assert found == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.05)


def test_weights_and_mode_are_left_as_they_were():
    model, slots = network(nn.SiLU)
    before = [p.detach().double().clone() for p in model.parameters()]
    proxies.scores(model, slots, *batch(), F.cross_entropy)
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, model.parameters(), strict=True))
    assert model.training


def test_what_cannot_be_computed_is_nan_and_the_rest_is_there():
    class Overflow(nn.Module):
        def forward(self, x):
            return torch.exp(x * 1000)

    found = scored(Overflow)
    assert math.isnan(found["grad_norm"])
    assert set(found) == set(proxies.NAMES)
