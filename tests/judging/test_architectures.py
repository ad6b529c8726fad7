"""Every architecture with every slot it has: it trains, the layer gets gradients, the knobs do what they say."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from evosearch.compiler.module import compile as compile_layer
from evosearch.judging.architectures import BUILDERS, build
from evosearch.judging.objectives import OWN, SLOTS, TASKS, check_slot, parse_pair
from evosearch.judging.tasks import task
from evosearch.judging.train import train
from evosearch.language.library import known

FILLERS = {
    "act": partial(compile_layer, "a * x * sigmoid(x) where a: layer = 1"),
    "norm_act": partial(compile_layer, known("evonorm_b0").graph, affine=True),
    "gate": partial(compile_layer, "x * sigmoid(x) * y"),
    "attention": partial(compile_layer, "exp(v * x - max(v * x, row)) / sum(exp(v * x - max(v * x, row)), row) where v: channel = 1"),
}
PAIRS = {a: f"{name}/{a}" for name, measure in TASKS.items() for a in measure.architectures}
CASES = [(pair, slot) for a, pair in PAIRS.items() for slot in SLOTS.get(a, ("act",))]


def built(pair, slot="act", layer=None):
    named = parse_pair(pair)
    data = task(named.task).load(named.variant)
    return build(named.architecture, layer or FILLERS[slot], named.width, data.train[0][:2], data.outputs, slot, named.depth), data


def test_every_architecture_is_of_some_task():
    assert set(BUILDERS) == set(PAIRS) - {OWN}


@pytest.mark.parametrize(("pair", "slot"), CASES)
def test_every_slot_trains(pair, slot):
    found = train(pair, FILLERS[slot], 0, 1.0, 2, slot=slot)
    assert math.isfinite(found.validation)
    assert math.isfinite(found.test())


@pytest.mark.parametrize(("pair", "slot"), CASES)
def test_every_layer_in_a_slot_is_used(pair, slot):
    model, data = built(pair, slot)
    model(data.train[0][:8]).float().square().mean().backward()
    layers = [m for m in model.modules() if "evosearch_layer" in type(m).__module__]
    assert layers
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for m in layers for p in m.parameters())
    if slot == "norm_act":
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize("architecture", list(PAIRS))
def test_depth_and_width_count(architecture):
    pair = PAIRS[architecture].partition("/")[0]

    def size(knobs):
        model, _ = built(f"{pair}/{architecture}{knobs}", layer=lambda features: nn.ReLU())
        return sum(p.numel() for p in model.parameters())

    assert size(".12x4") > size(".12x3") > 0
    assert size(".24x3") > size(".12x3")


def test_a_gated_network_has_as_many_parameters():
    plain, gated = (sum(p.numel() for p in built("charlm/transformer", slot)[0].parameters()) for slot in ("act", "gate"))
    assert gated == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("pair", ["charlm/transformer", "recall/vit"])
def test_softmax_in_the_slot_is_the_usual_attention(pair):
    graph = known("softmax").graph
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        usual, data = built(pair, layer=lambda features: nn.GELU())
        torch.manual_seed(0)
        slot, _ = built(pair, "attention", partial(compile_layer, graph))
    torch.testing.assert_close(slot(data.train[0][:4]), usual(data.train[0][:4]), rtol=1e-4, atol=1e-5)


def test_what_is_masked_enters_no_statistic():
    model, data = built("charlm/transformer", "attention", partial(compile_layer, "x / std(x, row) + 1 / sum(1, row)"))
    tokens = data.train[0][:3].clone()
    before = model(tokens)
    tokens[:, 20:] = tokens[:, 20:].flip(1)
    after = model(tokens)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


@pytest.mark.parametrize(
    ("pair", "slot", "message"), [("photo/inr", "gate", "inr has the slots act"), ("textures/resnet", "norm_acts", "did you mean `norm_act`")]
)
def test_a_slot_that_is_not_there(pair, slot, message):
    with pytest.raises(ValueError, match=message):
        check_slot(pair, slot)


@pytest.mark.parametrize("pair", ["digits/mlp.3", "digits/mlp.16x0", "digits/mlp.16x101", "digits/mlp.x4", "digits/mlp.16x", "digits/mlp.1٣"])
def test_a_size_out_of_range(pair):
    with pytest.raises(ValueError, match="whole number"):
        parse_pair(pair)
