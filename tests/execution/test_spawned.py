"""The isolation that a GPU needs, forced on a CPU: a worker that does its jobs itself, and what becomes of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from evosearch.execution import server as serving
from evosearch.execution.sandbox import ForkServer
from evosearch.execution.spawned import JOBS
from evosearch.job import Result
from tests.execution.laws import ENTRY, HOSTILE, MEMORY_LIMIT_GB, happens, jobs_of, offspring

TIME_LIMIT = 2.0  # seconds
ALWAYS = ("sleep 60", "segfault", "memory_bomb", "raise no", "litter", "daemon dies")  # the others when there is time
CANDIDATES = [
    name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow)
    for name in HOSTILE
    if name != "patricide"  # whose father would be pytest
]


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB, isolation="spawn")
    yield made
    made.close()


def ask_all(server: ForkServer, candidates: list[str]) -> list[Result]:
    server.submit(jobs_of(candidates))
    results = list[Result]()
    while server.jobs:
        results += server.poll(0.1)
    assert [result.index for result in results] == list(range(len(candidates)))
    return results


def test_it_does_the_jobs_itself(server: ForkServer) -> None:
    assert {result.worker for result in ask_all(server, ["ok"] * 5)} == {f"pid-{server.pid}"}
    assert server.isolation == "spawn"


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_status_never_falls_on_a_neighbor(server: ForkServer, candidate: str) -> None:
    results = ask_all(server, ["ok", candidate, "clean", "ok"])
    assert [(result.status, result.reason) for result in results] == [("ok", None), HOSTILE[candidate], ("ok", None), ("ok", None)]
    assert happens(lambda: offspring() <= {server.pid}, within=2.0)


@pytest.mark.parametrize("text", ["retired", "", "ready, forks"])
def test_no_answer_is_taken_for_a_sign(server: ForkServer, text: str) -> None:
    results = ask_all(server, [f"say {text}", "ok"])
    assert [(result.status, result.reason) for result in results] == [("error", "error:bad_answer"), ("ok", None)]


def test_garbage_in_its_pipe_is_the_jobs_that_wrote_it(server: ForkServer) -> None:
    results = ask_all(server, ["ok", "scribble", "ok"])
    assert [result.status for result in results] == ["ok", "error", "ok"]


def test_a_fresh_process_takes_over_after_so_many_jobs(server: ForkServer) -> None:
    workers = [result.worker for result in ask_all(server, ["ok"] * (JOBS + 50))]
    assert len(set(workers)) == 2


def test_a_worker_that_holds_a_gpu_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    for holds in (True, False):
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda held=holds: held)))
        assert serving._holds_a_gpu() is holds
