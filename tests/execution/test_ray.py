"""What only Ray can do to us: lose actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from evosearch.execution.ray import RayExecutor
from evosearch.job import Job, Result
from tests.execution.laws import ENTRY, jobs_of, run_all

pytestmark = pytest.mark.cluster


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    with RayExecutor(ENTRY, "", workers=2, time_limit=20, memory_limit_gb=0.25) as made:
        yield made


def kill_actor_of(executor: RayExecutor, number: int) -> None:
    """Kills the Ray worker process, not the fork server below it."""
    servers = [process for process in psutil.Process().children(recursive=True) if "execution.server" in " ".join(process.cmdline())]
    actors = {server.ppid() for server in servers if server.children()}
    os.kill(sorted(actors)[number], signal.SIGKILL)


def test_a_job_whose_actor_died_is_asked_again(executor: RayExecutor) -> None:
    executor.submit(Job(0, "sleep 3", 0))
    executor.poll(2.0)
    kill_actor_of(executor, 0)
    while not (results := executor.poll(5.0)):
        assert executor.in_flight == [0]
    assert [(result.index, result.status) for result in results] == [(0, "ok")]
    assert len(run_all(executor, jobs_of(["ok"] * 4))) == 4


def test_a_job_that_lost_three_actors_is_quarantined(executor: RayExecutor) -> None:
    executor.submit(Job(0, "sleep 15", 0))
    results = list[Result]()
    for _ in range(3):
        executor.poll(4.0)
        kill_actor_of(executor, 0)
    deadline = time.monotonic() + 20
    while not results and time.monotonic() < deadline:
        results = executor.poll(5.0)
    assert [(result.status, result.reason) for result in results] == [("quarantined", "quarantined:lost_workers")]
    assert len(run_all(executor, jobs_of(["ok"] * 4))) == 4


def test_a_silent_actor_loses_its_job(executor: RayExecutor) -> None:
    run_all(executor, jobs_of(["ok"] * 4))
    executor._lease = 0.5
    executor.submit(Job(0, "sleep 10", 0))
    deadline, results = time.monotonic() + 40, list[Result]()
    while not results and time.monotonic() < deadline:
        results = executor.poll(5.0)
    assert [result.status for result in results] == ["quarantined"]


def test_ray_listens_on_loopback_only(executor: RayExecutor) -> None:
    run_all(executor, jobs_of(["ok"] * 4))
    listening = {
        (process.name(), connection.laddr.ip)
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening
