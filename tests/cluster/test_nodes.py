"""Three machines, and what happens to them: a worker, a raylet, the head is killed; a worker stands still; a link is cut."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.hosts import PORT, Host, Lan, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
LEASE = 60.0  # seconds: of jobs of 30 s and less


class Driver:
    """The driver on the head's host, and what it said."""

    def __init__(self, head: Host, *jobs: str, workers: int = 2, time_limit: float = 20.0) -> None:
        command = [sys.executable, "-m", "tests.cluster.driver", f"{head.address}:{PORT}", str(workers), str(time_limit), *jobs]
        self._errors = open(head.folder / "driver.log", "w+")
        self.process = head.popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        self.lines: list[dict[str, Any]] = []
        self.until("busy")
        self.since = time.monotonic()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._errors.close()

    def until(self, event: str) -> dict[str, Any]:
        """Reads on to that event."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue  # what Ray has to say
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"the driver ended with {self.process.wait()} before `{event}`: {self.errors()}")

    def errors(self) -> str:
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()[-3000:]

    @property
    def answers(self) -> list[tuple[int, str]]:
        return sorted((line["index"], line["status"]) for line in self.lines if line["event"] == "result")


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as made:
        yield made


@pytest.fixture
def pair(lan: Lan) -> tuple[Host, Host]:
    """The head with a core, and a worker with two."""
    head, other = lan.host(), lan.host()
    head.start_ray()
    other.start_ray(head, cpus=2)
    return head, other


def all_ok(count: int) -> list[tuple[int, str]]:
    return [(index, "ok") for index in range(count)]


def test_a_worker_process_is_killed(pair: tuple[Host, Host]) -> None:
    head, other = pair
    with Driver(head, *["sleep 6"] * 3, workers=3) as driver:
        assert other.kill("ray::_RayActor") == 2
        end = driver.until("end")
        assert driver.answers == all_ok(3)
        assert end["free"] == end["total"] == 3


def test_a_raylet_is_killed(pair: tuple[Host, Host]) -> None:
    head, other = pair
    with Driver(head, *["sleep 5"] * 4, workers=3) as driver:
        assert other.kill("raylet/raylet")
        end = driver.until("end")
        assert driver.answers == all_ok(4)
        assert end["free"] == end["total"] == 1


def test_the_head_is_killed(pair: tuple[Host, Host]) -> None:
    head, _ = pair
    with Driver(head, *["sleep 60"] * 3, workers=3, time_limit=100) as driver:
        assert head.kill("gcs_server")
        since = time.monotonic()
        assert driver.process.wait(40) not in (0, -signal.SIGSEGV, -signal.SIGABRT)
        took = time.monotonic() - since
        assert "the head of the Ray cluster does not answer any more" in driver.errors()
        assert "the same command goes on where this one ended" in driver.errors()
        assert took < 30


def test_a_worker_stands_still_for_a_while(pair: tuple[Host, Host]) -> None:
    head, other = pair
    with Driver(head, *["sleep 3"] * 3, workers=3) as driver:
        assert other.kill("ray::_RayActor", signal.SIGSTOP) == 2
        time.sleep(8)
        other.kill("ray::_RayActor", signal.SIGCONT)
        end = driver.until("end")
        assert driver.answers == all_ok(3)  # each once
        assert end["free"] == end["total"] == 3


@pytest.mark.parametrize("heals_after", [None, 12])
def test_a_link_is_cut(pair: tuple[Host, Host], heals_after: float | None) -> None:
    head, other = pair
    with Driver(head, *["sleep 4"] * 3, workers=3) as driver:
        other.cut()
        cut = time.monotonic()
        if heals_after:
            time.sleep(heals_after)
            other.heal()
        while len(driver.answers) < 3:
            driver.until("result")
        took = time.monotonic() - cut
        assert driver.answers == all_ok(3)
        asked_again_by = took - 2 * 4  # two jobs of 4 s, one after the other on the core that is left
        assert asked_again_by < LEASE + 10
        print(f"cut {'for ever' if heals_after is None else f'for {heals_after} s'}: the jobs in flight were answered {took:.1f} s after the cut")


def test_a_node_joins_a_run_that_has_begun(lan: Lan) -> None:
    head, other = lan.host(), lan.host()
    head.start_ray()
    command = [sys.executable, "-c", GROWING, f"{head.address}:{PORT}"]
    with head.popen(command, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "1 workers\n"
        other.start_ray(head, cpus=2)
        assert driver.stdout.readline() == "3 workers\n"
        assert driver.wait(30) == 0


GROWING = """
import sys, time
from evosearch.execution import Cluster, make_executor
from evosearch.job import Job
from tests.execution.laws import ENTRY
with make_executor("ray", ENTRY, "", time_limit=20, memory_limit_gb=0.5, at_most=3, cluster=Cluster(sys.argv[1])) as executor:
    seen, index = 0, 0
    while seen < 3:
        if len(executor.in_flight) < 3:
            executor.submit(Job(index := index + 1, "sleep 0.1", 0))
        executor.poll(0.2)
        if executor.workers != seen:
            seen = executor.workers
            print(seen, "workers", flush=True)
"""


def test_a_wrong_token_and_none_are_refused_at_once(lan: Lan) -> None:
    head = lan.host()
    head.start_ray()
    for token, words in (("wrong" * 8, "refuses the token (RAY_AUTH_TOKEN"), ("", "there is no token of the cluster")):
        lan.environment["RAY_AUTH_TOKEN"] = token
        since = time.monotonic()
        process = head.popen([sys.executable, "-c", JOINING, f"{head.address}:{PORT}"], stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
        assert words in said
        assert process.returncode == 1
        print(f"refused after {time.monotonic() - since:.1f} s")


JOINING = """
import sys
from evosearch.execution.cluster.connect import join
join(sys.argv[1], insecure=len(sys.argv) > 2)
"""


def test_a_cluster_without_tokens_is_joined_only_when_told_to() -> None:
    with Lan(RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="") as lan:
        head = lan.host()
        head.start_ray()
        for environment, flags, code, words in (
            ({"RAY_AUTH_TOKEN": "mine" * 8}, [], 1, "takes commands from anybody"),
            ({"RAY_AUTH_TOKEN": ""}, [], 1, "there is no token of the cluster"),
            ({"RAY_AUTH_TOKEN": ""}, ["--insecure-cluster"], 0, "warning: the Ray cluster"),
        ):
            lan.environment |= environment
            process = head.popen([sys.executable, "-c", JOINING, f"{head.address}:{PORT}", *flags], stderr=subprocess.PIPE)
            _, said = process.communicate(timeout=60)
            assert (process.returncode, words in said) == (code, True), said
