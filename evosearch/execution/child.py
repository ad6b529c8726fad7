"""A child of the fork server: it does one job after the other, and has the next one at hand when one is answered.

It runs in its own process group under a wall-clock limit and a limit on its address space. No job finds what another one
left: a child that a job has changed says so with its answer and is ended, and the next job gets a fresh one.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from evosearch.execution import frames
from evosearch.execution.answers import Run, epitaph, failed, guarded, is_whole, judged
from evosearch.execution.batches import WORK
from evosearch.execution.processes import PR_SET_PDEATHSIG, ceiling, end, family, is_dead, oom_kills, prctl, resident
from evosearch.execution.traces import is_unchanged, reset_randomness, traces
from evosearch.job import Job, Result

_TICK = 0.02  # seconds between two looks at a silent child
_AHEAD = 1 << 14  # characters: of a job that is given ahead the pipe takes so many without waiting
_ENDING = 0.002  # seconds between two looks at one that has closed its pipe
_UNCHANGED, _CHANGED = "=", "!"  # before an answer: whether it left the process as it was
_PAUSE = 1.0  # seconds more than a tick
_MOST_PROCESSES = 32  # below a child, itself included


@dataclass(frozen=True)
class Limits:
    """Of a job, in seconds and in bytes more than the warm server has (0: none)."""

    time: float
    memory: int


class Child:
    """The server's end of one child."""

    def __init__(self, run: Run, limits: Limits, silence: int) -> None:
        self.jobs = 0  # handed over
        self.seconds = 0.0  # that they took
        self._rest = b""  # of what it wrote, behind the last answer
        self.is_changed = False  # by one of them
        self.has_begun = False  # with the next one already
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

    def ask(self, job: Job, upcoming: str, look: Callable[[], None]) -> Result:
        """Its answer, or what became of it; it may go on with the `upcoming` one, if any, at once. `look` is called at every tick."""
        self.jobs += 1
        start = time.monotonic()
        if not self.has_begun and not self._give(job.to_text()):
            return failed(job, "crash", "crash:child", "the child took no job")
        self.has_begun = self.jobs > 1 and 0 < len(upcoming) < _AHEAD and self.seconds < WORK and self._give(upcoming)
        data, self._rest, has_hung_up = self._rest, b"", False
        while not is_whole(data):
            now = time.monotonic()
            left = start + self._limits.time - now
            if left <= 0:
                return failed(job, "timeout", "timeout", f"killed after {self._limits.time:g} s")
            readable, _, _ = select.select([] if has_hung_up else [self._answers], [], [], min(left, _ENDING if has_hung_up else _TICK))
            part = os.read(self._answers, 1 << 16) if readable else b""
            data += part
            has_hung_up = has_hung_up or (bool(readable) and not part)
            if not part and is_dead(self.pid):  # something it started may still hold the pipe, or it may have closed it and live on
                return epitaph(job, os.waitstatus_to_exitcode(self.end()), oom_kills() > self._oom_kills)
            if not readable:
                look()
                if excess := self._excess(job):
                    return excess
            pause = time.monotonic() - now - _TICK
            if pause > _PAUSE:  # we were stopped, or the machine slept: its time did not pass
                start += pause
        if self.has_begun:  # there may be some of its next answer already
            data, self._rest = data[: frames.size(data)], data[frames.size(data) :]
        self.seconds += time.monotonic() - start
        self.is_changed = data[4:5] != _UNCHANGED.encode()
        return judged(job, data, skip=1)

    def _give(self, text: str) -> bool:
        try:
            frames.write(self._to, text)
        except (BrokenPipeError, BlockingIOError):
            return False
        return True

    def _excess(self, job: Job) -> Result | None:
        """A failure if it has become too many processes, or too large: the limit on the address space knows one process."""
        members = family(self.pid)
        if len(members) > _MOST_PROCESSES:
            return failed(job, "error", "error:processes", f"more than {_MOST_PROCESSES} processes")
        used = sum(max(0, resident(member) - self._resident) for member in members)
        if 0 < self._limits.memory < used:
            return failed(job, "memory", "memory", f"{used / 2**30:.2f} GiB in {len(members)} processes")
        return None

    def end(self) -> int:
        """Kills it with its group; its wait status."""
        if self._status is None:
            os.close(self._to)
            os.close(self._answers)
            self._status = end(self.pid)
        return self._status


def _live(run: Run, memory_limit: int, commands: int, answers: int, silence: int) -> NoReturn:
    """The child's life."""
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        _close_all_but(0, 1, 2, commands, answers)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most, before = ceiling(memory_limit), traces()
        while (text := frames.read(commands)) is not None:
            reset_randomness()
            answer = guarded(run, Job.from_text(text), most)
            verdict = _UNCHANGED if is_unchanged(before) else _CHANGED
            frames.write(answers, verdict + answer)
            if verdict == _CHANGED:
                break
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    for low, high in pairwise([-1, *sorted(kept), os.sysconf("SC_OPEN_MAX")]):
        if low + 1 < high:  # Python 3.11 takes the range from 0 to 0 for all there are
            os.closerange(low + 1, high)
