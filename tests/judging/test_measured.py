"""Objectives of trained networks: values known by hand, repeated on one thread, only those that were asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from evosearch.job import Job, Result
from evosearch.judging import measured
from evosearch.judging.evaluate import Plan, Stage, evaluate
from evosearch.judging.measured import Network, calibration_error, kurtosis, largest_over_median, measure, near_zero, quantized, roc_area
from evosearch.judging.objectives import OBJECTIVES, TASKS, applies, check_applies, check_goal, check_objective
from evosearch.judging.tasks import task
from evosearch.judging.train import train
from evosearch.language.formula import parse
from evosearch.meaning.facts import complexity, flops

NETWORKS = [name for name, objective in OBJECTIVES.items() if objective.of == "network"]


def doubles(*values):
    return torch.tensor(values, dtype=torch.double)


def network(model, inputs, score=lambda output, target: float(output.mean()), slots=(), seed=0):
    return Network(model.eval(), slots, (inputs, torch.zeros(len(inputs))), score, "cpu", seed)


def test_the_kurtosis_is_the_fourth_moment():
    assert kurtosis(doubles(-1, 1, -1, 1)) == 1
    assert kurtosis(doubles(0, 0, 0, 1)) == pytest.approx((1 - 3 * 0.1875) / 0.1875)  # of a share p = 1/4 of ones
    assert kurtosis(torch.randn(100_000, generator=torch.Generator().manual_seed(0)).double()) == pytest.approx(3, abs=0.1)
    assert math.isnan(kurtosis(doubles(0.1, 0.1, 0.1)))


def test_massive_outputs_are_measured_by_the_median_of_what_is_not_zero():
    assert largest_over_median(doubles(0, 0, 0, 0, 1, -2, -8)) == 4
    assert math.isnan(largest_over_median(doubles(0, 0)))


def test_sparse_is_what_is_small_beside_the_deviation():
    assert near_zero(doubles(0, 1e-4, 1e-2, 1, -1)) == pytest.approx(40)
    assert near_zero(1e6 * doubles(0, 1e-4, 1e-2, 1, -1)) == pytest.approx(40)
    assert near_zero(doubles(0, 0)) == 100
    assert near_zero(doubles(3, 3)) == 0


def test_quantized_values_are_on_a_grid_that_holds_zero():
    assert quantized(torch.tensor([-1.0, -0.6, -0.4, 0.4, 0.6, 2.0]), 2).tolist() == [-1, -1, 0, 0, 1, 2]
    assert quantized(torch.tensor([1.0, 1.4, 3.0]), 2).tolist() == [1, 1, 3]  # the range begins at 0
    assert quantized(torch.zeros(3), 4).tolist() == [0, 0, 0]
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for bits in (4, 8):
        found = quantized(x, bits)
        assert len(found.unique()) <= 2**bits
        assert float((found - x).abs().max()) <= 1.01 * float(x.max() - x.min()) / (
            2**bits - 1
        )  # half a step, and at an end the half by which 0 is moved onto the grid
        assert 0.0 in found


def test_calibration_is_the_gap_of_confidence_and_accuracy_in_each_bin():
    two = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]]).double()
    assert calibration_error(two, torch.tensor([0, 0, 1, 1])) == pytest.approx(30)  # 80 % sure, 50 % right
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    assert calibration_error(sure, torch.tensor([0, 1])) == 0
    assert calibration_error(torch.cat([two, sure]), torch.tensor([0, 0, 1, 1, 1, 0])) == pytest.approx((4 * 30 + 2 * 100) / 6)  # bins do not cancel


def test_the_roc_area_is_the_mean_over_the_classes_that_are_there():
    positive = doubles(0.1, 0.4, 0.35, 0.8)
    assert roc_area(torch.stack([1 - positive, positive], 1), torch.tensor([0, 0, 1, 1])) == 0.75
    three = torch.cat([torch.stack([1 - positive, positive], 1), torch.zeros(4, 1)], 1)
    assert roc_area(three, torch.tensor([0, 0, 1, 1])) == 0.75
    assert math.isnan(roc_area(three, torch.tensor([1, 1, 1, 1])))


def test_e_param_divides_by_the_digits_of_the_parameters():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.eye(2)
    positive = torch.tensor([0.1, 0.4, 0.35, 0.8])
    found = Network(model.eval(), (), (torch.stack([-positive, positive], 1), torch.tensor([0, 0, 1, 1])), lambda output, target: 0.0, "cpu", 0)
    assert measure(found, ["e_param"]) == {"e_param": pytest.approx(0.75 / math.log10(4))}


@torch.no_grad()
def test_the_least_weights_of_all_layers_together_are_pruned():
    model = nn.Sequential(nn.Linear(10, 1), nn.Linear(1, 10, bias=False))
    model[0].weight.data = torch.tensor([[1.0, -2, 3, -4, 5, -6, 7, -8, 9, -10]])
    model[0].bias.data = torch.tensor([0.5])
    model[1].weight.data = torch.full((10, 1), 100.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ones = network(model, torch.ones(3, 10))
    assert measured.without_weights(ones, 0.45) == pytest.approx(100 * (0.5 - 10))  # 9 of 20
    assert measured.without_weights(ones, 0.5) == pytest.approx(50)  # biases stay
    assert measured.without_weights(ones, 0.9) == pytest.approx(10)  # of equal weights the first go: 8 of the second layer's 10
    assert measured.without_weights(ones, 0.0) == measured._score(ones, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_noise_is_of_the_size_that_is_said_and_none_is_the_score():
    slot, x = nn.Identity(), 3 * torch.randn(500, 40, generator=torch.Generator().manual_seed(1)) + 7

    def deviation(output, target):
        return float((output - x).std() / x.std())

    net = network(nn.Sequential(slot), x, deviation, [slot])
    assert measured.with_noise(net, 0.0) == measure(net, ["score"])["score"] == 0
    assert measured.with_noise(net) == pytest.approx(0.1, rel=0.02)
    assert measured.with_noise(net) == measured.with_noise(net) != measured.with_noise(network(net.model, x, deviation, [slot], seed=1))
    assert measured.with_noise(network(net.model, x, deviation)) == 0  # without slots nothing is changed


def test_hooks_are_gone_even_after_a_fault():
    slot = nn.Identity()

    def fails(output, target):
        raise RuntimeError("odd")

    for name in ("noise", "quant4"):
        with pytest.raises(RuntimeError, match="odd"):
            measure(network(nn.Sequential(slot), torch.ones(2, 2), fails, [slot]), [name])
    measure(network(nn.Sequential(slot), torch.randn(20, 2), slots=[slot]), ["kurtosis"])
    assert not slot._forward_hooks


def test_what_is_not_finite_is_left_out():
    slot = nn.Threshold(10.0, 0.0)
    model = nn.Sequential(slot, nn.Linear(2, 1))
    assert set(measure(network(model, torch.randn(20, 2), slots=[slot]), ["kurtosis", "massive", "sparsity", "score"])) == {"sparsity", "score"}
    assert measure(network(nn.Identity(), torch.full((2, 2), math.inf)), ["score"]) == {}
    assert measure(network(nn.Sequential(nn.ReLU(), slot), torch.randn(20, 2), slots=[nn.ReLU(), slot]), ["massive"]) == {}


def test_every_objective_of_networks_is_measured():
    assert set(NETWORKS) == set(measured._MEASURES)


def test_a_network_is_measured_alike_every_time_and_on_validation():
    def once(seed=0):
        trained = train("textures/plain-cnn", lambda features: nn.SiLU(), seed, 1.0, 5)
        found = trained.measure(NETWORKS)
        assert found["score"] == trained.validation
        assert found == trained.measure(NETWORKS)
        assert trained.test() == trained.test()
        return found

    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    first, again, other = once(), once(), once(1)
    assert first == again
    assert set(other) == set(NETWORKS)
    assert all(other[name] != first[name] for name in ("noise", "kurtosis", "e_param"))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("pair", "slot"), [("textures/resnet", "norm_act"), ("textures/efficientnet", "act"), ("charlm/transformer", "act"), ("pinn/mlp", "act")]
)
def test_other_networks_are_measured_too(pair, slot):
    found = train(pair, lambda features, apply_act=True: nn.Tanh(), 0, 1.0, 2, slot=slot).measure([name for name in NETWORKS if applies(name, pair)])
    assert {"noise", "quant4", "pruned99", "sparsity"} <= set(found)
    assert ("calibration" in found) == (pair != "pinn/mlp")


def test_the_table_of_tasks_says_which_targets_are_classes():
    for name, about in TASKS.items():
        for variant in ("", *about.variants):
            targets = task(name).load(variant).validation[1]
            assert (not targets.is_floating_point()) == (variant in about.classes), (name, variant)


def judged(objectives, pairs=("digits/mlp", "photo/inr.16"), candidate="tanh(x)"):
    quick = Stage(("digits/mlp",), 5, (1.0,))
    plan = Plan(quick, Stage(pairs, 5, (1.0,), 2, objectives), Stage(("digits/mlp.24",), 5, (1.0,), 2))
    assert Plan.from_text(plan.to_text()) == plan
    (result,) = evaluate([Job(0, candidate, 0)], plan)
    assert Result.from_text(result.to_text()) == result
    return result.objectives


def test_only_what_was_asked_for_is_in_the_row_for_each_pair_and_seed():
    always = {"complexity", "saved_per_element"}
    assert set(judged(())) == always
    asked = {"noise:digits/mlp:0", "noise:digits/mlp:1", "noise:photo/inr.16:0", "noise:photo/inr.16:1", "calibration:digits/mlp:0", "calibration:digits/mlp:1"}
    assert set(judged(("noise", "calibration", "inference_time"))) == always | asked
    assert judged(("flops",))["flops"] == 7


def test_goals_are_measured_in_the_quality_test_too():
    quick = Stage(("digits/mlp", "photo/inr.16"), 5, (1.0,), 1, ("noise", "calibration", "worst", "flops"))
    bar = {
        "bar:quality": 3.0,
        **{f"{what}:{pair}": value for pair in quick.pairs for what, value in (("quality", 0.0), ("center:quality", 99.0), ("spread:quality", 1.0))},
    }
    (result,) = evaluate([Job(0, "tanh(x)", 0, bar=bar)], Plan(quick, quick, quick))
    assert result.stage == "quality"
    assert set(result.objectives) - {"complexity", "saved_per_element", "flops"} == {
        "quality_noise:digits/mlp:0", "quality_noise:photo/inr.16:0", "quality_calibration:digits/mlp:0",
    }  # fmt: skip


def test_flops_are_the_forward_without_parameters_and_surrogates():
    graph = parse("a * exp(x) + x ~ tanh(x) where a: layer = 1")
    assert (flops(graph), complexity(graph)) == (7, 15)
    assert flops(parse("sin(x) * sin(x)")) == 7  # the sine is computed once


@pytest.mark.parametrize(
    ("name", "message"),
    [("nois", "did you mean `noise`"), ("mean", "measured always"), ("time", "measured always"), ("flops", "there are noise")],
)
def test_an_objective_that_cannot_be_asked_for_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_objective(name, ("network",))


@pytest.mark.parametrize(
    ("name", "message"),
    [("time", "cannot be a goal: a measured time"), ("inference_time", "cannot be a goal: a measured time"), ("mean", "always a goal"),
     ("quant4", "add it to judging.objectives"), ("nois", "did you mean `noise`")],
)  # fmt: skip
def test_what_cannot_steer_a_search_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_goal(name, ("noise", "inference_time"))


def test_what_may_steer_a_search():
    assert [check_goal(n, ("noise",)) for n in ("noise", "worst", "complexity")] == ["noise", "worst", "complexity"]


def test_an_objective_that_no_pair_has_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"needs a pair whose targets are classes; received photo/inr, tabular.diabetes/mlp"):
        check_applies(["noise", "calibration"], ["photo/inr", "tabular.diabetes/mlp"])
    check_applies(["calibration", "flops", "inference_time"], ["photo/inr", "tabular/mlp"])
    monkeypatch.setitem(TASKS, "my-loop", type(TASKS["digits"])("accuracy", "%", 1, ("own",)))
    with pytest.raises(ValueError, match="needs a pair whose network evosearch trains"):
        check_applies(["noise"], ["my-loop/own"])


class Own(nn.Module):
    """A user's model: a convolution of one dimension, a shared weight, a computed one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3, padding=1)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(4, 10))

    def forward(self, x):
        return self.head(self.second(torch.tanh(self.first(self.conv(x[:, None]).mean(2)))))


def test_any_model_of_ones_own_can_be_pruned_and_is_left_as_it_was():
    torch.manual_seed(0)
    model = Own().eval()
    network = Network(model, [], (torch.randn(32, 8), torch.arange(32) % 10), lambda out, y: float(out.sum()), "cpu", 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pruned = measure(network, ["score", "pruned90", "pruned99"])
    assert set(pruned) == {"score", "pruned90", "pruned99"}
    assert pruned["pruned90"] != pruned["score"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    bare = Network(nn.Flatten(), [], (torch.randn(4, 10), torch.arange(4)), lambda out, y: 1.0, "cpu", 0)
    assert measure(bare, ["pruned90"]) == {}
