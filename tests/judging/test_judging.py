"""Tasks, training, evaluation: fixed regions, bit-equal repeats, every fault a status."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from evosearch.compiler.module import compile
from evosearch.job import Job, Result
from evosearch.judging import evaluate as evaluation
from evosearch.judging import train as training
from evosearch.judging.evaluate import Plan, Stage, evaluate, worker
from evosearch.judging.fingerprint import data_hash
from evosearch.judging.objectives import TASKS, parse_pair
from evosearch.judging.tasks import task, textures
from evosearch.judging.tasks.plugin import Budget
from evosearch.judging.train import NonFinite, train

PLAN = Plan(Stage(("digits/mlp",), 10, (1.0,)), Stage(("digits/mlp", "photo/inr.16"), 10, (1.0, 3.0), 2), Stage(("digits/mlp.24",), 10, (1.0,), 2))
BAR = {"quality:digits/mlp": 0.0, "center:quality:digits/mlp": 50.0, "spread:quality:digits/mlp": 10.0, "bar:quality": -3.0}


def judged(candidate, bar=None, stage="search", pairs=()):
    (result,) = evaluate([Job(3, candidate, 0, stage, pairs, bar or {})], PLAN)
    assert Result.from_text(result.to_text()) == result
    return result


@pytest.mark.parametrize("name", TASKS)
def test_every_task_loads_three_regions_and_trains_on_each_architecture(name):
    for variant in ("", *TASKS[name].variants):
        data = task(name).load(variant)
        assert len(data.train[0]) > len(data.validation[0]) > 0
        assert len(data.test[0]) > 0
    for architecture in TASKS[name].architectures:
        found = train(f"{name}/{architecture}", lambda features: nn.ReLU(), 0, 1.0, 2)
        assert math.isfinite(found.validation)
        assert math.isfinite(found.test())


def test_no_texture_pixel_is_in_two_regions():
    columns = sorted(textures.REGIONS.values())
    assert all(a[1] <= b[0] for a, b in pairwise(columns))


def test_a_run_is_a_function_of_its_seed():
    def once(seed):
        found = train("textures/plain-cnn", lambda features: nn.SiLU(), seed, 1.0, 5)
        return found.validation, found.test()

    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert once(0) == once(0)
    assert once(0) != once(1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_relu_is_far_above_no_activation_on_textures():
    relu, identity = (train("textures/plain-cnn", lambda features, m=m: m(), 0, 1.0, 100).validation for m in (nn.ReLU, nn.Identity))
    assert relu > identity + 30


def test_without_a_bar_everything_is_trained():
    result = judged("tanh(x)")
    assert (result.status, result.stage) == ("ok", "full")
    assert {f"{s}:{p}:{k}" for s in ("full", "test") for p in PLAN.full.pairs for k in (0, 1)} < set(result.scores)
    assert set(result.rates) == {"full:digits/mlp", "full:photo/inr.16"}
    assert result.objectives == {"complexity": 7.0, "saved_per_element": 1.0}


def test_below_the_quality_bar_is_rejected_and_below_the_promotion_bar_stays():
    assert judged("tanh(x)", {**BAR, "quality:digits/mlp": 99.9}).reason == "quality:digits/mlp"
    stays = judged("tanh(x)", {**BAR, "bar:quality": 2.9, "center:quality:digits/mlp": 90.0})
    assert (stays.status, stays.stage) == ("ok", "quality")
    assert judged("tanh(x)", BAR).stage == "full"


def test_the_quick_test_stops_what_is_below_its_bar_before_the_quality_test():
    plan = replace(PLAN, quick=Stage(("digits/mlp",), 5, (1.0,)))
    bar = BAR | {"center:quick:digits/mlp": 50.0, "spread:quick:digits/mlp": 10.0}

    def stopped(keep):
        (result,) = evaluate([Job(3, "tanh(x)", 0, "search", (), bar | {"bar:quick": keep})], plan)
        return result

    low, high = stopped(3.1), stopped(-3.0)
    assert (low.status, low.reason, low.stage, set(low.seconds)) == ("rejected", "quick:mean", "quick", {"numeric", "quick"})
    assert low.figure == max(-3, min(3, (low.scores["quick:digits/mlp:0"] - 50) / 10))
    assert (high.status, high.stage) == ("ok", "full")
    assert high.scores["quick:digits/mlp:0"] == low.scores["quick:digits/mlp:0"]
    assert evaluate([Job(0, "tanh(x)", 0)], plan)[0].stage == "full"  # a baseline has no bar
    assert Plan.from_text(plan.to_text()) == plan


def test_the_final_stage_trains_the_pairs_of_the_job_on_its_own_seeds():
    (result,) = evaluate([Job(3, "sin(x)", 1000, "final", ("digits/mlp.24",))], PLAN)
    assert set(result.scores) == {"final:digits/mlp.24:1000", "final:digits/mlp.24:1001"}


def test_not_finite_values_and_gradients_are_rejected_with_a_reason():
    result = judged("exp(exp(exp(x)))")
    assert (result.status, result.reason) == ("nonfinite", "nonfinite:forward:float32")
    assert judged("sqrt(abs(x))").reason == "nonfinite:gradient:float32"


@pytest.mark.parametrize(
    ("fault", "status"),
    [(NonFinite("loss"), "nonfinite"), (MemoryError(), "memory"), (RuntimeError("can't allocate memory"), "memory"), (RuntimeError("odd"), "error"),
     (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "memory")],
)  # fmt: skip
def test_a_fault_is_one_row_with_its_reason(monkeypatch, fault, status):
    def fail(*args, **options):
        raise fault

    monkeypatch.setattr(evaluation, "train", fail)
    result = judged("tanh(x)")
    assert (result.index, result.status, result.stage) == (3, status, "quality")


def test_text_that_is_no_candidate_is_a_row_too():
    assert judged("no formula at all").status == "error"


def test_the_worker_speaks_text():
    assert Plan.from_text(PLAN.to_text()) == PLAN
    result = Result.from_text(worker(PLAN.to_text())(Job(0, "sin(x)", 0, bar=BAR).to_text()))
    assert result.status == "ok"


def test_the_data_have_a_fingerprint():
    assert data_hash(["digits/mlp"]) == data_hash(["digits/deep-mlp"]) != data_hash(["photo/inr"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("textures", "reads task/architecture"), ("texture/plain-cnn", "did you mean `textures`"), ("textures/plaincnn", "did you mean `plain-cnn`"),
     ("photo.cofee/inr", "did you mean `coffee`"), ("photo/inr.wide", "width")],
)  # fmt: skip
def test_a_pair_that_is_not_there_gets_a_suggestion(text, message):
    with pytest.raises(ValueError, match=message):
        parse_pair(text)


def test_one_rate_that_breaks_is_out_and_the_others_count(monkeypatch):
    def fragile(pair, make_layer, seed, rate, *rest, **options):
        if rate > 1:
            raise NonFinite("too fast")
        return train(pair, make_layer, seed, rate, *rest, **options)

    monkeypatch.setattr(evaluation, "train", fragile)
    result = judged("tanh(x)")
    assert (result.status, result.stage) == ("ok", "full")
    assert set(result.rates.values()) == {1.0}


def test_a_network_that_answers_nan_is_not_scored():
    class Late(nn.Module):
        def forward(self, x):
            return x if self.training else x * torch.nan

    with pytest.raises(NonFinite):
        train("textures/plain-cnn", lambda features: Late(), 0, 1.0, 1)


def test_the_test_split_is_scored_at_the_chosen_rate_only(monkeypatch):
    asked = []

    def counted(pair, make_layer, seed, rate, *rest, **options):
        found = train(pair, make_layer, seed, rate, *rest, **options)
        return type(found)(found.validation, lambda: asked.append((pair, seed, rate)) or found.test())

    monkeypatch.setattr(evaluation, "train", counted)
    result = judged("tanh(x)")
    assert sorted(asked) == sorted((pair, seed, result.rates[f"full:{pair}"]) for pair in PLAN.full.pairs for seed in (0, 1))


@pytest.mark.parametrize("width", [32, 48, 50])
def test_a_transformer_takes_any_width(width):
    assert math.isfinite(train(f"charlm/transformer.{width}", lambda features: nn.ReLU(), 0, 1.0, 1).validation)


def test_a_loop_of_ones_own_may_differentiate_twice():
    def loop(make_layer, seed, budget):
        x = torch.linspace(-1, 1, 5, requires_grad=True)
        (slope,) = torch.autograd.grad(make_layer(1)(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
        return {"validation": float(x.grad.abs().sum()), "test": 0.0}

    assert training._own_loop("own", loop, lambda features: compile("x * sin(x)"), 0, Budget(1, 1.0, "cpu")).validation > 0


def test_below_the_bar_of_a_rung_nothing_more_is_trained(monkeypatch):
    """One rate of the first seed, all of its rates, all seeds: nothing is trained twice, and who goes all the way has the same scores."""
    plan = replace(PLAN, full=replace(PLAN.full, rates=(0.5, 1.0), seeds=2, rungs=("first_rate", "first_seed")))
    scales = {f"{what}:{rung}:{pair}": 10.0 for rung in plan.full.rungs for pair in PLAN.full.pairs for what in ("center", "spread")}
    trained = []
    monkeypatch.setattr(evaluation, "train", lambda *args, **options: trained.append(args[2:5]) or training.train(*args, **options))

    def judged_at(first_rate, first_seed, bar=BAR, plan=plan):
        trained.clear()
        (result,) = evaluate([Job(3, "tanh(x)", 0, "search", (), bar | scales | {"bar:first_rate": first_rate, "bar:first_seed": first_seed})], plan)
        return result, len(trained)

    (low, few), (middle, more), (high, most) = judged_at(3.1, -3.0), judged_at(-3.0, 3.1), judged_at(-3.0, -3.0)
    assert (low.status, low.stage, middle.status, middle.stage, high.stage) == ("ok", "first_rate", "ok", "first_seed", "full")
    pairs = len(PLAN.full.pairs)
    assert (more - few, most - more) == (pairs, pairs)  # the second rate, the second seed
    assert {key for key in middle.scores if not key.startswith("quality:")} == {f"{rung}:{pair}:0" for rung in plan.full.rungs for pair in PLAN.full.pairs}
    whole, _ = judged_at(-3.0, -3.0, plan=replace(plan, full=replace(plan.full, rungs=())))
    assert {key: high.scores[key] for key in whole.scores} == whole.scores
    assert all(high.scores[f"first_seed:{pair}:0"] == high.scores[f"full:{pair}:0"] for pair in PLAN.full.pairs)
    assert all(high.scores[f"first_rate:{pair}:0"] == low.scores[f"first_rate:{pair}:0"] for pair in PLAN.full.pairs)
