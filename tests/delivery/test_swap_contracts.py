"""evosearch.swap on the models of timm, torchvision and transformers, where they are installed: scripts/test_contracts.sh."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
import torch
from torch import nn

import evosearch

pytestmark = [pytest.mark.contracts, pytest.mark.filterwarnings("default")]
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # kept alive: its schemas go with it


def library(name):
    """The library, or a skip with the reason. A torchvision built for another torch is given the names of its own operators, which models do not call."""
    while True:
        try:
            return importlib.import_module(name)
        except Exception as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                pytest.skip(f"{name} does not import: {type(error).__name__}: {str(error)[:120]}")
            _OPERATORS.define(f"{missing[1]}(Tensor x) -> Tensor")
            for module in [m for m in sys.modules if m.partition(".")[0] in ("torchvision", name)]:
                del sys.modules[module]


def round_trip(model, rules, x, same=False, **options):
    """Swaps, runs, checks that the values are others (or the `same`, to rounding) and that undo gives the same bits."""
    torch.manual_seed(0)
    model.eval()
    with torch.no_grad():
        old = model(x)
        found = evosearch.swap(model, rules, **options)
        new = found.model(x)
        assert new.shape == old.shape
        assert ((new - old).abs().max() < 1e-3 * old.abs().max()) == same
        assert torch.equal(model(x), old)
        assert torch.equal(found.undo()(x), old)
    return evosearch.swap(model, rules, **options)


def test_timm_resnet():
    timm = library("timm")
    model, x = timm.create_model("resnet18", num_classes=7), torch.randn(2, 3, 64, 64)
    found = round_trip(model, {nn.ReLU: "x * sigmoid(1.5 * x)"}, x)
    assert len(found.replaced) == 17
    assert found.new_keys == found.missing_keys == []
    found.model.load_state_dict(model.state_dict())
    pairs = round_trip(model, {(nn.BatchNorm2d, nn.ReLU): "bn_relu"}, x, same=True, functional="fx")
    assert len(pairs.replaced) == 9
    norms = round_trip(model, {nn.BatchNorm2d: "group_norm"}, x)
    assert torch.equal(norms.model.layer1[0].bn1.weight, model.layer1[0].bn1.weight)


def test_timm_norm_act_and_vit():
    timm = library("timm")
    model = timm.create_model("efficientnet_b0", num_classes=3)
    found = round_trip(model, {"bn1": "evonorm_s0"}, torch.randn(2, 3, 64, 64))
    assert found.replaced[0].was == "BatchNormAct2d"
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32)
    assert len(round_trip(vit, {nn.GELU: "silu"}, torch.randn(2, 3, 32, 32)).replaced) == 12


def test_torchvision_resnet():
    models = library("torchvision.models")
    model, x = models.resnet18(num_classes=7), torch.randn(2, 3, 64, 64)
    assert len(round_trip(model, {nn.ReLU: "gelu"}, x, match=True, calibrate=[x]).replaced) == 9
    whole = round_trip(model, {(nn.BatchNorm2d, nn.ReLU): "bn_relu"}, x, same=True, functional="fx")
    assert len(whole.replaced) == 9


def test_transformers_activations():
    activations = library("transformers.activations")
    kind = type(activations.ACT2FN["gelu_new"])
    found = evosearch.swap(nn.Sequential(nn.Linear(4, 4), activations.ACT2FN["gelu_new"]), {kind: "gelu"}, match=True)
    assert found.replaced[0].unexplained < 1e-3
