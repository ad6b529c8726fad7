"""evosearch.swap: rules, what is carried over, functional calls, and the way back."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import evosearch
from evosearch.delivery.swap.rules import SwapError
from tests.delivery.swapmodels import Aliased, BasicBlock, Functional, ResNet, Untraceable, ready

LEAKY = "max(x, 0.1 * x)"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def leaky(x):
    return F.leaky_relu(x, 0.1)


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same_state(model, before):
    now = model.state_dict()
    return list(now) == list(before) and all(torch.equal(now[key], value) for key, value in before.items())


def test_a_resnet_gets_the_layer_and_undo_gives_the_same_bits():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    before, old = state(model), model(x)
    found = evosearch.swap(model, {nn.ReLU: LEAKY})
    assert [row.name for row in found.replaced] == ["relu", "layer1.0.relu", "layer1.1.relu", "layer2.0.relu"]
    reference = copy.deepcopy(model)
    for module in list(reference.modules()):
        if hasattr(module, "relu"):
            module.relu = nn.LeakyReLU(0.1)
    assert torch.allclose(found.model(x), reference(x), atol=1e-6)
    assert not torch.equal(found.model(x), old)
    assert found.new_keys == found.missing_keys == []
    found.model.load_state_dict(before)  # a checkpoint of the old model still loads
    assert torch.equal(model(x), old)  # a copy was changed
    assert same_state(model, before)
    assert torch.equal(found.undo()(x), old)
    assert torch.equal(found.model(x), old)
    assert [type(m) for m in found.model.modules()] == [type(m) for m in model.modules()]


def test_inplace_changes_the_model_and_undo_restores_it():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    old, before = model(x), list(model.named_modules())
    found = evosearch.swap(model, {nn.ReLU: "gelu"}, inplace=True)
    assert found.model is model
    assert not torch.equal(model(x), old)
    found.undo()
    assert torch.equal(model(x), old)
    assert list(model.named_modules()) == before


def test_a_dry_run_shows_the_table_and_changes_nothing():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    old, before = model(x), list(model.named_modules())
    found = evosearch.swap(model, {nn.ReLU: "gelu", nn.BatchNorm2d: "group_norm"}, dry_run=True, inplace=True)
    assert found.model is model
    assert len(found.replaced) == 4 + 8
    assert "would be replaced" in str(found)
    assert "gelu(x)" in str(found)
    assert list(model.named_modules()) == before
    assert torch.equal(found.undo()(x), old)


def test_a_failure_midway_leaves_the_model_as_it_was():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    old, before = model(x), list(model.named_modules())

    def broken(num_features):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        evosearch.swap(model, {nn.ReLU: "gelu", nn.BatchNorm2d: broken}, inplace=True)
    assert list(model.named_modules()) == before
    assert torch.equal(model(x), old)


def test_norms_carry_over_channels_state_mode_dtype_and_names():
    model, x = ready(ResNet().double(), 2, 3, 8, 8)
    x = x.double()
    model.layer1[0].bn1.train()
    model.layer1[0].bn2.weight.requires_grad_(False)
    found = evosearch.swap(model, {nn.BatchNorm2d: "batch_norm"})
    assert found.missing_keys == sorted(key for key in model.state_dict() if key.endswith("num_batches_tracked"))
    assert found.new_keys == []
    new, old = found.model.layer1[0], model.layer1[0]
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(new.bn1, name), getattr(old.bn1, name))
        assert getattr(new.bn1, name).dtype == torch.float64
    assert new.bn1.training
    assert not new.bn2.training
    assert not new.bn2.weight.requires_grad
    assert new.bn2.bias.requires_grad
    assert new.bn1.weight is not old.bn1.weight
    new.bn1.eval()
    old.bn1.eval()
    assert torch.allclose(found.model(x), model(x), atol=1e-8)  # BatchNorm for BatchNorm
    found.model.load_state_dict(model.state_dict(), strict=False)


@pytest.mark.parametrize(("old", "formula", "shape"), [
    (nn.LayerNorm(6), "layer_norm", (2, 5, 6)), (nn.LayerNorm(6), "dyt", (2, 5, 6)), (nn.LayerNorm(6, bias=False), "rms_norm", (3, 6)),
    (nn.GroupNorm(2, 6), "group_norm", (2, 6, 4, 4)), (nn.InstanceNorm2d(6, affine=True), "frn", (2, 6, 4, 4)), (nn.BatchNorm1d(6), "layer_norm", (4, 6)),
])  # fmt: skip
def test_every_norm_tells_its_channels(old, formula, shape):
    for parameter in old.parameters():
        nn.init.normal_(parameter)
    model, x = nn.Sequential(old).eval(), torch.randn(*shape)
    found = evosearch.swap(model, {type(old): formula})
    assert found.model(x).shape == x.shape
    assert torch.equal(found.model[0].weight, old.weight)
    if formula == "layer_norm" and isinstance(old, nn.LayerNorm):
        assert torch.allclose(found.model(x), model(x), atol=1e-5)


def test_what_cannot_be_carried_is_said():
    model = nn.Sequential(nn.GroupNorm(3, 6, eps=1e-3), nn.LayerNorm([4, 4]), nn.LayerNorm(4))
    found = evosearch.swap(model, {nn.GroupNorm: "group_norm", nn.LayerNorm: "rms_norm"})
    notes = "\n".join(found.warnings)
    assert "0: eps was 0.001, is 1e-05" in notes
    assert "groups were 3" in notes
    assert "2: not carried over: bias" in notes
    assert [row.name for row in found.left] == ["1"]
    assert "weight for each element" in found.left[0].notes[0]


def test_rules_take_types_names_expressions_predicates_and_the_first_counts():
    model = ready(ResNet(), 1)[0]
    rules = {
        "layer1.0.relu": "silu", re.compile("^layer1"): "tanh",
        (lambda name, module: isinstance(module, nn.ReLU) and name.startswith("layer2")): lambda: nn.Mish(), nn.ReLU: evosearch.parse("gelu(x)"),
    }  # fmt: skip
    found = evosearch.swap(model, rules)
    assert {row.name: row.becomes for row in found.replaced} == {
        "layer1.0.relu": "silu(x)", "layer1.1.relu": "tanh(x)", "layer2.0.relu": "Mish", "relu": "gelu(x)",
    }  # fmt: skip
    assert isinstance(found.model.layer1[0].bn1, nn.BatchNorm2d)  # an expression takes places of the replacement's kind
    assert {row.name for row in evosearch.swap(model, {re.compile("bn1$"): "group_norm"}).replaced} == {
        "bn1", "layer1.0.bn1", "layer1.1.bn1", "layer2.0.bn1",
    }  # fmt: skip


def test_a_factory_gets_the_channels_if_it_takes_them():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    found = evosearch.swap(model, {nn.BatchNorm2d: lambda channels: nn.GroupNorm(2, channels), nn.ReLU: nn.SiLU})
    assert isinstance(found.model.layer2[0].bn1, nn.GroupNorm)
    assert torch.equal(found.model.layer2[0].bn1.weight, model.layer2[0].bn1.weight)
    assert found.model(x).shape == (2, 5)
    assert isinstance(evosearch.swap(model, {nn.BatchNorm2d: nn.InstanceNorm2d}).model.bn1, nn.InstanceNorm2d)


@pytest.mark.parametrize(("rules", "words"), [
    ({nn.GELU: "silu"}, r"matches nothing.*there are nn.BatchNorm2d, nn.ReLU"),
    ({"layer1.0.relue": "silu"}, r"did you mean `layer1.0.relu`"),
    ({re.compile("^block"): "silu"}, r"matches nothing.*named"),
    ({nn.modules.batchnorm._BatchNorm: "group_norm"}, r"a type is meant exactly, and there are only nn.BatchNorm2d"),
    ({nn.ReLU: "siluu"}, r"nn.ReLU=siluu`: unknown layer `siluu`; did you mean `silu`"),
    ({nn.ReLU: "silu(x"}, r"nn.ReLU=silu\(x`: column"),
    ({nn.ReLU: "x * sigmoid(y)"}, r"takes two inputs"),
    ({nn.ReLU: nn.GELU()}, r"give a factory, e.g. lambda: GELU\(\)"),
    ({nn.ReLU: 3}, r"a formula, a known layer's name, a Graph or a factory"),
    ({3: "silu"}, r"a key is a type of module"),
    ({int: "silu"}, r"must be one of torch.nn.Module"),
    ({nn.Conv2d: "silu"}, r"swap replaces activations and norms; nn.Conv2d is neither"),
    ({"layer1": "silu"}, r"with modules of its own"),
    ({F.relu: "silu"}, r"matches nothing"),
    ({(nn.BatchNorm2d, nn.GELU): "evonorm_s0"}, r"no nn.BatchNorm2d has a nn.GELU right behind it"),
    ({}, r"rules map"), ("nn.ReLU=silu", r"rules map"),
])  # fmt: skip
def test_errors_say_the_rule_and_the_fix(rules, words):
    with pytest.raises(SwapError, match=words):
        evosearch.swap(ready(ResNet(), 1)[0], rules)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(SwapError, match="report` or `fx"):
        evosearch.swap(nn.Sequential(nn.ReLU()), {nn.ReLU: "gelu"}, functional="all")
    with pytest.raises(SwapError, match=r"put it into nn\.Sequential"):
        evosearch.swap(nn.ReLU(), {nn.ReLU: "gelu"})
    with pytest.raises(SwapError, match=r"takes a torch.nn.Module"):
        evosearch.swap("model", {nn.ReLU: "gelu"})
    with pytest.raises(SwapError, match="a batch is a tensor"):
        evosearch.swap(nn.Sequential(nn.ReLU()), {nn.ReLU: "gelu"}, calibrate=["a"])
    with pytest.raises(SwapError, match="received none"):
        evosearch.swap(nn.Sequential(nn.ReLU()), {nn.ReLU: "gelu"}, calibrate=[])


def test_a_module_at_two_places_stays_one():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)
    found = evosearch.swap(model, {"3": "x * sigmoid(v * x) where v: layer = 1"})
    assert found.model[1] is found.model[3]
    assert [row.name for row in found.replaced] == ["1, 3"]
    assert found.undo()[1] is found.model[3]


def test_channels_of_an_activation_come_from_the_layer_before_it():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    found = evosearch.swap(model, {nn.ReLU: "x * sigmoid(v * x) where v: channel = 1"})
    assert found.model.layer2[0].relu.num_features == 16
    assert found.new_keys == ["layer1.0.relu.v0", "layer1.1.relu.v0", "layer2.0.relu.v0", "relu.v0"]
    assert found.model(x).isfinite().all()
    tokens = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    assert evosearch.swap(tokens, {nn.ReLU: "prelu"}).model(torch.randn(2, 3, 4)).shape == (2, 3, 6)
    many = nn.Sequential(nn.Conv2d(3, 4, 1), act := nn.ReLU(), nn.Conv2d(4, 6, 1), act)
    with pytest.raises(SwapError, match="called with 4 and 6 channels"):
        evosearch.swap(many, {nn.ReLU: "prelu"})
    unknown = nn.Sequential(nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(SwapError, match="calibrate="):
        evosearch.swap(unknown, {nn.ReLU: "prelu"})
    assert evosearch.swap(unknown, {nn.ReLU: "prelu"}, calibrate=torch.randn(3, 4)).model[0].num_features == 4


def test_functional_calls_are_reported_with_their_lines_and_rewritten_on_request():
    model, x = ready(Functional(), 2, 1, 8, 8)
    old = model(x)
    with pytest.raises(SwapError, match=r"none of the 3 places.*swapmodels.py:\d+.*functional='fx'"):
        evosearch.swap(model, {nn.ReLU: LEAKY})
    found = evosearch.swap(model, {nn.ReLU: LEAKY}, functional="fx")
    assert [(row.name, row.was) for row in found.replaced] == [("relu_0", "F.relu"), ("relu_1", "x.relu()"), ("relu_2", "torch.relu")]
    with torch.no_grad():
        hidden = F.max_pool2d(leaky(model.conv(x)), 2).flatten(1)
        assert torch.allclose(found.model(x), model.fc2(leaky(leaky(model.fc1(hidden)))), atol=1e-6)
    assert found.new_keys == found.missing_keys == []
    assert list(found.model.state_dict()) == list(model.state_dict())
    assert found.model.scale == 2.0
    found.model.train()
    assert not torch.equal(found.model(x), found.model(x))  # the dropout reads the mode when it runs
    found.model.eval()
    assert torch.equal(found.undo()(x), old)
    with pytest.raises(SwapError, match="inplace=True cannot change the forward of the model itself"):
        evosearch.swap(model, {nn.ReLU: LEAKY}, functional="fx", inplace=True)
    only = evosearch.swap(model, {"relu_1": "tanh", torch.relu: "silu"}, functional="fx")  # one function stands for all that do the same
    assert {row.name: row.becomes for row in only.replaced} == {"relu_0": "silu(x)", "relu_1": "tanh(x)", "relu_2": "silu(x)"}


def test_functional_calls_inside_a_block_keep_the_rest_of_the_model():
    model, x = nn.Sequential(Functional(), nn.Linear(3, 3)).eval(), torch.randn(2, 1, 8, 8)
    old = model(x)
    found = evosearch.swap(model, {nn.ReLU: "gelu"}, functional="fx", inplace=True)
    assert not torch.equal(model(x), old)
    assert type(model[0]).__name__ == "Functional"
    found.undo()
    assert torch.equal(model(x), old)
    assert isinstance(model[0], Functional)


def test_what_fx_cannot_trace_is_reported_with_the_reason():
    model = nn.Sequential(Untraceable(), nn.ReLU())
    found = evosearch.swap(model, {nn.ReLU: "gelu"}, functional="fx")
    assert [row.name for row in found.replaced] == ["1"]
    (row,) = found.left
    assert row.was == "F.relu"
    assert "fx cannot trace it (TraceError" in row.notes[0]


class Optional(nn.Module):
    def forward(self, x, mask=None):
        x = F.relu(x)
        return x if mask is None else x * mask


class Checked(nn.Module):
    def forward(self, x):
        return F.relu(x) if isinstance(x, torch.Tensor) else x


class Asking(nn.Module):
    def forward(self, x):
        y = F.relu(x)
        return y if isinstance(y, torch.Tensor) else x


class Moody(nn.Module):
    def forward(self, x):
        return F.relu(x) if self.training else torch.tanh(F.relu(x))


class Noisy(nn.Module):
    def forward(self, x):
        return F.relu(x) + torch.randn(3)


@pytest.mark.parametrize(("block", "words"), [
    (Optional(), "optional argument `mask`"), (Checked(), "isinstance"), (Asking(), "isinstance"),
    (Moody(), "another way in training"), (Noisy(), "makes a tensor"),
])  # fmt: skip
def test_a_trace_that_would_freeze_something_is_refused(block, words):
    with pytest.raises(SwapError, match=words):
        evosearch.swap(nn.Sequential(block, nn.Linear(3, 3)), {nn.ReLU: "gelu"}, functional="fx")


def test_in_place_activations_whose_input_is_read_again():
    model, x = Aliased(), torch.randn(3, 4)
    found = evosearch.swap(model, {nn.ReLU: LEAKY})
    assert any("in place" in note for note in found.warnings)
    h = model.fc(x)
    assert torch.allclose(found.model(x), leaky(h) + h)
    kept = evosearch.swap(model, {nn.ReLU: LEAKY}, functional="fx")
    assert not any("in place" in note for note in kept.warnings)
    assert torch.allclose(kept.model(x), 2 * leaky(h))
    assert not any("in place" in note for note in evosearch.swap(ready(ResNet(), 1)[0], {nn.ReLU: LEAKY}).warnings)


def test_pairs_of_norm_and_activation():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Identity(), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    model, x = ready(model, 2, 3, 8, 8)
    old = model(x)
    found = evosearch.swap(model, {(nn.BatchNorm2d, nn.ReLU): "bn_relu"})
    assert [(row.name, row.was) for row in found.replaced] == [("1", "nn.BatchNorm2d + nn.ReLU")]
    assert isinstance(found.model[3], nn.Identity)
    assert isinstance(found.model[5], nn.BatchNorm2d)
    assert torch.allclose(found.model(x), old, atol=1e-5)
    assert found.new_keys == []
    evo = evosearch.swap(model, {(nn.BatchNorm2d, nn.ReLU): "evonorm_s0"})
    assert torch.equal(evo.model[1].weight, torch.ones(8))  # behind the activation it means something else
    assert "not carried over: weight, bias" in "\n".join(evo.warnings)
    assert torch.equal(evo.undo()(x), old)


def test_pairs_whose_activation_is_called_elsewhere_too():
    model, x = ready(ResNet(), 2, 3, 8, 8)
    old = model(x)
    found = evosearch.swap(model, {(nn.BatchNorm2d, nn.ReLU): "bn_relu"})
    assert [row.name for row in found.replaced] == ["bn1"]
    assert [row.name for row in found.left] == ["layer1.0.bn1", "layer1.1.bn1", "layer2.0.bn1"]
    assert "called at 2 places; functional='fx'" in found.left[0].notes[0]
    whole = evosearch.swap(model, {(nn.BatchNorm2d, nn.ReLU): "bn_relu"}, functional="fx")
    assert len(whole.replaced) == 4
    assert whole.left == []
    assert torch.allclose(whole.model(x), old, atol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for name, m in whole.model.named_modules() if name.endswith("bn1"))
    assert isinstance(whole.model.layer1[0].relu, nn.ReLU)  # the one after the addition
    assert torch.equal(whole.undo()(x), old)
    assert isinstance(whole.model.layer1[0], BasicBlock)


def test_hooks_and_parametrizations_are_reported():
    model = nn.Sequential(nn.ReLU(), nn.LayerNorm(4), nn.ReLU())
    model[0].register_forward_hook(lambda *_: None)
    weight_norm(model[1], dim=None)
    found = evosearch.swap(model, {nn.ReLU: "gelu", nn.LayerNorm: "layer_norm"})
    notes = "\n".join(found.warnings)
    assert "0: hooks of the old module, not carried over: 1" in notes
    assert "1: the old module is parametrized" in notes
    assert torch.equal(found.model[1].weight, model[1].weight)
    assert len(found.undo()[0]._forward_hooks) == 1


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.soft = nn.Sigmoid(), nn.Softmax(-1)

    def forward(self, x):
        return self.soft(x * self.gate(x))


def test_gates_and_softmax_are_warned_of():
    notes = "\n".join(evosearch.swap(Gate(), {nn.Sigmoid: "hardtanh", nn.Softmax: "softmax_1"}).warnings)
    assert "gate: a gate" in notes
    assert "works over an axis" in notes
    with pytest.raises(SwapError, match="GLU halves"):
        evosearch.swap(nn.Sequential(nn.GLU()), {nn.GLU: "gelu"})


def test_a_transformer_with_a_functional_activation_and_a_fast_path():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval(), torch.randn(2, 5, 8)
    with torch.no_grad():
        old = model(x)
        found = evosearch.swap(model, {nn.ReLU: "x * 0"})  # without its feed-forward part a layer is easy to check
        assert [row.name for row in found.replaced] == ["layers.0.activation", "layers.1.activation"]
        assert all(layer.activation_relu_or_gelu == 0 for layer in found.model.layers)
        fast = found.model(x)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            assert torch.allclose(fast, found.model(x), atol=1e-5)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        assert not torch.allclose(fast, old, atol=1e-3)
        assert torch.equal(found.undo()(x), old)
        assert found.model.layers[0].activation is F.relu
        norms = evosearch.swap(model, {nn.LayerNorm: "dyt"})
        assert len(norms.replaced) == 4
        assert not torch.allclose(norms.model(x), old, atol=1e-3)  # the fast path would not have called them
        assert torch.equal(norms.undo()(x), old)
        mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
        assert evosearch.swap(model, {F.relu: "gelu"}).model(x, src_key_padding_mask=mask).shape == (2, 5, 8)


class LayerNorm2d(nn.LayerNorm):
    """timm's: over the channels of (N, C, H, W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NewGELUActivation(nn.Module):
    """As transformers has it."""

    def forward(self, x):
        return F.gelu(x, approximate="tanh")


class NormAct(nn.BatchNorm2d):
    """timm's BatchNormAct2d: a BatchNorm with its activation."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


def test_classes_of_other_libraries():
    model, x = ready(nn.Sequential(nn.Conv2d(3, 4, 1), LayerNorm2d(4), NewGELUActivation(), NormAct(4)), 2, 3, 5, 5)
    found = evosearch.swap(model, {LayerNorm2d: "layer_norm", NewGELUActivation: "gelu", NormAct: "bn_relu"})
    assert torch.allclose(found.model(x), model(x), atol=2e-3)
    assert found.model[1].channel_dim == 1
    with pytest.raises(SwapError, match="a type is meant exactly, and there are only NormAct"):
        evosearch.swap(model, {nn.BatchNorm2d: "group_norm"})  # it would lose the activation


def test_the_new_model_trains_and_can_be_copied():
    model = evosearch.swap(ResNet(), {nn.ReLU: "x * sigmoid(v * x) where v: layer = 1", nn.BatchNorm2d: "frn"}).model
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    again = copy.deepcopy(evosearch.swap(Functional(), {nn.ReLU: "gelu"}, functional="fx").model.eval())
    assert again(torch.randn(2, 1, 8, 8)).shape == (2, 3)
