"""The window's law, who hears of a window that is too small, and the simulator that the law is read from."""

from __future__ import annotations

import heapq
from pathlib import Path
from types import SimpleNamespace

import pytest

from evosearch import run as running
from evosearch.job import Job, Result
from evosearch.search.clock import Clock
from evosearch.search.store import Log
from evosearch.search.study import FINAL_INDEX
from evosearch.search.window import Watch, law, unfed
from evosearch.source import import_file
from evosearch.stopping import Stop
from tests.search.test_study import answer, study_over

simulator = import_file(Path(__file__).parent.parent.parent / "scripts" / "simulate.py", "simulate_script")


def simulated(kind, share, workers=12, **more):
    kind = simulator.KINDS[kind]
    needed = law(workers, *kind.longest_and_mean(0))
    window = max(1, round(share * needed))
    return window, simulator.simulate(workers, window, kind, functions=simulator.functions_for(window, needed), **more)


@pytest.mark.parametrize("kind", ["constant", "lognormal", "heavy-50"])
def test_the_laws_window_feeds_the_workers_and_a_quarter_of_it_does_not(kind):
    window, found = simulated(kind, 1)
    assert found.steady >= 0.95
    assert (found.blind, round(found.lacking)) == (window, window - 1)
    assert simulated(kind, 0.25)[1].steady < 0.9


def test_the_simulator_is_the_same_again():
    first, second = (simulated("lognormal", 0.5, workers=4)[1] for _ in range(2))
    assert (first.steady, first.overall, first.lacking) == (second.steady, second.overall, second.lacking)


def test_the_law():
    assert law(1000, 60, 60) == 1000
    assert law(1000, 300, 27.2) == 11030
    assert law(3, 10, 7) == 5  # up: a part of an ask is one


def test_more_workers_than_the_window_feeds_are_said():
    assert unfed(16, 16) is None
    assert "4 of 20 are not started" in unfed(16, 20)


def test_a_watch_says_once_what_the_window_cost():
    watch = Watch(4, 2)
    watch.dispatched([Job(0, "x", 0), Job(1, "x", 0)], 0.0)
    assert watch.look(0, 0.0) is None
    watch.told([Result(1, "x", "ok")], 10.0)
    assert watch.look(1, 10.0) is None  # less than a minute
    watch.told([Result(0, "x", "ok")], 90.0)
    said = watch.look(0, 90.0)  # one of two was idle for 80 of 90 s; jobs of 10 and 90 s
    assert "idle 44% of the time" in said
    assert "a window of 4, which" in said  # 2 x 90 / 50
    assert watch.look(1, 500.0) is None


def test_a_watch_is_silent_where_little_was_lost():
    watch = Watch(4, 2)
    watch.dispatched([Job(0, "x", 0)], 0.0)
    watch.look(0, 0.0)
    watch.told([Result(0, "x", "ok")], 99.0)
    watch.look(1, 99.0)
    assert watch.look(0, 100.0) is None


class Virtual:
    """An executor on a virtual clock: every tenth job takes a hundred seconds, the others one."""

    def __init__(self, workers):
        self.workers, self.now, self._jobs = workers, 0.0, []

    def monotonic(self):
        return self.now

    def free_slots(self):
        return self.workers - len(self._jobs)

    def submit(self, job):
        heapq.heappush(self._jobs, (self.now + (100.0 if job.index % 10 == 5 else 1.0), job.index, job))

    def poll(self, timeout):
        self.now, _, job = heapq.heappop(self._jobs)
        return [answer(job)]

    @property
    def in_flight(self):
        return [index for _, index, _ in self._jobs]


@pytest.mark.parametrize(("window", "is_said"), [(6, True), (60, False)])
def test_a_run_says_that_its_window_is_too_small(tmp_path, monkeypatch, window, is_said):
    executor, notices = Virtual(4), []
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=executor.monotonic))
    with Log(tmp_path) as log:
        study = study_over(log, evaluations=50, window=window, shares={"random": 1.0})
        running._loop(study, executor, Clock(None, 0.0), Stop(), None, Watch(window, 4), notices.append)
        assert study.progress()["told"] == sum(row["index"] < FINAL_INDEX for row in study.rows()) == 50
    assert len(notices) == is_said
    if is_said:
        assert "the window of 6 waits for its longest job (100 s" in notices[0]
