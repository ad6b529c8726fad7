"""Searches for layers of other places than an activation's, from the YAML to the files that leave."""

from __future__ import annotations

import random
import subprocess
import sys
from functools import partial

import pytest

import evosearch
from evosearch.config import ConfigError, load
from evosearch.delivery.summary import read, summarize
from evosearch.delivery.table import page
from evosearch.evaluation import pairs_of
from evosearch.judging.filters import Limits, all_filters
from evosearch.language.candidate import inputs_of, parse_candidate
from evosearch.language.graph import reaches
from evosearch.meaning.screen import Screen
from evosearch.run import prepare, run, space_of
from evosearch.space.grammar import GrammarSpace
from evosearch.space.trees import count

SMALL = [
    "judging.quality.steps=3", "judging.full.steps=3", "judging.full.rates=[1]", "judging.final.steps=2", "judging.final.rates=[1]",
    "judging.full.seeds=1", "judging.final.seeds=2", "judging.promote=1", "judging.filters.dead_units=0.9", "judging.filters.saved_per_element=9",
    "window=4", "execution.executor=serial",
]  # fmt: skip
SPACES = {
    "gated": ["judging.full.pairs=[textures/vit]", "judging.final.pairs=[textures/vit.12]", "budget.evaluations=16"],
    "attention": [
        "judging.full.pairs=[recall/vit.12]", "judging.final.pairs=[recall.long/vit.12, charlm/transformer.12x1]", "judging.quality.pairs=[recall/vit.12]",
        "budget.evaluations=14", "judging.filters.dead_units=null",
    ],
}  # fmt: skip
LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from found import Found
x = torch.randn(2, 3, 4, 5, requires_grad=True)
inputs = [x, torch.randn(2, 3, 4, 5, requires_grad=True)][: int(sys.argv[2])]
out = Found(3)(*inputs)
out.sum().backward()
assert out.shape == x.shape and all(torch.isfinite(t.grad).all() for t in inputs) and "evosearch" not in sys.modules
"""


def config_of(name, *overrides):
    return load(f"search_spaces/{name}.yaml", [*SMALL, *SPACES[name], *overrides])


@pytest.mark.parametrize("name", SPACES)
def test_from_search_to_loaded_files(name, tmp_path):
    config = prepare(tmp_path / "run", config_of(name))
    assert run(config, tmp_path / "run")
    reading = read(tmp_path / "run", config)
    summary = summarize(reading)
    space = space_of(config)
    found = [row for row in reading.searched if row["proposer"] != "baseline"]
    for row in reading.searched:
        assert row["status"] not in ("error", "crash"), (row["candidate"], row["error"])
    assert all(space.contains(parse_candidate(row["candidate"])) for row in found)
    assert any(row["stage"] == "full" for row in found)
    names = {row["candidate"] for row in reading.searched if row["status"] == "ok" and row["proposer"] == "baseline"}
    assert len(names) == len(config.baselines)
    assert reading.pick is not None
    assert "unseen pairs" in summary.verdict.line
    assert "verdict:" in "\n".join(page(reading, summary, "", None))
    from evosearch.cli import app

    app(["export", str(tmp_path / "run"), "--best", "--to", str(tmp_path / "found"), "--formats", "ts"], standalone_mode=False)
    subprocess.run([sys.executable, "-I", "-c", LOADED, str(tmp_path / "found"), str(len(inputs_of(space.slot)))], check=True)


def test_every_gate_of_the_space_is_of_both_inputs():
    space = space_of(config_of("gated"))
    rng = random.Random(0)
    assert all(reaches(space.sample(rng).graph, name) for name in "xy" for _ in range(100))
    assert not space.contains(parse_candidate("silu(x) * tanh(x)"))
    grammar = space_of(config_of("gated", "space={slot: gate, grammar: {f: ['x * {g}'], g: ['silu(y)', 'tanh(x)']}}"))
    assert grammar.contains(parse_candidate("x * silu(y)"))
    assert not grammar.contains(parse_candidate("x * tanh(x)"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x * y", None), ("max(x, y)", None), ("abs(x - y)", None), ("x * sigmoid(y)", None), ("2 * x - y", "numeric:affine"), ("x / y", "numeric:nonfinite"),
        ("exp(x * y)", "numeric:too_large"), ("sigmoid(x - x * y / y)", "numeric:nonfinite"), ("0.00001 * tanh(x) * tanh(y)", "numeric:constant"),
        ("step(x + y)", "numeric:flat"),
    ],
)  # fmt: skip
def test_a_gate_is_screened_over_the_plane_of_its_inputs(text, reason):
    verdict = Screen(16, 1).check(text)
    assert (verdict and verdict.reason) == reason


def test_a_gate_with_its_inputs_exchanged_is_the_same_gate():
    screen = Screen(16, 1)
    screen.add(3, "x * silu(y)")
    assert screen.check("silu(x) * y").duplicate_of == 3
    assert screen.check("x * silu(x)") is None
    assert screen.check("silu(x) * silu(y)") is None


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("gated", "baselines=[x + y, swiglu, relu]", "`relu` is no function of y; in the slot gate"),
        ("gated", "space={slot: gate, layers: [swiglu, tanh]}", "`tanh` is no function of y"),
        ("gated", "space.slot=act", "`x \\+ y` has a gate y; in the slot act"),
        ("gated", "judging.full.pairs=[textures/resnet]", "resnet has the slots act, norm_act; received `gate`"),
        ("gated", "judging.initialization=gain", "gain is of activations"),
        ("gated", "space.require.bounded=true", "space.require.bounded is of functions of x alone"),
        ("gated", "baselines=[bilinear_gate, swiglu]", r"must hold x \+ y and swiglu"),
        ("attention", "baselines=[mean_attention, softmax, swiglu]", "`swiglu` has a gate y"),
        ("attention", "judging.full.pairs=[textures/plain-cnn]", "plain-cnn has the slots act, norm_act; received `attention`"),
        ("attention", "judging.filters.stability=1e8", "judging.filters.stability is of layers between linear maps"),
        ("attention", "space.require.bounded=true", "the weight of a key depends on the others"),
        ("attention", "baselines=[softmax, relu_attention]", "must hold mean_attention and softmax"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_slot_is_refused(name, override, message):
    with pytest.raises(ConfigError, match=message):
        config_of(name, override)


def test_a_numbered_hole_is_one_part_wherever_it_stands():
    space = GrammarSpace({"f": ["{g:1} / sum({g:1}, row)", "{g} * {g}"], "g": ["exp({h})", "x"], "h": ["b * x where b: layer = 1", "x"]}, slot="attention")
    assert [way.args for way in space.productions["f"]] == [("g",), ("g", "g")]
    assert count(space) == 3 + 9
    shared = parse_candidate("exp(b * x) / sum(exp(b * x), row) where b: layer = 1")
    assert str(space.build(space.derive(shared))) == str(shared)
    assert not space.contains(parse_candidate("exp(x) / sum(x, row)"))
    assert not space.contains(parse_candidate("exp(b * x) / sum(exp(c * x), row) where b: layer = 1, c: layer = 1"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exp(x - max(x, row)) / sum(exp(x - max(x, row)), row)", None), ("relu(x) / sum(1, row)", None),
        ("exp(x) / sum(exp(x), row)", "nonfinite:forward:float32"), ("relu(x) / sum(relu(x), row)", "nonfinite:forward:float32"),
    ],
)  # fmt: skip
def test_attention_is_finite_on_large_scores_and_on_rows_of_none(text, reason):
    found = [finding.reason for finding in all_filters(partial(evosearch.compile, text), Limits(), "attention")]
    assert (reason in found) if reason else found == [None] * len(found)
    assert Screen(32, 1).check(text) is None


def test_the_number_of_keys_is_no_constant_part():
    assert Screen(32, 1).check("x * sum(2, row)").reason == "static:statistic_of_constant"
    assert Screen(32, 1).check("x * mean(1, row)").reason == "static:constant_part"


def test_a_task_is_taken_on_its_first_architecture_with_the_slot():
    assert pairs_of(["textures", "charlm"], slot="gate") == ("textures/vit", "charlm/transformer")
    assert pairs_of(["textures"]) == ("textures/plain-cnn",)
    with pytest.raises(ValueError, match="inr has the slots act; received `gate`"):
        pairs_of(["photo"], slot="gate")
