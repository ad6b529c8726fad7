"""The laws of an executor, the same for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evosearch.execution import EXECUTORS, Cluster, Executor, make_executor
from evosearch.job import Job
from tests.execution.laws import ENTRY, HOSTILE, TIME_LIMIT, jobs_of, make, run_all

RAY = pytest.param("ray", marks=pytest.mark.cluster)
EXECUTOR_PARAMS = [RAY if name == "ray" else name for name in EXECUTORS]
# Serial isolates nothing, so that a debugger works in it.
isolated = pytest.mark.parametrize("executor", [name for name in EXECUTOR_PARAMS if name != "serial"], indirect=True)


@pytest.fixture(scope="module", params=EXECUTOR_PARAMS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """One executor for all laws, as in a run: what one law leaves behind, the next one meets."""
    with make(request.param) as made:
        yield made


def test_every_job_is_answered_once(executor: Executor) -> None:
    results = run_all(executor, jobs_of(["ok", "sleep 0.05"] * 10))
    assert sorted(results) == list(range(20))
    assert {result.status for result in results.values()} == {"ok"}
    assert [results[index].candidate for index in range(20)] == ["ok", "sleep 0.05"] * 10


def test_slots_and_jobs_in_flight_are_counted(executor: Executor) -> None:
    free = executor.free_slots()  # cheap jobs go a batch to a worker: by now there may be more than one a worker
    assert free >= executor.workers
    assert executor.in_flight == []
    assert executor.poll(5.0) == []  # at once: nothing is in flight
    for taken in range(executor.workers):
        executor.submit(Job(10 - taken, "sleep 0.1", 0))
        assert executor.free_slots() == free - taken - 1
    assert executor.in_flight == sorted(range(10, 10 - executor.workers, -1))
    while executor.in_flight:
        executor.poll(5.0)
    assert executor.free_slots() >= executor.workers


@isolated
@pytest.mark.parametrize("candidate", HOSTILE)
def test_a_candidate_may_do_anything_and_only_it_suffers(executor: Executor, candidate: str) -> None:
    results = run_all(executor, jobs_of([candidate, "clean", "clean", "clean"]), patience=TIME_LIMIT + 15)
    assert (results[0].status, results[0].reason) == HOSTILE[candidate]
    assert (results[0].error is None) == (results[0].status == "ok")
    assert {results[index].status for index in (1, 2, 3)} == {"ok"}


@isolated
def test_poll_returns_when_its_time_is_up(executor: Executor) -> None:
    executor.submit(Job(0, "sleep 0.6", 0))
    assert executor.poll(0.1) == []
    assert [result.status for result in executor.poll(10.0)] == ["ok"]


@isolated
def test_a_worker_computes_with_one_thread_and_knows_no_token(executor: Executor) -> None:
    results = run_all(executor, jobs_of(["threads", "secrets"]))
    assert (results[0].error, results[1].error) == ("1", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "locl"}, "unknown executor `locl`; there are serial, local, ray"),
        ({"cluster": Cluster("auto")}, "an address goes with the executor ray"),
        ({"cluster": Cluster(gpus=0.5)}, "GPUs of each worker go with the executor ray"),
        ({"workers": 0}, "at least 1 worker; received 0"),
        ({"time_limit": 0.0}, "received 0.0"),
        ({"time_limit": float("nan")}, "received nan"),
        ({"memory_limit_gb": -1.0}, "received -1.0"),
    ],
)
def test_what_is_out_of_range_is_said(change: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"name": "local", "workers": 1, "time_limit": 1.0, "memory_limit_gb": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        make_executor(entry=ENTRY, plan_text="", **settings)  # type: ignore[arg-type]
