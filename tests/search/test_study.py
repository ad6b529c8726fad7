"""The laws of the study: window, arrival order, resume, what a log keeps. No torch: results are simulated."""

from __future__ import annotations

import hashlib
import random
from contextlib import suppress

import pytest

from evosearch.job import Result
from evosearch.meaning.screen import Screen
from evosearch.proposers.registry import make_portfolio, make_tuner
from evosearch.search import store
from evosearch.search.pareto import nondominated
from evosearch.search.scale import GOALS, Goal
from evosearch.search.store import Log, LogError, read_journal, read_run
from evosearch.search.study import FINAL_INDEX, FINAL_SEED, Settings, Study
from evosearch.space.operators import OperatorSpace

SPACE = OperatorSpace(("add", "mul", "max", "min", "neg", "tanh", "sin", "cos", "sigmoid", "gaussian"), 8, 1, True, 1, 0)
BASELINES = (("identity", "x"), ("relu", "relu(x)"), ("tanh", "tanh(x)"), ("sine", "sin(x)"))


def settings(evaluations=40, seed=0, window=6, goals=GOALS, tuning=0, retrain_after=0):
    return Settings(
        seed,
        window,
        evaluations,
        BASELINES,
        {"a": 1, "b": -1, "u": 1},
        {"quality": (0.3, ("a",)), "quick": (0.5, ("a",)), "first_seed": (0.2, ("a",))},
        ("u",),
        goals=goals,
        tuning=tuning,
        retrain_after=retrain_after,
    )


def answer(job):
    """A worker whose scores are a hash of the candidate's text."""
    number = int(hashlib.sha256(job.candidate.encode()).hexdigest(), 16) % 1000 / 10
    number = {"x": 10.0, "relu(x)": 50.0}.get(job.candidate, number)
    objectives = {"complexity": float(len(job.candidate)), "saved_per_element": 1.0}
    if job.stage == "final":
        scores = {f"final:u:{job.seed + s}": number + s for s in range(2)}
        return Result(job.index, job.candidate, "ok", None, "final", scores, objectives=objectives)
    scores = {"quick:a:0": number / 2}
    quick = (number / 2 - job.bar["center:quick:a"]) / job.bar["spread:quick:a"] if job.bar else 9
    if job.bar and quick < job.bar["bar:quick"]:
        return Result(job.index, job.candidate, "rejected", "quick:mean", "quick", scores, objectives=objectives)
    scores["quality:a:0"] = number
    objectives["quality_noise:a:0"] = number * 7 % 100
    if job.bar and number < job.bar["quality:a"]:
        return Result(job.index, job.candidate, "rejected", "quality:a", "quality", scores, objectives=objectives)
    mean = (number - job.bar["center:quality:a"]) / job.bar["spread:quality:a"] if job.bar else 9
    if job.bar and mean < job.bar["bar:quality"]:
        return Result(job.index, job.candidate, "ok", None, "quality", scores, objectives=objectives)
    scores["first_seed:a:0"] = number
    if job.bar and (number - job.bar["center:first_seed:a"]) / job.bar["spread:first_seed:a"] < job.bar["bar:first_seed"]:
        return Result(job.index, job.candidate, "ok", None, "first_seed", scores, objectives=objectives)
    objectives |= {f"noise:{pair}:{s}": number * 3 % 50 for pair in "ab" for s in range(2)}
    scores |= {f"full:{pair}:{s}": number + s / 10 for pair in "ab" for s in range(2)}
    return Result(job.index, job.candidate, "ok", None, "full", scores, objectives=objectives)


def study_over(log, shares=None, **changes):
    goals = [goal.name for goal in changes["goals"]] if "goals" in changes else None
    tuner = make_tuner(2, "tpe", SPACE) if changes.get("tuning") else None
    return Study(log, make_portfolio(shares or {"genetic": 0.5, "random": 0.2, "bayes": 0.3}, SPACE, goals=goals), Screen(8, 1), settings(**changes), tuner)


def drive(directory, *, slots=3, order=None, stop_after=None, **changes):
    """Runs a study with results in an order of their own; returns the number of jobs that a worker did."""
    rng, flying, done = random.Random(order), [], 0
    with Log(directory) as log:
        study = study_over(log, **changes)
        while study.wants_more():
            flying += study.ask(slots - len(flying))
            if flying:
                job = flying.pop(rng.randrange(len(flying)) if order is not None else 0)
                study.tell([answer(job)])
                done += 1
                if stop_after is not None and done >= stop_after:
                    return done
        study.close_segment()
    return done


