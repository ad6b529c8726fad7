"""Batches: one child for cheap jobs, and what becomes of the neighbors of one that fails or changes the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evosearch.execution.batches import batch_size, share
from evosearch.execution.sandbox import ForkServer
from evosearch.job import Result
from tests.execution.laws import ENTRY, HOSTILE, MEMORY_LIMIT_GB, TIME_LIMIT, jobs_of


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB)
    yield made
    made.close()


def ask_all(server: ForkServer, candidates: list[str]) -> list[Result]:
    server.submit(jobs_of(candidates))
    results: list[Result] = []
    while server.jobs:
        results += server.poll(1.0)
    assert [result.index for result in results] == list(range(len(candidates)))  # in order, each once
    assert [result.candidate for result in results] == candidates
    return results


def test_cheap_jobs_share_a_child(server: ForkServer) -> None:
    assert len({result.worker for result in ask_all(server, ["ok"] * 20)}) < 5


def test_a_second_of_work_uses_a_child_up(server: ForkServer) -> None:
    assert len({result.worker for result in ask_all(server, ["sleep 0.55"] * 6)}) > 1


def test_results_come_one_by_one(server: ForkServer) -> None:
    server.submit(jobs_of(["ok", "sleep 0.5"]))
    assert [result.index for result in server.poll(5.0)] == [0]
    assert [job.index for job in server.jobs] == [1]
    assert [result.index for result in server.poll(5.0)] == [1]


def test_the_time_limit_is_a_jobs_not_a_batchs(server: ForkServer) -> None:
    results = ask_all(server, ["sleep 0.15"] * 10)  # 1.5 s, more than the limit
    assert {result.status for result in results} == {"ok"}


@pytest.mark.parametrize("candidate", HOSTILE)
def test_a_status_never_falls_on_a_neighbor(server: ForkServer, candidate: str) -> None:
    results = ask_all(server, ["ok", candidate, "clean", "ok"])
    assert [(result.status, result.reason) for result in results] == [
        HOSTILE[candidate] if result.candidate == candidate else ("ok", None) for result in results
    ]


@pytest.mark.parametrize(("durations", "size"), [([], 1), ([0.01], 100), ([0.05] * 4, 20), ([0.8], 1), ([60.0], 1), ([0.001] * 31 + [32], 1), ([0.0], 1000)])
def test_a_batch_is_a_second_of_work(durations: list[float], size: int) -> None:
    assert batch_size(durations) == size


def test_a_free_worker_leaves_the_others_their_share() -> None:
    assert [share(waiting, 4, 20) for waiting in (1, 4, 5, 80, 1000)] == [1, 1, 2, 20, 20]


def test_a_failure_beside_others_is_no_verdict(server: ForkServer) -> None:
    assert [result.status for result in ask_all(server, ["ok", "poison", "victim", "ok"])] == ["ok"] * 4
