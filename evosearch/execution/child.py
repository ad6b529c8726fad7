"""A child of the fork server: it does one job after the other, and is handed the next only when one is answered.

It runs in its own process group under a wall-clock limit and a limit on its address space. No job finds what another one
left: a child that a job has changed ends after its answer, and the next job gets a fresh one.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from evosearch.execution import frames
from evosearch.execution.processes import PR_SET_PDEATHSIG, address_space, end, family, is_dead, oom_kills, prctl, resident, signal_name
from evosearch.execution.traces import reset_randomness, traces
from evosearch.job import Job, Result

MAX_ANSWER = 1 << 20  # bytes
KILLED = "crash:SIGKILL"  # the reason of a child that neither the limits nor the kernel's want of memory ended
_TICK = 0.02  # seconds between two looks at a silent child
_ENDING = 0.002  # seconds between two looks at one that has closed its pipe
_PAUSE = 1.0  # seconds more than a tick
_MOST_PROCESSES = 32  # below a child, itself included
# What torch's CPU allocator says when it gets no memory; it raises a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

Run = Callable[[str], str]


@dataclass(frozen=True)
class Limits:
    """Of a job, in seconds and in bytes more than the warm server has (0: none)."""

    time: float
    memory: int


class Child:
    """The server's end of one child."""

    def __init__(self, run: Run, limits: Limits, silence: int) -> None:
        self.jobs = 0  # handed over
        self.born = time.monotonic()
        self._limits, self._resident, self._oom_kills = limits, resident(os.getpid()), oom_kills()
        self._status: int | None = None  # once it is reaped
        theirs, self._to = os.pipe()
        self._answers, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _live(run, limits.memory, theirs, writing, silence)
        os.close(theirs)
        os.close(writing)
        os.set_blocking(self._to, False)

    def ask(self, job: Job, look: Callable[[], None]) -> Result:
        """Its answer, or what became of it; `look` is called at every tick."""
        self.jobs += 1
        start = time.monotonic()
        try:
            frames.write(self._to, job.to_text())
        except (BrokenPipeError, BlockingIOError):
            return failed(job, "crash", "crash:child", "the child took no job")
        data, has_hung_up = b"", False
        while not _is_whole(data):
            now = time.monotonic()
            left = start + self._limits.time - now
            if left <= 0:
                return failed(job, "timeout", "timeout", f"killed after {self._limits.time:g} s")
            readable, _, _ = select.select([] if has_hung_up else [self._answers], [], [], min(left, _ENDING if has_hung_up else _TICK))
            part = os.read(self._answers, 1 << 16) if readable else b""
            data += part
            has_hung_up = has_hung_up or (bool(readable) and not part)
            if not part and is_dead(self.pid):  # something it started may still hold the pipe, or it may have closed it and live on
                return self._epitaph(job)
            if not readable:
                look()
                if excess := self._excess(job):
                    return excess
            pause = time.monotonic() - now - _TICK
            if pause > _PAUSE:  # we were stopped, or the machine slept: its time did not pass
                start += pause
        return _read(job, data)

    def _excess(self, job: Job) -> Result | None:
        """A failure if it has become too many processes, or too large: the limit on the address space knows one process."""
        members = family(self.pid)
        if len(members) > _MOST_PROCESSES:
            return failed(job, "error", "error:processes", f"more than {_MOST_PROCESSES} processes")
        used = sum(max(0, resident(member) - self._resident) for member in members)
        if 0 < self._limits.memory < used:
            return failed(job, "memory", "memory", f"{used / 2**30:.2f} GiB in {len(members)} processes")
        return None

    def _epitaph(self, job: Job) -> Result:
        """What its end says."""
        status = self.end()
        if os.WIFSIGNALED(status):
            name = signal_name(os.WTERMSIG(status))
            if name == "SIGKILL" and oom_kills() > self._oom_kills:
                return failed(job, "memory", "memory:oom_kill", "the machine ran out of memory and killed the child")
            return failed(job, "crash", f"crash:{name}", f"the child was ended by {name}")
        return failed(job, "error", "error:no_result", f"the child exited with code {os.waitstatus_to_exitcode(status)} and left no result")

    def end(self) -> int:
        """Kills it with its group; its wait status."""
        if self._status is None:
            os.close(self._to)
            os.close(self._answers)
            self._status = end(self.pid)
        return self._status


def failed(job: Job, status: str, reason: str, error: str) -> Result:
    """The result of a job that has none of its own."""
    return Result(job.index, job.candidate, status, reason, "numeric", worker=f"pid-{os.getpid()}", error=error[:500])


def guarded(run: Run, job: Job, ceiling: int) -> str:
    """`run(text)` under the limit on the address space in bytes (0: none); whatever it raises is a result."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if ceiling:
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))
    try:
        answer = run(job.to_text())
        if len(answer) > MAX_ANSWER or len(answer.encode()) > MAX_ANSWER:
            return failed(job, "error", "error:bad_answer", f"the answer is {len(answer)} characters long").to_text()
        return answer
    except BaseException as error:  # a candidate may do anything, `sys.exit()` too: what it did is the row
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
        message = _message(error)
        if isinstance(error, MemoryError) or any(words in message for words in _NO_MEMORY):
            return failed(job, "memory", "memory", message).to_text()
        return failed(job, "error", f"error:{type(error).__name__[:60]}", message).to_text()


def _message(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:1000].encode(errors="replace").decode()
    except BaseException:  # its own text is a candidate's as well
        return f"{type(error).__name__}, and its message cannot be read"


def _live(run: Run, memory_limit: int, commands: int, answers: int, silence: int) -> NoReturn:
    """The child's life."""
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        _close_all_but(0, 1, 2, commands, answers)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ceiling = address_space(os.getpid()) + memory_limit if memory_limit and sys.platform == "linux" else 0
        before = traces()
        while (text := frames.read(commands)) is not None:
            reset_randomness()
            frames.write(answers, guarded(run, Job.from_text(text), ceiling))
            if traces() != before:
                break
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    for low, high in pairwise([-1, *sorted(kept), os.sysconf("SC_OPEN_MAX")]):
        if low + 1 < high:  # Python 3.11 takes the range from 0 to 0 for all there are
            os.closerange(low + 1, high)


def _is_whole(data: bytes) -> bool:
    """Whether enough is there to judge: a frame, or the beginning of one that is too long."""
    return len(data) >= 4 and (len(data) >= frames.size(data) or frames.size(data) > MAX_ANSWER + 4)


def _read(job: Job, data: bytes) -> Result:
    """The child's own result if it is a valid one for this job."""
    if frames.size(data) > MAX_ANSWER + 4:
        return failed(job, "error", "error:bad_answer", f"the child's answer is longer than {MAX_ANSWER} bytes")
    if len(data) > frames.size(data):
        return failed(job, "error", "error:bad_answer", "the child wrote more than its answer")
    try:
        result = Result.from_text(data[4:].decode())
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return failed(job, "error", "error:bad_answer", f"the child's answer is no result: {error}")
    if (result.index, result.candidate) != (job.index, job.candidate):
        return failed(job, "error", "error:wrong_answer", f"the child answered for job {result.index!r}")
    return result