def table(directory):
    (directory / "run.yaml").touch()
    rows, _ = read_run(directory)
    keep = ("index", "ask", "attempt", "candidate", "proposer", "status", "reason", "duplicate_of", "stage", "parents", "scores")
    return [{k: r[k] for k in keep} for r in sorted(rows, key=lambda r: (r["ask"], r["attempt"]))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reference")
    drive(directory)
    return table(directory)


@pytest.mark.parametrize(("slots", "order"), [(1, None), (2, 1), (5, 2), (6, 3), (6, 4)])
def test_the_search_does_not_depend_on_workers_or_arrival_order(tmp_path, reference, slots, order):
    drive(tmp_path, slots=slots, order=order)
    assert table(tmp_path) == reference


@pytest.mark.slow
def test_two_hundred_arrival_orders_give_one_hash(tmp_path):
    """Every proposer in one portfolio, 1 to 6 slots: five minutes."""
    shares = {"surrogate": 0.3, "genetic": 0.2, "bayes": 0.2, "islands": 0.1, "aging": 0.1, "late-acceptance": 0.1}
    hashes = set()
    for order in range(200):
        drive(tmp_path / str(order), slots=random.Random(order).randint(1, 6), order=order, shares=shares)
        hashes.add(hashlib.sha256(repr(table(tmp_path / str(order))).encode()).hexdigest())
    assert len(hashes) == 1


@pytest.mark.parametrize("stop", [1, 4, 5, 17, 30, 41, 43])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, reference, stop):
    first = drive(tmp_path, stop_after=stop)
    second = drive(tmp_path)
    assert table(tmp_path) == reference
    assert first + second == sum(1 for r in reference if r["index"] is not None)  # nothing was done twice


def test_a_finished_search_can_be_extended(tmp_path):
    drive(tmp_path, evaluations=30)
    drive(tmp_path, evaluations=40)
    whole = tmp_path / "whole"
    drive(whole)
    searched = [r for r in table(tmp_path) if (r["index"] or 0) < FINAL_INDEX]
    assert searched == [r for r in table(whole) if (r["index"] or 0) < FINAL_INDEX]


NOISE = (Goal("noise", 0, pairs={"quality": ("a",), "full": ("a", "b")}),)


def test_goals_steer_the_search_and_survive_a_resume_from_closed_segments(tmp_path, reference, monkeypatch):
    drive(tmp_path / "whole", goals=NOISE)
    found = table(tmp_path / "whole")
    assert [r["candidate"] for r in found] != [r["candidate"] for r in reference]
    monkeypatch.setattr(store, "SEGMENT_ROWS", 7)
    drive(tmp_path / "parts", goals=NOISE, stop_after=25)
    drive(tmp_path / "parts", goals=NOISE, slots=5, order=3)
    assert len(list((tmp_path / "parts" / "results").glob("*.parquet"))) > 3
    assert table(tmp_path / "parts") == found


def test_a_proposer_hears_the_goals_of_the_quality_test(tmp_path):
    """Which every candidate has; those of the full one only the best have."""
    with Log(tmp_path) as log:
        study, told = study_over(log, goals=NOISE, evaluations=120), []
        study.proposer.tell = told.append
        while study.wants_more():
            study.tell([answer(job) for job in study.ask(1)])
        heard = [outcome for outcome in told if outcome.status == "ok"]
        assert any(study._results[outcome.index]["stage"] == "quality" for outcome in heard)
        for outcome in heard:
            row = study._results[outcome.index]
            score, raw = row["scores"]["quality:a:0"], row["objectives"]["quality_noise:a:0"]
            expected = {"mean": study.scale.standardized("quality", "a", score, 1), "noise": study.scale.standardized("quality", "a", raw, 1)}
            assert {name: outcome.objectives[name] for name in expected} == expected
            assert ("full_mean" in outcome.objectives) == (row["stage"] == "full")


def test_another_seed_is_another_search(tmp_path, reference):
    drive(tmp_path, seed=1)
    assert table(tmp_path) != reference


def test_no_seed_of_a_search_is_one_of_the_final_check(tmp_path):
    for seed in (7, 1000, 10_000, 2**62):
        with Log(tmp_path / str(seed)) as log:
            (job,) = study_over(log, seed=seed).ask(1)
            assert job.seed + 100 <= FINAL_SEED


def test_a_log_of_another_search_is_refused(tmp_path):
    drive(tmp_path, stop_after=12)
    with pytest.raises(LogError, match="resume with the evosearch"):
        drive(tmp_path, seed=5)


def test_tell_is_idempotent_and_knows_what_it_asked(tmp_path):
    with Log(tmp_path) as log:
        study = study_over(log)
        (job,) = study.ask(1)
        study.tell([answer(job)])
        before = len(log.records)
        study.tell([answer(job)])
        assert len(log.records) == before
        with pytest.raises(ValueError, match="not asked"):
            study.tell([Result(99, "x", "ok")])


