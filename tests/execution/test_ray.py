"""What only Ray can do to us: lose actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from evosearch.execution import ExecutorError
from evosearch.execution import ray as executing
from evosearch.execution.actor import SIGN
from evosearch.execution.ray import KILLS, RayExecutor
from evosearch.execution.versions import versions
from evosearch.job import Job, Result
from tests.execution.laws import ENTRY, jobs_of, run_all

pytestmark = pytest.mark.cluster


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    with RayExecutor(ENTRY, "", workers=2, time_limit=20, memory_limit_gb=0.25) as made:
        run_all(made, jobs_of(["sleep 0.2"] * 4), patience=200)  # both are warm, and a job goes alone
        yield made


def busy_actors(count: int) -> list[int]:
    """The processes of the Ray workers whose fork servers have a child, when so many do."""
    deadline = time.monotonic() + 20
    while True:
        actors = list[int]()
        with suppress(psutil.NoSuchProcess):  # one that ends while it is looked at: look again
            servers = [process for process in psutil.Process().children(recursive=True) if "execution.server" in " ".join(process.cmdline())]
            actors = sorted({server.ppid() for server in servers if server.children()})
        if len(actors) == count:
            return actors
        assert time.monotonic() < deadline, actors
        time.sleep(0.05)


def answered(executor: RayExecutor, patience: float = 40.0) -> list[Result]:
    deadline, results = time.monotonic() + patience, list[Result]()
    while executor.in_flight and time.monotonic() < deadline:
        results += executor.poll(2.0)
    return results


def test_a_job_whose_actor_died_is_asked_again(executor: RayExecutor) -> None:
    executor.submit(Job(0, "sleep 3", 0))
    executor.poll(0.5)
    os.kill(busy_actors(1)[0], signal.SIGKILL)
    assert [(result.index, result.status) for result in answered(executor)] == [(0, "ok")]
    assert len(run_all(executor, jobs_of(["ok"] * 4))) == 4


def test_a_job_that_killed_two_workers_is_quarantined(executor: RayExecutor) -> None:
    executor.submit(Job(0, "sleep 15", 0))
    for _ in range(KILLS):
        executor.poll(0.5)
        os.kill(busy_actors(1)[0], signal.SIGKILL)
        executor.poll(3.0)
    assert [(result.status, result.reason) for result in answered(executor)] in ([("quarantined", "quarantined:lost_workers")], [])
    assert executor.in_flight == []
    assert len(run_all(executor, jobs_of(["ok"] * 4))) == 4


def test_of_a_batch_whose_actor_died_twice_nobody_is_to_blame(executor: RayExecutor) -> None:
    run_all(executor, jobs_of(["sleep 0.01"] * 40))
    executor._durations.extend([0.02] * 32)  # ten in a batch
    jobs = [Job(index, "sleep 0.3", 0) for index in range(10)]
    for job in jobs:
        executor.submit(job)
    executor.poll(0.1)
    for actor in busy_actors(2):
        os.kill(actor, signal.SIGKILL)
    assert {(result.index, result.status) for result in answered(executor, 60.0)} >= {(9, "ok")}
    assert executor.in_flight == []
    assert not executor._kills  # the members of a batch: none is known to be at fault


def test_a_worker_that_stands_still_for_a_while_is_heard(executor: RayExecutor) -> None:
    executor.submit(Job(0, "sleep 1", 0))
    executor.poll(0.5)
    (stopped,) = busy_actors(1)
    os.kill(stopped, signal.SIGSTOP)
    assert executor.poll(4.0) == []
    os.kill(stopped, signal.SIGCONT)
    assert [(result.index, result.status) for result in answered(executor)] == [(0, "ok")]
    assert psutil.pid_exists(stopped)


def test_a_worker_that_stands_still_past_its_lease_loses_its_job_and_the_answer_counts_once(executor: RayExecutor) -> None:
    executor._lease = SIGN + 2
    executor.submit(Job(0, "sleep 1", 0))
    executor.poll(0.5)
    (stopped,) = busy_actors(1)
    os.kill(stopped, signal.SIGSTOP)
    since = time.monotonic()
    assert [(result.index, result.status) for result in answered(executor)] == [(0, "ok")]
    assert time.monotonic() - since < executor._lease + 10
    if psutil.pid_exists(stopped):
        os.kill(stopped, signal.SIGCONT)
    results = run_all(executor, jobs_of(["clean"] * 6))  # no second answer to the first among them
    assert [result.candidate for result in results.values()] == ["clean"] * 6


def test_a_worker_of_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "versions", lambda: {**versions(), "torch": "1.0"})
    with (
        RayExecutor(ENTRY, "", workers=1, time_limit=20, memory_limit_gb=0.25) as made,
        pytest.raises(ExecutorError, match=r"torch on the node \S+ is \S+, here 1\.0: scores would not compare; install torch==1\.0 there"),
    ):
        run_all(made, jobs_of(["ok"]), patience=200)


def test_the_cpu_capability_and_the_threads_are_pinned() -> None:
    from evosearch.execution import Cluster

    with RayExecutor(ENTRY, "", workers=1, time_limit=20, memory_limit_gb=0.25, cluster=Cluster(capability="DEFAULT")) as made:
        results = run_all(made, jobs_of(["threads", "capability"]), patience=200)
    assert [results[index].error for index in range(2)] == ["1", "default"]


def test_ray_listens_on_loopback_only(executor: RayExecutor) -> None:
    listening = {
        (process.name(), connection.laddr.ip)
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening
