"""match= and calibrate=: a trained model keeps its accuracy with another activation, without training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import evosearch
from evosearch.delivery.swap.fit import fit, gaussian_inputs, scaled
from evosearch.language.formula import parse
from evosearch.language.graph import walk
from evosearch.meaning.numeric import evaluate


class Net(nn.Module):
    """A small network of the usual parts: BatchNorm, ReLU modules and a functional one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.fc1, self.fc2 = nn.Linear(256, 32), nn.Linear(32, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(self.stem(x).flatten(1))))


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x, y = torch.tensor(data.images[:, None] / 8.0 - 1.0, dtype=torch.float32), torch.tensor(data.target)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    return x[order[:1000]], y[order[:1000]], x[order[1000:]], y[order[1000:]]


@pytest.fixture(scope="module")
def trained(digits):
    x, y, *_ = digits
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        part = slice(step % 10 * 100, step % 10 * 100 + 100)
        optimizer.zero_grad()
        F.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    return model.eval()


def accuracy(model, digits):
    with torch.no_grad():
        return 100 * float((model(digits[2]).argmax(1) == digits[3]).float().mean())


REPLACEMENTS = ["gelu", "silu", "softplus", "mish", "elu", "x * sigmoid(v * x) where v: layer = 1"]


def test_relu_to_its_best_match_keeps_the_accuracy_within_a_point(trained, digits):
    before = accuracy(trained, digits)
    assert before > 93
    batches = list(digits[0].split(100))[:4]
    raw, after = {}, {}
    for formula in REPLACEMENTS:
        raw[formula] = accuracy(evosearch.swap(trained, {nn.ReLU: formula}, functional="fx").model, digits)
        found = evosearch.swap(trained, {nn.ReLU: formula}, functional="fx", match=True, calibrate=batches)
        assert len(found.replaced) == 3
        after[formula] = accuracy(found.model, digits)
        print(f"{formula:40} relu {before:.1f}  put in {raw[formula]:.1f}  matched and calibrated {after[formula]:.1f}")
        if found.new_keys == []:
            found.model.load_state_dict(trained.state_dict())
    assert min(after.values()) >= before - 1.0
    assert min(raw.values()) < before - 3.0  # so there was something to keep
    assert accuracy(trained, digits) == before


def test_norms_are_calibrated_per_channel(trained, digits):
    before, batches = accuracy(trained, digits), list(digits[0].split(100))[:4]
    raw = evosearch.swap(trained, {nn.BatchNorm2d: "layer_norm"})
    found = evosearch.swap(trained, {nn.BatchNorm2d: "layer_norm"}, calibrate=batches)
    print(f"layer_norm: {before:.1f} put in {accuracy(raw.model, digits):.1f} calibrated {accuracy(found.model, digits):.1f}")
    assert accuracy(found.model, digits) > accuracy(raw.model, digits) - 0.5
    with torch.no_grad():
        x = torch.cat(batches)
        old, new = trained.stem[:2](x), found.model.stem[:2](x)
    assert torch.allclose(old.mean((0, 2, 3)), new.mean((0, 2, 3)), atol=1e-3)
    assert torch.allclose(old.std((0, 2, 3)), new.std((0, 2, 3)), rtol=1e-3)
    assert not torch.allclose(raw.model.stem[:2](x).std((0, 2, 3)), old.std((0, 2, 3)), rtol=1e-2)


def test_new_running_statistics_are_estimated(trained, digits):
    batches = list(digits[0].split(100))[:4]
    formula = "x / std(square(x), batch) * w + b where w: channel = 1, b: channel = 0"
    found = evosearch.swap(trained, {"stem.1": formula}, calibrate=batches)
    layer = found.model.stem[1]
    assert not any(torch.equal(b, torch.ones_like(b)) for name, b in layer.named_buffers() if name.startswith("running_var"))
    assert not layer.training
    assert layer.momentum == 0.1
    assert all(not module.training for module in found.model.modules())


def test_calibration_changes_nothing_but_the_new_layers(trained, digits):
    trained.stem.train()  # modes are put back as they were, a mixture too
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    found = evosearch.swap(trained, {nn.ReLU: "silu"}, match=True, calibrate=digits[0][:100])
    trained.stem.train(False)
    assert found.model.stem[1].training
    assert not found.model.fc1.training
    now = found.model.state_dict()
    assert all(torch.equal(now[key], value) for key, value in before.items())
    assert all(row.scale is not None and row.unexplained is not None for row in found.replaced)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in found.model.modules())


def test_the_fit_finds_what_was_hidden():
    x = gaussian_inputs()
    hidden = parse("0.7 * silu(1.6 * x) - 0.3")
    found = fit(parse("silu(x)"), lambda t: torch.from_numpy(evaluate(hidden, {"x": t.double().numpy()})), x)
    assert found.unexplained < 1e-6
    assert np.allclose(evaluate(found.graph, {"x": x.double().numpy()}), evaluate(hidden, {"x": x.double().numpy()}), atol=1e-3)
    learned = fit(parse("x * sigmoid(v * x) where v: layer = 1"), lambda t: t * torch.sigmoid(2 * t), x)
    assert learned.unexplained < 1e-6
    mirrored = fit(parse("relu(x)"), lambda t: torch.relu(-t) + 1, x)
    assert mirrored.unexplained < 1e-9
    assert fit(parse("relu(x)"), lambda t: t * 0 + 1, x) is None
    assert fit(parse("log(x - 1000)"), torch.relu, x) is None


def test_the_slope_stays_within_three():
    """Without a limit softplus(b x) / b would become ReLU itself."""
    found = fit(parse("softplus(x)"), torch.relu, gaussian_inputs())
    inner = next(number for number in map(float, str(found.graph).replace("(", " ").replace(")", " ").split()[3:4]))
    assert math.isclose(inner, 3.0, rel_tol=1e-3)
    assert 1e-4 < found.unexplained < 0.02


@pytest.mark.parametrize("formula", ["relu(x)", "0.5 * silu(x) + 2", "relu(x) ~ relu(x + 0.1)", "3 * x"])
def test_a_scale_and_a_shift_join_those_that_are_there(formula):
    graph, x = parse(formula), np.linspace(-3, 3, 7)
    once = scaled(graph, 2.0, -1.0)
    twice = scaled(once, 0.5, 0.25)
    assert np.allclose(evaluate(once, {"x": x}), 2 * evaluate(graph, {"x": x}) - 1)
    assert np.allclose(evaluate(twice, {"x": x}), evaluate(graph, {"x": x}) - 0.25)
    assert len([node for node in walk(twice) if node.op == "constant"]) <= 2 + (graph.op == "surrogate")


def test_match_says_what_it_cannot_fit():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    found = evosearch.swap(model, {nn.ReLU: "x / std(x, layer)"}, match=True)
    assert "not matched: the formula has statistics" in "\n".join(found.warnings)
    assert evosearch.swap(model, {nn.ReLU: nn.GELU}, match=True, calibrate=torch.randn(3, 4)).warnings[0].endswith("without a weight and a bias")
