"""An entry whose candidates are the names of what they do. Standard library only, so that a worker is warm at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

from evosearch.job import Job, Result


def load(plan_text: str) -> Callable[[str], str]:
    if plan_text == "fails":
        raise ValueError("there is no such data")
    if plan_text == "dies":
        os._exit(3)

    def run(job_text: str) -> str:
        job = Job.from_text(job_text)
        name, _, argument = job.candidate.partition(" ")
        answer = BEHAVIOR[name](job, argument)
        return Result(job.index, job.candidate, "ok", worker=f"pid-{os.getpid()}").to_text() if answer is None else answer

    return run


def _sleep(job: Job, seconds: str) -> None:
    time.sleep(float(seconds))


def _raise(job: Job, message: str) -> None:
    raise KeyError(message)


def _memory_bomb(job: Job, argument: str) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(8 << 20))


def _torch_bomb(job: Job, argument: str) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def _flood(job: Job, argument: str) -> None:
    for stream in (1, 2):
        for _ in range(100):
            os.write(stream, b"x" * (1 << 20))
    print("x" * (1 << 20))


def _stubborn(job: Job, argument: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


def _daemon(job: Job, argument: str) -> None:
    """Leaves a grandchild in a session of its own that holds every descriptor open; then dies if `argument` says so."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    if argument == "dies":
        os.abort()


def _fork_many(job: Job, argument: str) -> None:
    for _ in range(10):
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
            time.sleep(600)
    time.sleep(600)


def _litter(job: Job, argument: str) -> None:
    """Changes whatever a process shares with itself."""
    os.chdir("/")
    os.environ["EVOSEARCH_LITTER"] = "1"
    sys.setrecursionlimit(100)
    for descriptor in range(3):
        os.close(descriptor)


def _clean(job: Job, argument: str) -> None:
    assert "EVOSEARCH_LITTER" not in os.environ
    assert sys.getrecursionlimit() > 100
    assert os.getcwd() != "/"


def _scribble(job: Job, argument: str) -> None:
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            try:
                os.write(descriptor, b"garbage!" * 100)
            except OSError:
                continue


_POISON: list[int] = []  # what no look at the process can see


def _victim(job: Job, argument: str) -> None:
    if _POISON:
        os.abort()


def _threads(job: Job, argument: str) -> str:
    return Result(job.index, job.candidate, "ok", error=os.environ["OMP_NUM_THREADS"]).to_text()


def _capability(job: Job, argument: str) -> str:
    return Result(job.index, job.candidate, "ok", error=os.environ.get("ATEN_CPU_CAPABILITY")).to_text()


def _gpus(job: Job, argument: str) -> str:
    return Result(job.index, job.candidate, "ok", error=os.environ.get("CUDA_VISIBLE_DEVICES")).to_text()


def _secrets(job: Job, argument: str) -> str:
    return Result(job.index, job.candidate, "ok", error=",".join(name for name in os.environ if name.startswith("RAY_"))).to_text()


BEHAVIOR: dict[str, Callable[[Job, str], str | None]] = {
    "ok": lambda job, argument: None,
    "sleep": _sleep,
    "raise": _raise,
    "segfault": lambda job, argument: str(ctypes.string_at(0)),
    "abort": lambda job, argument: os.abort(),
    "suicide": lambda job, argument: os.kill(os.getpid(), signal.SIGKILL),
    "patricide": lambda job, argument: os.kill(os.getppid(), signal.SIGKILL),
    "exit": lambda job, argument: os._exit(0),
    "sys_exit": lambda job, argument: sys.exit(0),
    "memory_bomb": _memory_bomb,
    "torch_bomb": _torch_bomb,
    "flood": _flood,
    "stubborn": _stubborn,
    "daemon": _daemon,
    "fork_many": _fork_many,
    "litter": _litter,
    "clean": _clean,
    "say": lambda job, argument: argument,
    "scribble": _scribble,
    "poison": lambda job, argument: _POISON.append(1),
    "victim": _victim,
    "threads": _threads,
    "secrets": _secrets,
    "capability": _capability,
    "gpus": _gpus,
    "garbage": lambda job, argument: "{]",
    "deep": lambda job, argument: "[" * 100_000,
    "long": lambda job, argument: "x" * (20 << 20),
    "wrong_index": lambda job, argument: Result(job.index + 1, job.candidate, "ok").to_text(),
    "nan": lambda job, argument: Result(job.index, job.candidate, "ok").to_text().replace('"scores":{}', '"scores":{"a":NaN}'),
}
