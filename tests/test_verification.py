"""verify: a run's best functions once more, against everybody, its own controls among them."""

from __future__ import annotations

import json
import os

import pytest

from evosearch.config import load
from evosearch.delivery.summary import Reading, read
from evosearch.delivery.table import page
from evosearch.delivery.verified import verified_lines
from evosearch.run import prepare, run
from evosearch.search.pick import Pick
from evosearch.verification import FIRST_SEED, leaders, table_of, verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("verified") / "run"
    controls = "controls={random: 1, tuned: 1}"
    config = load("smoke.yaml", [controls, "execution.executor=serial", "judging.promote=0.5", "budget.evaluations=40", "seed=1"])
    config = prepare(directory, config)
    assert run(config, directory, on_notice=lambda text: None)
    return directory, config


def test_everybody_is_met_on_fresh_seeds(finished):
    directory, config = finished
    found = verify(directory, config, top=2, seeds=3, executor="serial", conditions=True)
    stored = json.loads((directory / "verify.json").read_text())
    assert stored["seeds"] == 3
    assert stored["pairs"] == config.judging.final.pairs
    for verified in found.verified:
        against = {c.against for c in verified.comparisons}
        assert {"identity", "relu", "tanh", "sine"} <= against | {verified.candidate}
        assert against & {"random search", "tuned usual functions"} or set(found.controls) == set()
        assert all(c.verdict in ("better", "not better", "worse") and c.low <= c.difference <= c.high for c in verified.comparisons)
        assert all(c.samples == 6 for c in verified.comparisons)
    assert FIRST_SEED > 1000
    text = "\n".join(table_of(found))
    assert "control tuned usual functions" in text
    assert "functions; the search had" in text
    assert {(g["optimizer"], g["width"]) for g in stored["gains"]} == {("adam", 1), ("sgd", 1), ("adam", 2), ("adam", 4)}
    assert "gain with width:" in text


@pytest.mark.parametrize("wrong", [{"top": 0}, {"seeds": 2}])
def test_numbers_that_make_no_claim(finished, wrong):
    with pytest.raises(ValueError, match="at least 1 function"):
        verify(*finished, **wrong)


def test_what_broke_on_its_last_seed_is_no_leader(tmp_path):
    def row(index, mean, status="ok", stage="full", proposer="genetic"):
        return {"index": index, "candidate": f"f{index}", "proposer": proposer, "status": status, "stage": stage, "objectives": {"mean": mean}}

    rows = [row(0, 5.0, proposer="baseline"), row(1, 1.0), row(2, 3.0, "nonfinite"), row(3, 2.0), row(4, 9.0, stage="first")]
    assert leaders(Reading(tmp_path, load("smoke.yaml"), rows, None, rows, Pick(1, "f1", True), []), 5) == ["f1", "f3"]


def test_a_run_without_a_pick_has_nothing_to_verify(tmp_path):
    config = prepare(tmp_path / "run", load("smoke.yaml", ["execution.executor=serial"]))
    with pytest.raises(ValueError, match="no fully trained function"):
        verify(tmp_path / "run", config)


def test_the_page_of_the_run_says_what_was_verified(finished):
    directory, config = finished
    found = verify(directory, config, seeds=3, executor="serial")
    lines = verified_lines(directory)
    assert len(lines) == 1
    assert lines[0].startswith(f"verified on 3 fresh seeds of 2 unseen pairs: {found.verified[0].candidate}: ")
    for c in found.verified[0].comparisons:
        assert c.against in lines[0]
    assert lines[0] in page(read(directory, config), None, "", None)
    file = directory / "verify.json"
    file.write_text(file.read_text().replace('"seeds": 3', '"seeds": "\\u001b[2J"'))
    assert "is damaged" in verified_lines(directory)[0]
    file.unlink()
    os.mkfifo(file)
    assert "is not what" in verified_lines(directory)[0]
    file.unlink()
