"""Hostile candidates by name, what each of them is to come to, and a probe that sees what another one has left behind.

The entry imports torch and numpy, so that a worker is what it is in a search. test_hostile.py and
scripts/hostile.py put every one of them through an executor.
"""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import json
import locale
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch

from evosearch.job import Job, Result

ENTRY = "tests.execution.hostile:load"
TIME_LIMIT = 1.5  # seconds: on a busy machine a memory bomb takes its time
MEMORY_LIMIT_GB = 0.0625
PROBE = "probe"

Act = Callable[[Job], Any]  # what is returned is the answer; None is a proper one


def load(plan_text: str) -> Callable[[str], str]:
    _probe(Job(0, PROBE, 0))  # one complete step, as a search's worker has done

    def run(job_text: str) -> str:
        job = Job.from_text(job_text)
        answer = _probe(job) if job.candidate == PROBE else CANDIDATES[job.candidate][0](job)
        return _ok(job).to_text() if answer is None else answer

    return run


def _ok(job: Job) -> Result:
    return Result(job.index, job.candidate, "ok")


def _probe(job: Job) -> str:
    """A training step with whatever generators, types and modes are in force, and how the process stands."""
    x = torch.rand(8, 4) + torch.tensor(np.random.rand(8, 4)) + random.random()
    layer = torch.nn.Linear(4, 4).to(x.dtype)
    layer(x).square().mean().backward()
    scores = {f"weight {i}": value for i, value in enumerate((layer.weight - layer.weight.grad).flatten().tolist())}
    umask = os.umask(0)
    os.umask(umask)
    state = {
        "cwd": os.getcwd(), "umask": umask, "locale": locale.setlocale(locale.LC_ALL),
        "environment": sorted(item for item in os.environ.items() if item[0] != "EVOSEARCH_WORKER"),
        "dtype": str(x.dtype), "threads": [torch.get_num_threads(), threading.active_count()], "recursion": sys.getrecursionlimit(),
        "limits": [resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)],
        "timer": signal.getitimer(signal.ITIMER_REAL), "handlers": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGALRM)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "tiny": 5e-324 * float(umask >= 0), "files": len(os.listdir("/proc/self/fd")),
        "sum": sum([1, 2]), "gc": gc.isenabled(), "numpy": np.geterr(), "warnings": len(warnings.filters), "nice": os.nice(0),
        "trace": sys.gettrace() is None, "atexit": atexit._ncallbacks(), "session": os.getsid(0) == os.getsid(os.getppid()),
    }  # fmt: skip
    return Result(job.index, job.candidate, "ok", scores=scores, error=json.dumps(state, default=str)).to_text()


# -- who does not end --------------------------------------------------------------------------------------------------


def _spin(job: Job) -> NoReturn:
    while True:
        pass


def _stubborn(job: Job) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


def _deaf(job: Job) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(600)


def _close_and_sleep(job: Job) -> None:
    os.closerange(3, 256)
    time.sleep(600)


# -- who ends itself, or tries to end us -------------------------------------------------------------------------------


def _signal(number: signal.Signals, whom: Callable[[], int], job: Job) -> None:
    os.kill(whom(), number)


def _signal_group(number: signal.Signals, job: Job) -> None:
    os.killpg(0, number)
    time.sleep(60)


def _overflow_the_stack(job: Job) -> None:
    sys.setrecursionlimit(1 << 30)

    class Nested:
        def __repr__(self) -> str:
            return repr([self])

    repr(Nested())


# -- processes ---------------------------------------------------------------------------------------------------------


def _fork_bomb(job: Job) -> None:
    """Up to 128 processes, each in a session of its own; ends by itself, so that a failing test does not end the machine."""
    end = time.monotonic() + 20
    for _ in range(7):
        if os.fork() == 0:
            os.setsid()
    while time.monotonic() < end:
        pass
    os._exit(0)


def _fork_and_wait(job: Job) -> None:
    for _ in range(10):
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
            time.sleep(600)
    time.sleep(600)


def _daemon(job: Job) -> None:
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)


def _double_fork(job: Job) -> None:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.closerange(0, 256)
            time.sleep(600)
        os._exit(0)
    os.waitpid(pid, 0)


def _daemon_and_patricide(job: Job) -> None:
    _double_fork(job)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def _zombies(job: Job) -> None:
    for _ in range(10):
        if os.fork() == 0:
            os._exit(0)


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory_fast(job: Job) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(8 << 20))


def _memory_slow(job: Job) -> None:
    hoard = []
    while True:
        hoard.append([0.5] * 10_000)


def _memory_torch(job: Job) -> None:
    hoard = []
    while True:
        hoard.append(torch.ones(1 << 20))


def _memory_graph(job: Job) -> None:
    x = torch.ones(1 << 18, requires_grad=True)
    while True:
        x = x.sin()


