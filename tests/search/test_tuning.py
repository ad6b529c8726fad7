"""The second level of a search: its last functions tune the numbers of the best structures, and resume and extension know of it."""

from __future__ import annotations

import pytest

from evosearch.config import ConfigError, load
from evosearch.language.candidate import parse_candidate
from evosearch.proposers import Outcome
from evosearch.proposers.bayes import _skeleton
from evosearch.proposers.registry import make_tuner
from evosearch.proposers.tuning import TuningProposer
from evosearch.search.store import Log
from evosearch.search.study import FINAL_INDEX
from evosearch.space.operators import OperatorSpace
from tests.search.test_study import SPACE, answer, drive, study_over, table


def proposers(rows):
    return [r["proposer"] for r in rows if r["index"] is not None and r["index"] < FINAL_INDEX]


def test_the_last_evaluations_are_tuned(tmp_path):
    drive(tmp_path / "run", tuning=10)
    rows = table(tmp_path / "run")
    assert proposers(rows)[30:] == ["tuning"] * 10
    assert "tuning" not in proposers(rows)[:30]
    drive(tmp_path / "plain")
    assert [r["candidate"] for r in table(tmp_path / "plain")][:30] == [r["candidate"] for r in rows][:30]


@pytest.mark.parametrize("stop", [20, 29, 34])
def test_interrupted_while_it_tunes(tmp_path, stop):
    drive(tmp_path / "whole", tuning=10)
    drive(tmp_path / "parts", tuning=10, stop_after=stop)
    drive(tmp_path / "parts", tuning=10, slots=5, order=1)
    assert table(tmp_path / "parts") == table(tmp_path / "whole")


def test_an_extended_search_keeps_what_was_tuned_and_tunes_again(tmp_path):
    drive(tmp_path, evaluations=30, tuning=6)
    drive(tmp_path, evaluations=50, tuning=6)
    who = proposers(table(tmp_path))
    assert [k for k, name in enumerate(who) if name == "tuning"] == [*range(24, 30), *range(44, 50)]


def test_a_smaller_total_tunes_what_is_left_of_it(tmp_path):
    """What the proposers were asked stays theirs, though a run of that total would have tuned it."""
    drive(tmp_path, evaluations=40, tuning=10, stop_after=22)
    drive(tmp_path, evaluations=26, tuning=10)
    who = proposers(table(tmp_path))
    assert [k for k, name in enumerate(who) if name == "tuning"] == list(range(22, 26))


def test_when_the_time_is_over_it_tunes_before_the_final_check(tmp_path):
    """And a second session whose time is over as well only finishes that."""

    def session(stop_at, limit=None):
        done = 0
        with Log(tmp_path) as log:
            study = study_over(log, tuning=6)
            while study.wants_more() and done != limit:
                if study.progress()["asked"] >= stop_at:
                    study.stop_asking()
                for job in study.ask(1):
                    study.tell([answer(job)])
                    done += 1
            study.close_segment()

    session(20, limit=23)
    session(0)
    who = proposers(table(tmp_path))
    assert len(who) == 26
    assert [k for k, name in enumerate(who) if name == "tuning"] == list(range(20, 26))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cma-es"])
def test_who_came_farthest_is_tuned(sampler):
    """A structure that was fully trained, before one whose short test was better."""
    import random

    tuner = TuningProposer(SPACE, 1, sampler)
    trained, short = "max(x, sin(2 * x) * 3)", "tanh(2 * x) + 0.5 * x"
    for k, (text, scores) in enumerate([(short, {"mean": 2.5}), (trained, {"mean": 0.1, "full_mean": -1.0}), (short, {"mean": 2.6})]):
        tuner.tell(Outcome(k, text, "genetic", "ok", scores))
    wanted = _skeleton(SPACE.derive(parse_candidate(trained)), SPACE)
    for k in range(8):
        proposal = tuner.ask(random.Random(k))
        assert _skeleton(SPACE.derive(parse_candidate(proposal.candidate)), SPACE) == wanted
        tuner.tell(Outcome(3 + k, proposal.candidate, "tuning", "ok", {"mean": k / 10, "full_mean": k / 10}))


def test_tuning_needs_numbers_and_a_part_of_the_budget():
    with pytest.raises(ValueError, match="have none"):
        make_tuner(3, "tpe", OperatorSpace(("add", "tanh"), 5, constants=False))
    with pytest.raises(ConfigError, match=r"the last of budget\.evaluations"):
        load("smoke.yaml", ["tuning={evaluations: 26}"])
