"""A search for networks from its YAML to the files that leave: what is refused, what is a baseline, who is in the final check."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evosearch.config import ConfigError, load
from evosearch.delivery.network import training_of
from evosearch.delivery.summary import baseline_names, read, summarize
from evosearch.delivery.table import page
from evosearch.language.candidate import parse_candidate
from evosearch.run import prepare, run, space_of

SMALL = [
    "judging.quality.steps=3", "judging.full.steps=3", "judging.full.rates=[1]", "judging.final.steps=2", "judging.final.rates=[1]",
    "judging.final.seeds=2", "judging.promote=1", "window=4", "execution.executor=serial",
]  # fmt: skip
SPACES = {
    "per-layer": ["judging.full.pairs=[textures/plain-cnn]", "judging.final.pairs=[textures/plain-cnn.8, digits/mlp.12x3]", "budget.evaluations=15"],
    "micro-architecture": ["judging.final.pairs=[textures/stages.8, textures/stages@8]", "judging.full.keep_first_seed=1", "budget.evaluations=12"],
    "joint": ["judging.final.pairs=[textures/stages.8]", "judging.full.keep_first_seed=1", "budget.evaluations=12"],
}
LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from model import load
assert torch.isfinite(load()(torch.zeros(2, 1, 16, 16))).all() and "evosearch" not in sys.modules and "safetensors" not in sys.modules
"""


def config_of(name, *overrides):
    return load(f"search_spaces/{name}.yaml", [*SMALL, *SPACES[name], *overrides])


@pytest.mark.parametrize("name", ["per-layer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("micro-architecture", "joint"))])
def test_from_search_to_loaded_files(name, tmp_path, capsys):
    config = prepare(tmp_path / "run", config_of(name))
    assert run(config, tmp_path / "run")
    reading = read(tmp_path / "run", config)
    summary = summarize(reading)
    space = space_of(config)
    for row in reading.searched:
        candidate = parse_candidate(row["candidate"])
        assert row["status"] != "error", row["error"]
        assert row["proposer"] == "baseline" or space.contains(candidate), row["candidate"]
        assert list(candidate.slots) == list(space.slots)
    against = {c.against for c in summary.verdict.comparisons}
    assert {"random search", "relu"} <= against
    assert "baselines and controls on unseen pairs" in summary.verdict.line
    assert "the usual network" in summary.verdict.line
    text = "\n".join(page(reading, summary, "", None))
    assert "act0: " in text[text.index("pick:") :]
    pick = parse_candidate(reading.pick.candidate)
    training = training_of(tmp_path / "run", config, str(pick))
    assert (training.pair, training.seed, training.rate, training.steps) == (config.judging.full.pairs[0], 0, 1.0, 3)
    from evosearch.cli import app

    app(["export", str(tmp_path / "run"), "--best", "--to", str(tmp_path / "found"), "--formats", "py"], standalone_mode=False)
    row = next(r for r in reading.searched if r["index"] == reading.pick.index)
    assert f"{row['scores'][f'full:{training.pair}:0']:.4g} on validation" in capsys.readouterr().out  # the network that was judged
    subprocess.run([sys.executable, "-I", "-c", LOADED, str(tmp_path / "found")], check=True)


def test_baselines_are_networks_of_one_layer_and_the_usual_choices():
    names = baseline_names(config_of("joint"))
    text = next(text for text, name in names.items() if name == "relu")
    usual = "block := 'conv'; depth := 1; kernel := 3; norm := 'batch'; placement := 'post'; residual := 'add'; width := 16"
    assert text == f"act0 := relu(x); act1 := relu(x); {usual}"
    assert baseline_names(load("search_spaces/smoke.yaml"))["relu(x)"] == "relu"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("joint", ["space.choices.norm=[batch, layer]"], r"`norm` of stages is batch \| group \| none"),
        ("joint", ["space.choices.depht=[1]"], "did you mean `depth`"), ("joint", ["space.choices.depth=[1, 2.5]"], "received 2.5"),
        ("joint", ["judging.full.pairs=[textures/resnet]"], "resnet leaves no choices open"),
        ("joint", ["controls={tuned: 1}"], "`tuned` scales one activation"), ("joint", ["judging.initialization=gain"], "gain is of one activation"),
        ("per-layer", ["space.slots={a: {layers: [relu]}}", "space.formula=null"], "act0, act1 and so on; received a"),
        ("joint", ["space.slots={}", "space.formula=null"], "received none"),
    ],
)  # fmt: skip
def test_what_no_network_has_is_said_with_its_place(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        config_of(name, *overrides)


def test_too_few_slots_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="textures/plain-cnn: the network plain-cnn makes 3 activations, so its slots are act0 to act2; received act0, act1"):
        prepare(tmp_path / "run", config_of("per-layer", "space.slots=2", "judging.final.pairs=[textures/plain-cnn.8]"))
    assert not (tmp_path / "run").exists()