def test_no_candidate_is_dispatched_twice(reference):
    texts = [r["candidate"] for r in reference if r["index"] is not None and r["index"] < FINAL_INDEX]
    assert len(texts) == len(set(texts)) == 40


def test_the_window_hides_later_results(tmp_path):
    told = []
    with Log(tmp_path) as log:
        study = study_over(log)
        tell = study._tell_proposer
        study._tell_proposer = lambda row: (told.append((row["index"], study._next)), tell(row))
        while study.wants_more():
            for job in study.ask(1):
                study.tell([answer(job)])
    assert all(index <= max(3, asking - 6) for index, asking in told if asking < 40)


# -- the log -----------------------------------------------------------------------------------------------------------


def test_every_prefix_of_a_journal_gives_exactly_the_complete_records(tmp_path):
    drive(tmp_path, stop_after=6)
    data = (tmp_path / "journal.jsonl").read_bytes()[:3000]
    cut = tmp_path / "cut.jsonl"
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        records, sound, torn = read_journal(cut)
        assert len(records) == data[:length].count(b"\n")
        assert torn == (sound != length)


def test_a_flipped_byte_inside_is_named(tmp_path):
    drive(tmp_path, stop_after=6)
    file = tmp_path / "journal.jsonl"
    data = file.read_bytes()
    ends = [i for i, b in enumerate(data) if b == 10]
    for position in range(0, ends[-2], 7):
        file.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises(LogError, match="record"):
            read_journal(file)


def test_a_flipped_byte_in_a_segment_is_found(tmp_path):
    drive(tmp_path)
    (part,) = (tmp_path / "results").glob("*.parquet")
    clean, data = table(tmp_path), part.read_bytes()
    for position in range(8, len(data) - 1, max(1, len(data) // 60)):
        part.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        try:
            assert table(tmp_path) == clean  # the footer's slack: nothing that is read changed
        except (LogError, ValueError, KeyError, UnicodeDecodeError, AttributeError):
            continue


def test_a_torn_tail_is_dropped_and_said(tmp_path):
    drive(tmp_path, stop_after=6)
    file = tmp_path / "journal.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    with Log(tmp_path) as log:
        assert "torn" in log.notices[0]
    assert drive(tmp_path) > 0


def test_a_second_driver_is_refused(tmp_path):
    with Log(tmp_path), pytest.raises(LogError, match="in use by process"):
        Log(tmp_path)


@pytest.mark.parametrize("step", range(1, 13))
def test_killed_at_any_step_of_closing_a_segment_nothing_is_lost_or_doubled(tmp_path, monkeypatch, reference, step):
    count = 0

    def counted(function):
        def call(*args):
            nonlocal count
            count += 1
            if count == step:
                raise InterruptedError("killed here")
            return function(*args)

        return call

    with Log(tmp_path) as log:
        study = study_over(log)
        while study.wants_more():
            for job in study.ask(1):
                study.tell([answer(job)])
        for name in ("fsync", "replace"):
            monkeypatch.setattr(store.os, name, counted(getattr(store.os, name)))
        with suppress(LogError):
            study.close_segment()
        monkeypatch.undo()
    assert table(tmp_path) == reference
    assert drive(tmp_path) == 0
    assert table(tmp_path) == reference


def test_what_counts_as_told_is_fsynced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(store.os, "fsync", lambda handle: synced.append(handle))
    with Log(tmp_path) as log:
        study = study_over(log)
        (job,) = study.ask(1)
        before = len(synced)
        study.tell([answer(job)])
        assert len(synced) > before


def test_nothing_that_is_not_finite_enters_a_front():
    nan, inf = float("nan"), float("inf")
    assert nondominated([(nan, 1), (1, inf), (None, 2), (1, 1), (0, 2), (0, 1)]) == [3, 4]
    assert nondominated([(nan, nan)] * 3) == []


def test_the_quick_test_keeps_its_share(tmp_path):
    """A bar from the functions before lets through about the share that is to be kept, and stops no baseline."""
    drive(tmp_path, evaluations=200)
    with Log(tmp_path) as log:
        rows = [r for r in log.rows() if r["index"] is not None and r["index"] < FINAL_INDEX]
    ended, promoted = (sum(r["stage"] in stages for r in rows) for stages in (("first_seed",), ("first_seed", "full")))
    assert 0 < ended < promoted < 0.55 * len(rows)  # 0.3, and more while little is known
    stopped = [r for r in rows if r["reason"] == "quick:mean"]
    assert 0.25 < len(stopped) / len(rows) < 0.75
    assert not any(r["proposer"] == "baseline" for r in stopped)
    assert not any(key.startswith("quality:") for r in stopped for key in r["scores"])
