"""A find that is proposed again and again is trained once more on fresh seeds: a lucky score cannot rule."""

from __future__ import annotations

import random
from dataclasses import replace

from evosearch.meaning.screen import Screen
from evosearch.proposers import SCREENED, Outcome, Proposal
from evosearch.proposers.registry import make_proposer
from evosearch.search.pick import fully_trained, pick
from evosearch.search.store import Log
from evosearch.search.study import FINAL_SEED, FRESH, Study
from tests.search.test_study import BASELINES, SPACE, answer, settings

LUCKY, OTHERS = "sin(x) + x", [f"max(x, {k}) * tanh(x)" for k in range(1, 40)]


class Insistent:
    """Proposes one function at every second ask."""

    name = "insistent"

    def __init__(self):
        self.told, self.asked = [], 0

    def tell(self, outcome):
        self.told.append(outcome)

    def ask(self, rng):
        self.asked += 1
        return Proposal(LUCKY if self.asked % 2 else OTHERS[self.asked // 2], (), self.name)


def lucky(job):
    """The first evaluation of LUCKY is far better than those on other seeds."""
    result = answer(job)
    if job.candidate != LUCKY:
        return result
    value = 99.0 if job.seed == 0 else 51.0
    full = {f"full:{pair}:{s}": score for pair, score in (("a", value), ("b", 50.0)) for s in range(2)}
    scores = full | {"quick:a:0": 60.0, "quality:a:0": value, "first_seed:a:0": 60.0}
    return replace(result, status="ok", reason=None, stage="full", scores=scores)


def searched(directory, retrain_after):
    proposer = Insistent()
    with Log(directory) as log:
        study = Study(log, proposer, Screen(8, 1), settings(evaluations=20, window=2, retrain_after=retrain_after))
        while study.wants_more():
            for job in study.ask(1):
                study.tell([lucky(job)])
        return proposer, [r for r in study.rows() if r["candidate"] == LUCKY], study.rows(), study.scale, study


def test_it_is_trained_again_on_fresh_seeds_and_its_mean_counts(tmp_path):
    proposer, again, rows, scale, _ = searched(tmp_path, 4)
    assert [r["seed"] for r in again] == [k * FRESH for k in range(len(again))]
    assert len(again) > 1
    (one,) = [r for r in fully_trained(rows) if r["candidate"] == LUCKY]
    assert one["objectives"]["mean"] < again[0]["objectives"]["mean"]
    assert sum(key.startswith("full:a:") for key in one["scores"]) == 2 * len(again)
    told = [o.objectives["mean"] for o in proposer.told if o.candidate == LUCKY and o.index != SCREENED]
    assert told[0] > told[1]
    assert pick(rows, scale) is not None


def test_a_find_is_trained_again_on_seeds_that_no_check_draws_from():
    from evosearch import rerank, transfer, verification

    assert max(FINAL_SEED, verification.FIRST_SEED, rerank.FIRST_SEED, transfer.FIRST_SEED) + 10_000 < FRESH


def test_without_the_key_nothing_is_trained_twice(tmp_path):
    _, again, rows, _, _ = searched(tmp_path, 0)
    assert len(again) == 1
    assert len({r["candidate"] for r in rows}) == len(rows)


def test_baselines_are_not_trained_again(tmp_path):
    class OfBaselines(Insistent):
        def ask(self, rng):
            self.asked += 1
            return Proposal(BASELINES[1][1] if self.asked % 2 else OTHERS[self.asked // 2], (), self.name)

    with Log(tmp_path) as log:
        study = Study(log, OfBaselines(), Screen(8, 1), settings(evaluations=20, window=2, retrain_after=2))
        while study.wants_more():
            for job in study.ask(1):
                study.tell([answer(job)])
        assert sum(r["candidate"] == BASELINES[1][1] for r in study.rows()) == 1


def test_genetic_forgets_a_parent_that_fails_the_second_time():
    proposer = make_proposer("genetic", SPACE)
    scores = {"mean": 2.0, "worst": 2.0, "complexity": -1.0, "saved_per_element": -1.0}
    proposer.tell(Outcome(0, LUCKY, "genetic", "ok", scores))
    proposer.tell(Outcome(SCREENED, LUCKY, "genetic", "duplicate", {}))
    assert [p.candidate for p in proposer.population] == [LUCKY]
    proposer.tell(Outcome(1, LUCKY, "genetic", "ok", scores | {"mean": 0.5}))
    assert [p.mean for p in proposer.population] == [0.5]
    proposer.tell(Outcome(2, LUCKY, "genetic", "rejected", {}))
    assert proposer.population == []
    assert proposer.ask(random.Random(0)).candidate
