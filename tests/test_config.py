"""Configuration: what is wrong is named with its line and the likely fix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evosearch import sections as config_module
from evosearch.config import ConfigError, find_space, load, read_run_file, run_file
from evosearch.judging.baselines import baseline

SPACES = Path(__file__).parent.parent / "search_spaces"
TEXT = (SPACES / "activation.yaml").read_text()


@pytest.mark.parametrize("file", sorted(SPACES.glob("*.yaml")), ids=lambda p: p.name)
def test_every_space_loads_and_reads_back(file):
    config = load(str(file))
    assert read_run_file(run_file(config, {"torch": "2"}), "run.yaml", lambda recorded: None) == (config, {"torch": "2"})


BROKEN = [
    ("promote:", "promte:", r":\d+: unknown key `judging.promte`; did you mean `promote`"),
    ("seed: 0", "seed: 0\nseed: 1", r"duplicate key"),
    ("steps: 100", "steps: '100'", r":11: `judging.quality.steps`"),
    ("seed: 0", "seed: [&a 1, *a]", r"aliases"),
    ("max_nodes: 8", "", r"`max_nodes` is missing"),
    ("textures/plain-cnn, photo/inr", "texture/plain-cnn", r"did you mean `textures`"),
    ("[add, sub", "[ad, sub", r"did you mean `add`"),
    ("identity, relu, gelu", "identity, rleu, gelu", r"did you mean"),
    ("genetic:", "genetics:", r"did you mean `genetic`"),
    ("evaluations: 170", "evaluations: 5", r"counts the 13 baselines too"),
    ("window: 16", "window: " + "[" * 40 + "]" * 40, r"nested more than"),
    ("identity, ", "", r"hold identity and relu"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=[b[1][:20] for b in BROKEN])
def test_a_mistake_is_one_line_with_place_and_fix(tmp_path, old, new, message):
    assert old in TEXT
    file = tmp_path / "space.yaml"
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        load(str(file))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [("budgt.x=3", "did you mean `budget`"), ("budget.evaluation=3", "did you mean `evaluations`"), ("budget.evaluations=1e-3", "integer"),
     ("seed=-1", "`seed` must be >= 0; received -1"), ("x", "key.sub=value"), ("judging.full.rates=[a]", "number"), ("seed.x=1", "no keys of its own")],
)  # fmt: skip
def test_an_override_is_checked_like_the_file(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load("search_spaces/activation.yaml", [override])
    assert "--set" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [("budget.minutes=" + "9" * 400, "`budget.minutes` must be <= 1e"), ("budget.minutes=" + "9" * 5000, "not a value"),
     ("judging.full.rates=[" + "9" * 400 + "]", "finite number"), ("space.operators=[add, greatr]", r"did you mean `\w+`|there are add"),
     ("space.operators=[add, greater]", "serves derivatives"), ("space.operators=[add, std]", "search elementwise functions"),
     ("space.operators=[add, mean]", "search elementwise functions"), ("space.operators=[add, sin, sin]", "`sin` stands here twice"),
     ("baselines=[identity, relu, relu]", "`relu` stands here twice"), ("baselines=[identity, relu, silu, silu_twin]", "are the same function"),
     ("baselines=[identity, relu, swiglu]", "has a gate y"), ("judging.final.pairs=[digits/mlp, digits/mlp]", "`digits/mlp` stands here twice"),
     ("judging.full.rates=[1, 1.0]", "`1.0` stands here twice"), ("judging.objectives=[nois]", "did you mean `noise`"),
     ("judging.objectives=[noise, noise]", "`noise` stands here twice"), ("judging.objectives=[time]", "`time` is measured always"),
     ("judging.goals=[time]", "`time` cannot be a goal"), ("judging.goals=[noise]", "`noise` is not measured; add it"), ("judging.goals=[]", "at least 1"),
     ("judging.goals=[worst, worst]", "`worst` stands here twice"),
     ("execution.address=auto", "an address goes with the executor ray")],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(monkeypatch, override, message):
    for module in (config_module, config_module.values):
        monkeypatch.setattr(module, "baseline", lambda name: baseline(name.removesuffix("_twin")))
    with pytest.raises(ConfigError, match=message) as caught:
        load("search_spaces/smoke.yaml", [override])
    assert len(str(caught.value)) < 500


def test_a_suggested_operator_is_one_that_can_be_searched():
    for name in ("greate", "equal", "gretaer"):
        with pytest.raises(ConfigError) as caught:
            load("search_spaces/smoke.yaml", [f"space.operators=[add, {name}]"])
        assert not {"greater", "equals"} & set(re.findall(r"\w+", str(caught.value)))


def test_an_option_of_the_command_line_is_named_as_it_was_typed():
    options = {"seed": None, "budget.minutes": 0.0}
    with pytest.raises(ConfigError, match=r"^--minutes 0.0: `budget.minutes` must be > 0; received 0.0$"):
        load("search_spaces/smoke.yaml", [], options)
    assert load("search_spaces/smoke.yaml", ["seed=3"], {"execution.workers": 2, "seed": None}).execution.workers == 2


def test_a_space_that_travels_with_the_package_is_taken_by_its_bare_name_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("smoke.yaml", "search_spaces/smoke.yaml"):
        assert find_space(name) == SPACES / "smoke.yaml"
    for name in ("nowhere/smoke.yaml", "./smoke.yaml", str(tmp_path / "smoke.yaml"), "other/search_spaces/smoke.yaml", "x" * 300, ""):
        with pytest.raises(ConfigError, match="no such file"):
            find_space(name)


def test_numbers_are_those_of_yaml_1_2():
    assert load("search_spaces/activation.yaml", ["judging.promote=1e-3"]).judging.promote == 1e-3


def test_an_unknown_file_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"did you mean `search_spaces/activation.yaml`"):
        find_space("search_spaces/activatoin.yaml")


def test_goals_are_what_selection_optimizes():
    default = load("smoke.yaml").judging
    assert [goal.name for goal in default.selection()] == ["worst", "complexity", "saved_per_element"]
    chosen = load("smoke.yaml", ["judging.objectives=[noise, calibration, flops]", "judging.goals=[noise, flops, calibration]"]).judging.selection()
    assert [(goal.name, goal.direction, goal.trained) for goal in chosen] == [("noise", 0, True), ("flops", -1, False), ("calibration", -1, True)]
    assert chosen[0].pairs == {"quality": ("digits/mlp",), "full": ("digits/mlp", "photo/inr")}
    assert chosen[2].pairs == {"quality": ("digits/mlp",), "full": ("digits/mlp",)}
    with pytest.raises(ConfigError, match="needs a pair whose targets are classes; received photo/inr"):
        load("smoke.yaml", ["judging.objectives=[calibration]", "judging.goals=[calibration]", "judging.quality.pairs=[photo/inr]"])
