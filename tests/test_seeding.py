"""Seeds: what a search is given to begin with. Workers are simulated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from evosearch import run as running
from evosearch.config import ConfigError, find_space, load
from evosearch.delivery.summary import read
from evosearch.delivery.table import page
from evosearch.run import prepare, run, stored
from evosearch.search import clock
from evosearch.search.pick import count_tried, is_found
from evosearch.search.store import read_run
from tests.test_run import Workers, answer, config_of, searched

MINE = '"x * sigmoid(x)", "x * cos(x)"'


@pytest.fixture
def session(monkeypatch):
    def go(config, directory, **options):
        workers = Workers(**options)
        monkeypatch.setattr(running, "_executor", lambda config, plugins, directory: workers)
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: workers.now))
        return run(prepare(directory, config), directory, None, lambda text: None)

    return go


@pytest.fixture
def earlier(session, tmp_path):
    assert session(config_of(16), tmp_path / "earlier")
    return tmp_path / "earlier"


def proposers(directory):
    rows = sorted((r for r in read_run(directory)[0] if r["index"] is not None and r["stage"] != "final"), key=lambda r: r["index"])
    return [(r["proposer"], r["candidate"]) for r in rows]


def test_seeds_are_asked_once_after_the_baselines_and_the_run_needs_no_earlier_folder(session, earlier, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(find_space("smoke.yaml").read_text() + f"seeds: [{MINE}, {{run: earlier, top: 3}}]\n")
    config = load(str(file), ["window=2", "proposers={genetic: 1}", "budget.evaluations=20"])
    best = [row["candidate"] for row in read(earlier, stored(earlier)[0]).searched]
    assert [(s.source, s.name) for s in config.seeds] == [("formula", "")] * 2 + [("run", "earlier")] * 3
    assert all(s.candidate in best for s in config.seeds[2:])
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert session(config, whole)
    assert not session(config, halves, stop_after=6)  # among the seeds
    shutil.rmtree(earlier)
    assert session(stored(halves)[0], halves)  # what `evosearch resume` does
    assert searched(halves) == searched(whole)
    asked = proposers(whole)
    assert asked[4:9] == [(f"seed:{s.source}", s.candidate) for s in config.seeds]
    assert {who for who, _ in asked[9:]} == {"genetic"}
    assert len({text for _, text in asked}) == 20


def test_what_a_person_names_is_refused_and_what_a_run_found_is_left_out(earlier, tmp_path):
    best = read(earlier, stored(earlier)[0]).pick.candidate
    config = config_of(20, f'seeds=["{best}", {{run: {earlier}, top: 2}}]')
    assert config.seeds[1].left_out == f"is the same function as `{best}`"
    assert len(config.asked_first) == 2
    narrow = "space={operators: [add, gaussian], max_nodes: 4, layer_parameters: 0}"
    for seeds, message, *more in [
        ("silu", "--set seeds=.* `silu` lies outside the space, whose operators lack silu; widen"),
        ("tanh", "`tanh` is the same function as the baseline tanh; leave it out"),
        (f"{MINE}, sigmoid(x) * x", r"`seeds.2`: `sigmoid\(x\) \* x` is the same function as `x \* sigmoid\(x\)`"),
        ("x + 1", "turned away by the driver's screen .numeric:affine.; leave"),
        ("sillu", "unknown layer `sillu`; did you mean"),
        ("swiglu", "has a gate y"),
        ("3", "a seed is a layer's name, a formula, or"),
        ("{run: nowhere}", "nowhere is not a run"),
        ("{run: nowhere, best: 3}", "unknown key `seeds.0.best`"),
        (f"{{run: {earlier}}}", "best functions of .* none can be asked: .* lies outside the space", narrow),
        (MINE, "budget.evaluations counts the 4 baselines and 2 seeds too; received 6", "budget.evaluations=6"),
    ]:
        with pytest.raises(ConfigError, match=message):
            config_of(20, f"seeds=[{seeds}]", *more)


def test_a_seed_has_the_inputs_of_the_slot():
    assert [s.candidate for s in load("gated.yaml", ['seeds=["x * gelu(tanh(y))"]']).seeds] == ["x * gelu(tanh(y))"]
    for seed, message in [("gelu(x)", "no function of y; in the slot gate"), ("y * silu(x)", "the same function as the baseline swiglu")]:
        with pytest.raises(ConfigError, match=message):
            load("gated.yaml", [f'seeds=["{seed}"]'])


def test_seeds_of_a_run_whose_configuration_was_edited_are_refused(earlier):
    """Other goals would make another pick of the same rows."""
    file = earlier / "run.yaml"
    text = file.read_text()
    file.write_text(text.replace("goals:", "goals: [complexity] #", 1))
    assert file.read_text() != text
    with pytest.raises(ConfigError, match="not the one that the journal was begun with"):
        config_of(20, f"seeds=[{{run: {earlier}}}]")


def test_another_list_of_seeds_is_another_run(session, tmp_path):
    config = config_of(10, f"seeds=[{MINE}]")
    assert session(config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"another configuration, and only budget and execution may change \(seeds: "):
        prepare(tmp_path / "run", config_of(10, 'seeds=["x * sigmoid(x)"]'))


def test_a_seed_may_win_and_is_no_find(session, tmp_path):
    """A known function that was given wins: it is picked, corrected for, and said to be a seed."""

    def seed_wins(job):
        result = answer(job)
        return replace(result, scores=dict.fromkeys(result.scores, 1000.0)) if job.candidate == "x * sigmoid(x)" else result

    config = config_of(14, f"seeds=[{MINE}]")
    session(config, tmp_path / "run", answer=seed_wins)
    reading = read(tmp_path / "run", config)
    assert reading.pick.candidate == "x * sigmoid(x)"
    rows = [r for r in reading.searched if r["proposer"].startswith("seed")]
    assert not any(map(is_found, rows))
    assert count_tried(reading.searched) == 10
    text = "\n".join(page(reading, None, "", None))
    assert "functions: 8 found + 4 baselines + 2 seeds" in text
    assert "no find of this search, which was given it as a seed" in text
    assert "seeds: x * sigmoid(x) +" in text


def test_a_layer_in_a_search_for_networks_stands_in_every_slot():
    config = load("per-layer.yaml", ["seeds=[symlog]"])
    (seed,) = config.seeds
    assert seed.candidate.count("symlog(x)") == len(config.network.slots)
