"""What the tests of every executor share: the toy's entry, and ways to run jobs and to look at processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psutil

from evosearch.execution import Executor, make_executor
from evosearch.job import Job, Result

ENTRY = "tests.execution.toy:load"
TIME_LIMIT = 1.0  # seconds
MEMORY_LIMIT_GB = 0.05  # small: on a busy machine a bomb takes its time

# What a hostile candidate does -> status, reason
HOSTILE = {
    "sleep 60": ("timeout", "timeout"),
    "stubborn": ("timeout", "timeout"),
    "fork_many": ("timeout", "timeout"),
    "segfault": ("crash", "crash:SIGSEGV"),
    "abort": ("crash", "crash:SIGABRT"),
    "suicide": ("crash", "crash:SIGKILL"),
    "patricide": ("crash", "crash:server"),
    "memory_bomb": ("memory", "memory"),
    "torch_bomb": ("memory", "memory"),
    "raise no": ("error", "error:KeyError"),
    "exit": ("error", "error:no_result"),
    "sys_exit": ("error", "error:SystemExit"),
    "garbage": ("error", "error:bad_answer"),
    "deep": ("error", "error:bad_answer"),
    "nan": ("error", "error:bad_answer"),
    "long": ("error", "error:bad_answer"),
    "wrong_index": ("error", "error:wrong_answer"),
    "flood": ("ok", None),
    "litter": ("ok", None),
    "daemon": ("ok", None),
    "daemon dies": ("crash", "crash:SIGABRT"),
}


def make(name: str, plan: str = "") -> Executor:
    return make_executor(name, ENTRY, plan, workers=2, time_limit=TIME_LIMIT, memory_limit_gb=MEMORY_LIMIT_GB)


def jobs_of(candidates: Sequence[str]) -> list[Job]:
    return [Job(index, candidate, seed=0) for index, candidate in enumerate(candidates)]


def run_all(executor: Executor, jobs: Sequence[Job], patience: float = 60.0) -> dict[int, Result]:
    """Every job's result by index, each exactly once."""
    waiting, results = list(jobs), dict[int, Result]()
    deadline = time.monotonic() + patience
    while len(results) < len(jobs):
        assert time.monotonic() < deadline, f"no answer for {executor.in_flight}"
        while waiting and executor.free_slots():
            executor.submit(waiting.pop(0))
        for result in executor.poll(5.0):
            assert result.index not in results
            results[result.index] = result
    return results


def offspring() -> set[int]:
    """Living processes below this one."""
    return {child.pid for child in psutil.Process().children(recursive=True) if is_alive(child)}


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def happens(condition: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