def _memory_numpy(job: Job) -> None:
    hoard = []
    while True:
        hoard.append(np.ones(1 << 20))


def _memory_without_limit(job: Job) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    for _ in range(200):
        job.bar.setdefault("hoard", []).append(bytearray(4 << 20))  # type: ignore[attr-defined]
        time.sleep(0.01)


def _memory_in_children(job: Job) -> None:
    for _ in range(4):
        if os.fork() == 0:
            hoard = b"x" * (24 << 20)
            time.sleep(600 + len(hoard))
    time.sleep(600)


def _hoard(job: Job) -> None:
    builtins_hoard.append(bytearray(40 << 20))


builtins_hoard: list[bytearray] = []


# -- answers -----------------------------------------------------------------------------------------------------------


def _raise(error: Callable[[], BaseException], job: Job) -> NoReturn:
    raise error()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


class Base(BaseException):
    pass


def _overrun_recursion(job: Job) -> None:
    _overrun_recursion(job)


def _flood(job: Job) -> None:
    """1 GB on standard output and as much on standard error."""
    block = b"x" * (1 << 20)
    for _ in range(1000):
        os.write(1, block)
        os.write(2, block)
    print("x" * (1 << 20))
    print("x" * (1 << 20), file=sys.stderr)


def _scribble(text: bytes, job: Job) -> None:
    """Into whatever is open."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            try:
                os.write(descriptor, text)
            except OSError:
                continue


# -- what is left behind -----------------------------------------------------------------------------------------------


def _torch_state(job: Job) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)


def _seeds(job: Job) -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    torch.rand(7)


def _environment(job: Job) -> None:
    os.environ["OMP_NUM_THREADS"] = "7"
    os.environ.pop("PATH", None)


def _limits(job: Job) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))


def _open_files(job: Job) -> None:
    for _ in range(5000):
        os.open(os.devnull, os.O_RDONLY)


def _late_thread(job: Job) -> None:
    def later() -> None:
        time.sleep(0.02)
        torch.set_default_dtype(torch.float64)

    threading.Thread(target=later, daemon=True).start()


def _late_exit(job: Job) -> None:
    atexit.register(time.sleep, 600)
    ctypes.CDLL(None).on_exit(ctypes.CDLL(None).abort, None)


def _late_alarm(job: Job) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.02)


def _patch(job: Job) -> None:
    builtins.sum = lambda *values: 7  # type: ignore[assignment]


def _interpreter(job: Job) -> None:
    gc.disable()
    sys.setrecursionlimit(60)
    warnings.simplefilter("ignore")
    sys.stdout = None  # type: ignore[assignment]
    sys.settrace(lambda *event: None)


def _attributes(job: Job) -> None:
    os.nice(5)
    os.setsid() if os.getpgid(0) != os.getpid() else None
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


TIMEOUT, MEMORY, OK = ("timeout", "timeout"), ("memory", "memory"), ("ok", None)

# name -> what it does, status, reason
CANDIDATES: dict[str, tuple[Act, str, str | None]] = {
    "hang in Python": (_spin, *TIMEOUT),
    "hang in C with the interpreter's lock": (lambda job: sum(range(1 << 60)), *TIMEOUT),
    "hang in torch": (lambda job: torch.eye(700, dtype=torch.float64).matrix_power((1 << 62) - 1).sum().item() and _spin(job), *TIMEOUT),
    "sleep": (lambda job: time.sleep(600), *TIMEOUT),
    "sleep with every signal blocked": (_deaf, *TIMEOUT),
    "SIGTERM, SIGINT, SIGHUP and SIGALRM ignored": (_stubborn, *TIMEOUT),
    "SIGSTOP itself": (partial(_signal, signal.SIGSTOP, os.getpid), *TIMEOUT),
    "close the answer pipe and sleep": (_close_and_sleep, *TIMEOUT),
    "become another program": (lambda job: os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"]), *TIMEOUT),
    "fork 20 that sleep": (_fork_and_wait, *TIMEOUT),
    "SIGSEGV": (lambda job: ctypes.string_at(0), "crash", "crash:SIGSEGV"),
    "abort": (lambda job: os.abort(), "crash", "crash:SIGABRT"),
    "SIGBUS": (partial(_signal, signal.SIGBUS, os.getpid), "crash", "crash:SIGBUS"),
    "SIGFPE": (partial(_signal, signal.SIGFPE, os.getpid), "crash", "crash:SIGFPE"),
    "SIGALRM": (partial(_signal, signal.SIGALRM, os.getpid), "crash", "crash:SIGALRM"),
    "SIGKILL itself": (partial(_signal, signal.SIGKILL, os.getpid), "crash", "crash:SIGKILL"),
    "SIGTERM its group": (partial(_signal_group, signal.SIGTERM), "crash", "crash:SIGTERM"),
    "SIGKILL its group": (partial(_signal_group, signal.SIGKILL), "crash", "crash:SIGKILL"),
    "overflow the C stack": (_overflow_the_stack, "crash", "crash:SIGSEGV"),
    "SIGKILL its server": (partial(_signal, signal.SIGKILL, os.getppid), "crash", "crash:server"),
    "SIGTERM its server": (partial(_signal, signal.SIGTERM, os.getppid), "crash", "crash:server"),
    "SIGKILL its server, with a daemon": (_daemon_and_patricide, "crash", "crash:server"),
    "SIGSTOP its server": (partial(_signal, signal.SIGSTOP, os.getppid), "lost", "lost:server"),
    "SIGINT its server": (partial(_signal, signal.SIGINT, os.getppid), *OK),
    "os._exit(0)": (lambda job: os._exit(0), "error", "error:no_result"),
    "_exit(3) of C": (lambda job: ctypes.CDLL(None)._exit(3), "error", "error:no_result"),
    "sys.exit": (lambda job: sys.exit(0), "error", "error:SystemExit"),
    "fork bomb": (_fork_bomb, "error", "error:processes"),
    "daemon in its own session": (_daemon, *OK),
    "daemon by a double fork": (_double_fork, *OK),
    "10 zombies": (_zombies, *OK),
    "memory, fast": (_memory_fast, *MEMORY),
    "memory, slow": (_memory_slow, *MEMORY),
    "memory, torch, fast": (lambda job: torch.ones(1 << 40), *MEMORY),
    "memory, torch, slow": (_memory_torch, *MEMORY),
    "memory, an endless graph": (_memory_graph, *MEMORY),
    "memory, numpy": (_memory_numpy, *MEMORY),
    "memory, its limit lifted": (_memory_without_limit, *MEMORY),
    "memory, spread over children": (_memory_in_children, *MEMORY),
    "MemoryError by hand": (partial(_raise, MemoryError), *MEMORY),
    "hoard most of the memory": (_hoard, *OK),
    "recursion": (_overrun_recursion, "error", "error:RecursionError"),
    "KeyboardInterrupt": (partial(_raise, KeyboardInterrupt), "error", "error:KeyboardInterrupt"),
    "BaseException": (partial(_raise, Base), "error", "error:Base"),
    "an error that cannot be printed": (partial(_raise, Unspeakable), "error", "error:Unspeakable"),
    "an error of 10 MB": (partial(_raise, lambda: ValueError("x" * 10_000_000)), "error", "error:ValueError"),
    "1 GB on each of its outputs": (_flood, *OK),
    "close every descriptor": (lambda job: os.closerange(0, 4096), "error", "error:no_result"),
    "garbage in the answer pipe": (partial(_scribble, b"garbage!" * 100), "error", "error:bad_answer"),
    "another's answer in the answer pipe": (
        partial(_scribble, b"\0\0\1\x2d=" + Result(99, "x", "ok").to_text().encode().ljust(300)), "error", "error:wrong_answer"
    ),
    "an answer of 50 MB": (lambda job: "x" * 50_000_000, "error", "error:bad_answer"),
    "an answer that is no JSON": (lambda job: "{]", "error", "error:bad_answer"),
    "an answer of 100,000 brackets": (lambda job: "[" * 100_000, "error", "error:bad_answer"),
    "an answer that is no text": (lambda job: 7, "error", "error:TypeError"),
    "an answer that is no Unicode": (lambda job: "\ud800", "error", "error:UnicodeEncodeError"),
    "an answer for another job": (lambda job: Result(job.index + 1, job.candidate, "ok").to_text(), "error", "error:wrong_answer"),
    "a score that is not finite": (lambda job: _ok(job).to_text().replace('"scores":{}', '"scores":{"a":NaN}'), "error", "error:bad_answer"),
    "another working directory": (lambda job: os.chdir("/"), *OK),
    "another locale": (lambda job: locale.setlocale(locale.LC_ALL, "C" if "UTF" in locale.setlocale(locale.LC_ALL) else "C.UTF-8") and None, *OK),
    "another default dtype and grad mode": (_torch_state, *OK),
    "other seeds": (_seeds, *OK),
    "two threads": (lambda job: torch.set_num_threads(2), *OK),
    "another umask": (lambda job: os.umask(0o000) and None, *OK),
    "another environment": (_environment, *OK),
    "smaller resource limits": (_limits, *OK),
    "denormals flushed to zero": (lambda job: torch.set_flush_denormal(True) and None, *OK),
    "numpy's errors raised": (lambda job: np.seterr(all="raise") and None, *OK),
    "a patched builtin": (_patch, *OK),
    "another interpreter's state": (_interpreter, *OK),
    "another nice value and affinity": (_attributes, *OK),
    "5,000 open files": (_open_files, *OK),
    "a thread that outlives the answer": (_late_thread, *OK),
    "an alarm after the answer": (_late_alarm, *OK),
    "exit handlers": (_late_exit, *OK),
}  # fmt: skip
