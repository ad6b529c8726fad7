"""Networks as candidates: every choice builds and trains, every slot stands where it is said to, and errors list what there is."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from evosearch.compiler.module import compile as compile_layer
from evosearch.job import Job
from evosearch.judging.architectures import BUILDERS, Layers
from evosearch.judging.architectures.slots import SlotsError
from evosearch.judging.evaluate import Plan, Stage, evaluate
from evosearch.judging.networks import KNOBS, STAGES, check_choices, network_of
from evosearch.judging.objectives import OWN, TASKS, check_slot
from evosearch.judging.preflight import check_networks
from evosearch.judging.train import layers_of, network, train, untrained
from evosearch.language.candidate import parse_candidate

PAIRS = {a: f"{name}/{a}" for name, measure in TASKS.items() for a in measure.architectures if a != OWN}
PAIR = "textures/stages"
VALUES = [(name, value) for name, knob in KNOBS["stages"].items() for value in (knob.values or (2 * knob.usual,))]


def marked(number):
    """A ReLU that says which slot it is of."""

    def make(*features, **options):
        layer = nn.ReLU()
        layer.site = number
        return layer

    return make


def sites_in_order(pair, layers):
    """The slots in the order in which a forward pass meets them."""
    model, met = network(pair, layers), []
    for module in model.modules():
        if hasattr(module, "site"):
            module.register_forward_hook(lambda module, given, out: met.append(module.site))
    from evosearch.judging.objectives import parse_pair
    from evosearch.judging.tasks import task

    model(task(parse_pair(pair).task).load(parse_pair(pair).variant).train[0][:2])
    return met


@pytest.mark.parametrize("architecture", [a for a in BUILDERS if a not in STAGES])
def test_slots_are_numbered_as_the_input_meets_them(architecture):
    for size in ("", ".12x4"):
        pair = f"{PAIRS[architecture]}{size}"
        count = len(sites_in_order(pair, Layers([marked(0)])))
        assert sites_in_order(pair, Layers([marked(i) for i in range(count)])) == list(range(count))
        for wrong in (count - 1, count + 1):
            if wrong > 1:
                with pytest.raises(SlotsError, match=f"makes {count} activations"):
                    network(pair, Layers([marked(0)] * wrong))


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_slots_of_stages_are_its_stages(placement):
    met = sites_in_order(PAIR, Layers([marked(0), marked(1)], {"placement": placement, "depth": 2}))
    assert met == sorted(met)
    assert set(met) == {0, 1}
    with pytest.raises(SlotsError, match="act0, act1; received act0 to act2"):
        network(PAIR, Layers([marked(0)] * 3))


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_every_choice_trains_and_is_of_its_own(name, value):
    check_choices(PAIR, {name: value})
    usual = KNOBS["stages"][name].usual
    relus = [partial(compile_layer, "relu(x)")] * 2
    found, other = (train(PAIR, Layers(relus, {name: v}), 0, 1.0, 3) for v in (value, usual))
    assert math.isfinite(found.validation)
    assert (found.curve == other.curve) == (value == usual)


def test_a_layer_is_the_network_with_it_in_every_slot_and_the_usual_choices():
    usual = {name: knob.usual for name, knob in KNOBS["stages"].items()}
    text = network_of("tanh(x)", ["act0", "act1"], {name: [value] for name, value in usual.items()}, [PAIR])
    assert parse_candidate(text).choices == usual
    layer, whole = (train(PAIR, layers_of(parse_candidate(t)), 0, 1.0, 5).curve for t in ("tanh(x)", text))
    assert layer == whole
    assert parse_candidate(network_of("tanh(x)", ["act"], {"heads": (4, 2)}, ["textures/mine:net"])).choices == {"heads": 4}


def test_a_pair_of_another_size_scales_what_is_chosen():
    candidate = parse_candidate("act0 := relu(x); act1 := relu(x); width := 8; depth := 2")

    def size(pair):
        model = untrained(pair, candidate)
        return model.stem.conv.out_channels, len(model.stage1)

    assert [size(pair) for pair in (PAIR, f"{PAIR}.32", f"{PAIR}.16x2", f"{PAIR}@8")] == [(8, 2), (16, 2), (8, 4), (8, 2)]


@pytest.mark.parametrize(
    ("pair", "choices", "message"),
    [
        (PAIR, {"depht": 1}, "did you mean `depth`. there are depth, width"), (PAIR, {"depth": 17}, "depth` of stages is 1 to 16"),
        (PAIR, {"depth": 2.0}, "received 2.0"), (PAIR, {"norm": "layer"}, r"is batch \| group \| none"),
        ("textures/resnet", {"norm": "batch"}, "resnet leaves no choices open; received norm for `textures/resnet`: take one that does, stages"),
    ],
)  # fmt: skip
def test_choices_that_are_not_there(pair, choices, message):
    with pytest.raises(ValueError, match=message):
        check_choices(pair, choices)


def test_a_search_learns_how_many_slots_each_pair_has_before_it_begins():
    check_networks(["textures/plain-cnn", "digits/mlp.64x3", "photo/inr"], ["act0", "act1", "act2"], {})
    check_networks([PAIR], ["act"], {"depth": (1, 2)})
    with pytest.raises(ValueError, match="digits/mlp: the network mlp makes 2 activations, so its slots are act0, act1; received act0 to act2"):
        check_networks(["textures/plain-cnn", "digits/mlp"], ["act0", "act1", "act2"], {})
    with pytest.raises(ValueError, match=r"kernel` of stages is 3 \| 5 \| 7"):
        check_networks([PAIR], ["act0", "act1"], {"kernel": (3, 4)})


def plan(pair=PAIR, objectives=("params", "macs", "flops")):
    stage = Stage((pair,), 5, (1.0,))
    return Plan(stage, Stage((pair,), 5, (1.0,), objectives=objectives), stage)


def judged(candidate, **changes):
    (result,) = evaluate([Job(0, candidate, 0)], plan(**changes))
    return result


def test_a_network_is_judged_by_its_scores_and_its_size():
    small = judged("act0 := relu(x); act1 := tanh(x); width := 8; norm := 'none'")
    large = judged("act0 := relu(x); act1 := tanh(x); width := 16; norm := 'none'")
    assert (small.status, small.stage) == ("ok", "full")
    for name in ("params", "macs"):
        assert small.objectives[f"{name}:{PAIR}:0"] < large.objectives[f"{name}:{PAIR}:0"]
    assert small.objectives["flops"] == large.objectives["flops"]  # of the layers
    assert small.objectives["complexity"] == pytest.approx(8 + small.objectives[f"params:{PAIR}:0"] / 1000, abs=1e-3)
    assert judged(str(parse_candidate("act0 := relu(x); act1 := tanh(x)"))).objectives["complexity"] == 8.0  # nothing is chosen


def test_multiply_adds_and_parameters_are_counted():
    found = judged("act0 := x; act1 := relu(x)", pair="digits/mlp").objectives
    assert found["params:digits/mlp:0"] == 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert found["macs:digits/mlp:0"] == 64 * 64 + 64 * 64 + 64 * 10


def test_every_slot_is_filtered_and_what_does_not_fit_is_a_row():
    assert judged("act0 := relu(x); act1 := exp(x * x * x)").status == "nonfinite"
    wrong = judged("act0 := relu(x); act1 := relu(x); act2 := relu(x)")
    assert (wrong.status, wrong.reason) == ("error", "error:SlotsError")
    assert "received act0 to act2" in wrong.error


def test_the_layers_of_the_slots_are_those_that_train():
    model = untrained("textures/plain-cnn", parse_candidate("act0 := sin(x); act1 := tanh(x); act2 := relu(x)"))
    assert [str(m) for m in model if "evosearch_layer" in type(m).__module__] == ["Layer(sin(x))", "Layer(tanh(x))", "Layer(relu(x))"]
    assert torch.isfinite(model(torch.randn(2, 1, 16, 16))).all()
    check_slot(PAIR, "act")
