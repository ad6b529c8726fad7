"""transfer: finds of several runs on other tasks, beside the baselines, everyone the same chance."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from types import SimpleNamespace

import pytest

from evosearch import run as running
from evosearch import transfer as module
from evosearch.delivery.summary import read
from evosearch.evaluation import evaluate_formula
from evosearch.run import prepare, run
from evosearch.search import clock
from evosearch.transfer import FIRST_SEED, Cell, open_run, table_of, transfer
from tests.test_cli import refused
from tests.test_run import Workers, config_of

PAIRS = ["ood/mlp.8", "digits/mlp.8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory, found = tmp_path_factory.mktemp("transferred"), {}
    with pytest.MonkeyPatch.context() as patch:
        for seed in (1, 2):
            workers = Workers()
            patch.setattr(running, "_executor", lambda config, plugins, directory, workers=workers: workers)
            patch.setattr(clock, "time", SimpleNamespace(monotonic=lambda workers=workers: workers.now))
            config = prepare(directory / f"r{seed}", config_of(12, f"seed={seed}"))
            assert run(config, directory / f"r{seed}", on_notice=lambda text: None)
            found[directory / f"r{seed}"] = open_run(directory / f"r{seed}")
    return found


@pytest.fixture(scope="module")
def found(runs):
    return transfer(runs, PAIRS, top=2, seeds=3, steps=10, executor="serial")


def test_a_row_a_find_and_a_column_a_pair(runs, found):
    finds = [c for c in found.contestants if not c.is_baseline]
    assert [c.of for c in finds] == [str(path) for path in runs for _ in range(2)]
    assert [finds[0].candidate, finds[2].candidate] == [read(path, config).pick.candidate for path, config in runs.items()]
    assert found.contestants[-1].of == "relu"
    assert not any(c.is_seed for c in found.contestants)
    texts = {c.candidate for c in found.contestants}
    assert {(c.candidate, c.pair) for c in found.cells} == {(text, pair) for text in texts for pair in PAIRS}
    assert found.level == pytest.approx(1 - 0.05 / ((len(texts) - 1) * 2))
    lines = table_of(found, None)
    assert sum("mlp.8" in line for line in lines) == 1
    row = next(line for line in lines if finds[0].candidate in line and "[" in line)
    assert row.count("better") + row.count("worse") == 2
    assert row.endswith("*")  # digits is what the run searched on, ood is not
    assert row.count("*") - finds[0].candidate.count("*") == 1


def test_a_gain_is_that_of_evaluate_on_the_same_seeds(found):
    find = found.contestants[0].candidate
    cells = {(c.candidate, c.pair): c for c in found.cells}
    same = evaluate_formula(find, ["relu"], PAIRS, seeds=3, steps=10, executor="serial", first_seed=FIRST_SEED)
    for pair, sign in zip(PAIRS, (-1, +1), strict=True):
        cell, usual = cells[find, pair], cells["relu(x)", pair]
        assert cell.scores == next(m.scores for m in same.measured if m.name == find and m.pair == pair)
        assert cell.gain == pytest.approx(sign * (fmean(cell.scores) - fmean(usual.scores)))
        assert cell.low < cell.gain < cell.high
        assert usual.gain == 0


def test_the_word_is_of_the_interval():
    cell = Cell("f", "ood/mlp", (1.0,), 1.0, 0.1, 0.5, 0.2, 0.8)
    assert cell.verdict == "better"
    assert replace(cell, low=-0.1).verdict == "not better"
    assert replace(cell, low=-0.8, high=-0.1).verdict == "worse"
    assert replace(cell, low=0.5, high=0.5).verdict == "not better"


def test_counts_that_differ_by_the_same_at_two_seeds_prove_nothing():
    """One of 360 right more at both, up to rounding: an interval of 1e-14 on both sides is none."""
    ours, theirs = [{f"final:digits/mlp:{s}": count / 3.6 for s, count in enumerate(counts)} for counts in ((328, 329), (327, 328))]
    assert module._cell("f", "digits/mlp", ours, theirs, 0.95).verdict == "not better"


def test_a_training_that_fails_is_said(runs, monkeypatch):
    def train(texts, plan, *others):
        rows, failed = real(texts, plan, *others)
        return [row for row in rows if row["candidate"] != texts[0]], failed | {(texts[0], PAIRS[0]): "timeout"}

    real = module.train_finals
    monkeypatch.setattr(module, "train_finals", train)
    lines = table_of(transfer(dict([next(iter(runs.items()))]), PAIRS[:1], seeds=2, steps=2, executor="serial"), 100)
    assert any("failed" in line and "timeout" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_what_cannot_be_is_one_line(runs, tmp_path):
    first = next(iter(runs))
    assert "not a run" in refused("transfer", tmp_path, "--tasks", "ood")
    assert "stands here twice" in refused("transfer", first, first, "--tasks", "ood")
    assert "stands here twice" in refused("transfer", first, f"{first}/../{first.name}", "--tasks", "ood")
    assert "did you mean `ood`" in refused("transfer", first, "--tasks", "odd")
    assert "at least 2 seeds" in refused("transfer", first, "--tasks", "ood", "--seeds", 1)
    assert "at least 1 function" in refused("transfer", first, "--tasks", "ood", "--top", 0)
    unfinished = tmp_path / "unfinished"
    prepare(unfinished, config_of(12))
    assert "no fully trained function" in refused("transfer", unfinished, "--tasks", "ood")
    other = dict(runs) | {unfinished: config_of(12, "judging.initialization=gain")}
    with pytest.raises(ValueError, match="search the same kind of layer"):
        transfer(other, PAIRS)
