"""Hostile candidates: each its status, in time, without orphans, and the next one's result bit-equal to a fresh worker's.

The default suite has each of them once, between two probes in one batch; alone and in batches, under local and Ray, with the
ones that kill their server, it runs with `-m slow` and `-m cluster`. scripts/hostile.py prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import psutil
import pytest

from evosearch.execution import make_executor
from evosearch.execution.sandbox import ForkServer
from evosearch.job import Result
from tests.execution.hostile import CANDIDATES, ENTRY, MEMORY_LIMIT_GB, PROBE, TIME_LIMIT
from tests.execution.laws import happens, jobs_of, offspring
from tests.execution.observing import Observer

KILL_THE_SERVER = [name for name, (_, _, reason) in CANDIDATES.items() if reason in ("crash:server", "lost:server")]  # torch is loaded three times
TAMABLE = [name for name in CANDIDATES if name not in KILL_THE_SERVER]


def bits(result: Result) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name not in ("index", "worker")}


def ask(server: ForkServer, names: list[str]) -> list[Result]:
    server.submit(jobs_of(names))
    results = list[Result]()
    while server.jobs:
        results += server.poll(1.0)
    return results


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB)
    yield made
    made.close()


@pytest.fixture(scope="module")
def fresh() -> dict[str, Any]:
    """The probe's result in a worker that has done nothing else."""
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB)
    (result,) = ask(made, [PROBE])
    made.close()
    assert result.status == "ok", result
    return bits(result)


@pytest.mark.parametrize("name", TAMABLE)
def test_only_the_hostile_one_suffers(server: ForkServer, fresh: dict[str, Any], name: str) -> None:
    before, files = offspring(), psutil.Process(server.pid).num_fds()
    _, status, reason = CANDIDATES[name]
    start = time.monotonic()
    *others, result, after = ask(server, [*([] if status == "timeout" else [PROBE]), name, PROBE])
    assert (result.status, result.reason) == (status, reason), result.error
    assert time.monotonic() - start < 2 * TIME_LIMIT + 2  # beside a probe, and again alone
    assert all(bits(probe) == fresh for probe in (*others, after))
    assert happens(lambda: len(offspring() - before - {server.pid}) <= 1, within=0.5)  # the probes' child, which waits for more
    assert psutil.Process(server.pid).num_fds() <= files + 2


def test_there_are_at_least_forty() -> None:
    assert len(CANDIDATES) >= 40


@pytest.mark.parametrize("name", [pytest.param("local", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.cluster)])
def test_every_one_through_an_executor(name: str) -> None:
    with make_executor(name, ENTRY, "", workers=1, time_limit=TIME_LIMIT, memory_limit_gb=MEMORY_LIMIT_GB) as executor:
        observer = Observer(executor, TIME_LIMIT)
        problems = {
            (candidate, before): found
            for candidate, (_, status, reason) in CANDIDATES.items()
            for before in (0, 2)
            if (found := observer.observe(candidate, before).problems(status, reason))
        }
    assert problems == {}
