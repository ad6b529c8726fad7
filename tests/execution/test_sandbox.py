"""One fork server: deadlines, sockets, descriptors, and what happens when the driver or the server dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from evosearch.execution import ExecutorError, make_executor, sandbox
from evosearch.execution.sandbox import ForkServer
from evosearch.job import Job, Result
from tests.execution.laws import ENTRY, HOSTILE, MEMORY_LIMIT_GB, TIME_LIMIT, happens, is_alive, offspring


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB)
    while not made.ready:
        made.poll(1.0)
    yield made
    made.close()


def ask(server: ForkServer, candidate: str, index: int = 0) -> Result:
    server.submit([Job(index, candidate, 0)])
    return answer_of(server)


def answer_of(server: ForkServer) -> Result:
    while not (results := server.poll(1.0)):
        pass
    (result,) = results
    return result


@pytest.mark.parametrize("candidate", [name for name, (status, _) in HOSTILE.items() if status == "timeout"])
def test_a_job_ends_within_two_seconds_of_its_limit(server: ForkServer, candidate: str) -> None:
    start = time.monotonic()
    assert ask(server, candidate).status == "timeout"
    assert TIME_LIMIT <= time.monotonic() - start < TIME_LIMIT + 2


@pytest.mark.parametrize("candidate", [*HOSTILE, "ok"])
def test_nothing_that_a_job_started_outlives_it(server: ForkServer, candidate: str) -> None:
    before = offspring()
    ask(server, candidate)
    if candidate == "patricide":
        assert happens(lambda: offspring() <= {server.pid}, within=2.0)
    else:
        assert offspring() <= before


def test_hundreds_of_jobs_leak_no_descriptor(server: ForkServer) -> None:
    ask(server, "ok")
    descriptors = psutil.Process(server.pid).num_fds()
    assert all(ask(server, "ok", index).index == index for index in range(300))
    assert psutil.Process(server.pid).num_fds() == descriptors


def test_a_server_has_one_thread(server: ForkServer) -> None:
    assert psutil.Process(server.pid).num_threads() == 1


def test_the_job_of_a_server_that_falls_silent_is_done_by_another(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_GRACE", -0.5)
    stopped = server.pid
    os.kill(stopped, signal.SIGSTOP)
    assert ask(server, "ok").status == "ok"
    assert server.pid != stopped


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_only_a_job_that_lost_three_servers_is_answered_for(server: ForkServer, deaths: int) -> None:
    server.submit([Job(0, "sleep 0.3", 0)])
    for _ in range(deaths):
        assert happens(lambda: not server.poll(0.05) and server.ready and bool(psutil.Process(server.pid).children()), within=10.0)
        os.kill(server.pid, signal.SIGKILL)
    result = answer_of(server)
    assert (result.status, result.reason) == (("ok", None) if deaths < 3 else ("crash", "crash:server"))
    assert ask(server, "ok", 1).status == "ok"  # the next job starts with a clean sheet


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_only_a_job_whose_child_was_killed_three_times_is_answered_for(server: ForkServer, deaths: int) -> None:
    server.submit([Job(0, "sleep 0.3", 0)])
    pid, killed = server.pid, set()
    while len(killed) < deaths:
        assert not server.poll(0.02)
        for child in psutil.Process(pid).children():
            if child.pid not in killed:
                child.kill()
                killed.add(child.pid)
    result = answer_of(server)
    assert server.pid == pid
    assert (result.status, result.reason) == (("ok", None) if deaths < 3 else ("crash", "crash:SIGKILL"))
    assert deaths < 3 or result.error == "the child was ended by SIGKILL (3 times in a row)"
    assert ask(server, "ok", 1).status == "ok"  # the next job starts with a clean sheet


def test_a_server_that_is_killed_while_it_warms_up_starts_again_and_the_third_time_says_so() -> None:
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB)
    made.submit([Job(0, "ok", 0)])
    for _ in range(2):
        old = made.pid
        os.kill(old, signal.SIGKILL)
        while made.pid == old:
            made.poll(1.0)
    assert answer_of(made).status == "ok"
    made.close()
    made = ForkServer(ENTRY, "", TIME_LIMIT, MEMORY_LIMIT_GB)
    for _ in range(2):
        old = made.pid
        os.kill(old, signal.SIGKILL)
        while made.pid == old:
            made.poll(1.0)
    os.kill(made.pid, signal.SIGKILL)
    with pytest.raises(ExecutorError, match=r"killed by SIGKILL .* 3 times in a row; is there memory enough"):
        made.poll(5.0)


def test_the_local_executor_opens_no_socket() -> None:
    with make_executor("local", ENTRY, "", workers=2, time_limit=5, memory_limit_gb=0.25) as executor:
        for index in range(2):
            executor.submit(Job(index, "sleep 1", 0))
        executor.poll(0.5)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        assert len(family) >= 3
        assert [connection for process in family[1:] for connection in process.net_connections("all")] == []
        assert [connection for connection in family[0].net_connections() if connection.status == psutil.CONN_LISTEN] == []


DRIVER = """
import sys, time
from evosearch.execution import make_executor
from evosearch.job import Job
executor = make_executor(sys.argv[1], "tests.execution.toy:load", "", workers=2, time_limit=60, memory_limit_gb=1)
for index, candidate in enumerate(["sleep 60", "fork_many"]):
    executor.submit(Job(index, candidate, 0))
executor.poll(1.5)
print("busy", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["local", pytest.param("ray", marks=pytest.mark.cluster)])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_driver_leaves_no_orphan(name: str, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER, name], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "busy\n"
        family = [
            process
            for process in psutil.Process(driver.pid).children(recursive=True)
            if "evosearch.execution.server" in process.cmdline()  # Ray's own processes follow at their own pace
        ]
        assert len(family) > 15
        driver.send_signal(number)
        driver.wait()
        assert happens(lambda: not any(is_alive(process) for process in family), within=2.0 if name == "local" else 10.0)
