"""Configuration: what is wrong is named with its line and the likely fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from evosearch.config import ConfigError, find_space, load, read_resolved

SPACES = Path(__file__).parent.parent / "search_spaces"
TEXT = (SPACES / "activation.yaml").read_text()


@pytest.mark.parametrize("file", sorted(SPACES.glob("*.yaml")), ids=lambda p: p.name)
def test_every_space_loads_and_reads_back(file):
    config = load(str(file))
    assert read_resolved(config.to_yaml(), "run.yaml") == config


BROKEN = [
    ("promote:", "promte:", r":\d+: unknown key `judging.promte`; did you mean `promote`"),
    ("seed: 0", "seed: 0\nseed: 1", r"duplicate key"),
    ("steps: 100", "steps: '100'", r":11: `judging.quality.steps`"),
    ("seed: 0", "seed: [&a 1, *a]", r"aliases"),
    ("max_nodes: 8", "", r"`space.max_nodes` is missing"),
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
     ("seed=-1", "greater than or equal to 0"), ("x", "key.sub=value"), ("judging.full.rates=[a]", "number"), ("seed.x=1", "no keys of its own")],
)  # fmt: skip
def test_an_override_is_checked_like_the_file(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load("search_spaces/activation.yaml", [override])
    assert "--set" in str(caught.value)


def test_numbers_are_those_of_yaml_1_2():
    assert load("search_spaces/activation.yaml", ["judging.promote=1e-3"]).judging.promote == 1e-3


def test_an_unknown_file_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"did you mean `search_spaces/activation.yaml`"):
        find_space("search_spaces/activatoin.yaml")
