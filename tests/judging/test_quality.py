"""The quality filter with the default settings: known functions pass on every anchor pair, no activation does not."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from evosearch.config import load
from evosearch.job import Job
from evosearch.judging.baselines import baseline
from evosearch.judging.evaluate import evaluate
from evosearch.judging.objectives import direction
from evosearch.run import plan_of
from evosearch.search.scale import freeze, pair_scores

CONFIG = load("activation.yaml")
PAIRS = CONFIG.judging.quality.pairs
PASS = ("gelu", "silu", "mish", "elu", "selu", "tanh", "sine")


@cache
def scores(name):
    torch.set_num_threads(1)
    plan = plan_of(CONFIG)
    plan = type(plan)(plan.quality, plan.quality, plan.quality)  # a bar of nothing promotes nobody
    never = {f"{key}:{pair}": value for pair in PAIRS for key, value in (("quality", -1e9 * direction(pair)), ("center:quality", 0.0), ("spread:quality", 1.0))}
    (result,) = evaluate([Job(0, baseline(name), 0, "search", (), never | {"bar:quality": 1e9})], plan)
    return dict(result.scores)


@cache
def bars():
    return freeze({name: scores(name) for name in ("identity", "relu")}, {pair: direction(pair) for pair in PAIRS}).quality


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", ["relu", *PASS])
def test_a_known_function_passes(name, pair):
    assert direction(pair) * (pair_scores(scores(name), "quality")[pair] - bars()[pair]) >= 0


@pytest.mark.parametrize("pair", PAIRS)
def test_no_activation_is_rejected(pair):
    assert direction(pair) * (pair_scores(scores("identity"), "quality")[pair] - bars()[pair]) < 0
