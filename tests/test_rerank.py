"""What becomes of a gain under another optimizer and on wider networks."""

from __future__ import annotations

import pytest
from torch import nn

from evosearch.judging.architectures import build
from evosearch.judging.evaluate import Plan, Stage
from evosearch.judging.objectives import TASKS, WIDTHS, parse_pair, widened
from evosearch.judging.tasks import task
from evosearch.rerank import CONDITIONS, Gain, rerank, table_of, trend


@pytest.mark.parametrize(
    ("pair", "wider"),
    [
        ("textures/resnet", "textures/resnet.32"), ("photo.coffee/inr.24", "photo.coffee/inr.48"), ("digits/deep-mlp.10x3", "digits/deep-mlp.20x3"),
        ("textures/efficientnet@8", "textures/efficientnet.24@8"),
    ],
)  # fmt: skip
def test_a_wider_pair(pair, wider):
    assert widened(pair, 2) == wider
    assert parse_pair(widened(pair, 2)).batch == parse_pair(pair).batch


@pytest.mark.parametrize("pair", [f"{task}/{name}" for task, measure in TASKS.items() for name in measure.architectures])
def test_the_table_of_widths_is_that_of_the_networks(pair):
    named = parse_pair(pair)
    data = task(named.task).load("")

    def parameters(text):
        model = build(named.architecture, lambda features: nn.Tanh(), parse_pair(text).width, data.train[0][:2], data.outputs)
        return sum(p.numel() for p in model.parameters())

    assert parameters(f"{pair}.{WIDTHS[named.architecture]}") == parameters(pair) < parameters(widened(pair, 2))


def gain(width, low, high):
    return Gain("f", "relu", "adam", width, (low + high) / 2, low, high)


@pytest.mark.parametrize(("widest", "word"), [((2.0, 3.0), "grows"), ((0.2, 1.0), "holds"), ((-0.5, 0.4), "vanishes"), ((-2.0, -1.0), "turns")])
def test_the_trend_in_a_word(widest, word):
    assert trend([gain(1, 0.5, 1.5), gain(2, 0.0, 9.0), gain(4, *widest)]) == word
    assert trend([gain(1, -0.1, 1.5), gain(4, *widest)]) == "none"


def test_no_word_where_it_is_not_known():
    assert trend([gain(1, 0.5, 1.5), gain(2, 0.5, 1.5)]) == trend([gain(2, 0.5, 1.5), gain(4, 0.5, 1.5)]) == "unknown"
    assert trend([gain(1, 0.1, 0.3), gain(4, -0.05, 1.05)]) == "unclear"
    assert widened("digits/mlp.2048", 4) is None
    assert widened("digits/mlp.1024", 4) == "digits/mlp.4096"


def test_every_condition_is_trained():
    stage = Stage(("digits/mlp.8",), 60, (1.0,))
    gains, failed = rerank(["tanh(x)"], {"0.001 * x": "nothing", "relu(x)": "relu"}, Plan(stage, stage, stage), 2, "serial", 1)
    assert [(g.optimizer, g.width, g.against) for g in gains] == [(o, w, name) for o, w in CONDITIONS for name in ("nothing", "relu")]
    assert all(g.low <= g.difference <= g.high for g in gains)
    assert len({g.difference for g in gains}) == len(gains)
    assert all(g.difference > 0 for g in gains if g.against == "nothing")
    assert len(table_of(gains)) == 5
    assert failed == {}


def test_who_breaks_under_a_condition_is_named():
    stage = Stage(("digits/mlp.8",), 10, (1.0,))
    gains, failed = rerank(["exp(exp(exp(x)))"], {"relu(x)": "relu"}, Plan(stage, stage, stage), 2, "serial", 1)
    assert gains == []
    assert [name for name in failed if name.endswith("by sgd")] == ["exp(exp(exp(x))) on digits/mlp.8 by sgd"]
