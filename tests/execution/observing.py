"""Puts a hostile candidate through an executor, a probe behind it, and notes what there is to note."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from evosearch.execution import TRIES, Executor
from evosearch.execution.batches import RECENT
from evosearch.job import Job, Result
from tests.execution.hostile import PROBE
from tests.execution.laws import happens, run_all

WORKER = b"EVOSEARCH_WORKER="


@dataclass(frozen=True)
class Seen:
    """Of one candidate: its result, seconds until it came and past the limit, and what was left."""

    result: Result
    seconds: float
    over: float
    orphans: list[int]
    leaked: int  # descriptors, in the driver and the servers
    next_is_equal: bool

    def problems(self, status: str, reason: str | None) -> list[str]:
        """What is not as it should be."""
        found = []
        if (self.result.status, self.result.reason) != (status, reason):
            found.append(f"{self.result.status} {self.result.reason} ({self.result.error}), not {status} {reason}")
        # who takes its worker along is tried by three of them, and each loads torch anew
        if self.over > (TRIES * 5.0 if (reason or "").endswith(":server") else 2.0):
            found.append(f"{self.over:.1f} s past the limit")
        if self.orphans:
            found.append(f"orphans {self.orphans}")
        if self.leaked > 0:
            found.append(f"{self.leaked:+} descriptors")
        if not self.next_is_equal:
            found.append("the next candidate's result differs")
        return found


class Observer:
    """Of one executor with one worker, whose first job is the probe."""

    def __init__(self, executor: Executor, time_limit: float) -> None:
        self._executor, self._limit, self._index = executor, time_limit, 0
        (self._reference,) = self._run([PROBE])
        assert self._reference.status == "ok", self._reference
        self._run([PROBE] * RECENT)
        happens(lambda: self._living() == self._servers(), within=2.0)
        self._processes, self._files = self._living(), self._settled()

    def observe(self, name: str, before: int) -> Seen:
        """The candidate with so many probes before it, and one behind; all of them at once where there is one."""
        if before:
            self._run([PROBE] * RECENT)  # cheap ones: what follows goes in one batch
        start = time.monotonic()
        if before:
            *others, result, after = self._run([PROBE] * before + [name, PROBE])
        else:
            (result,), others = self._run([name]), []
        seconds = time.monotonic() - start
        happens(lambda: len(self._living()) <= len(self._processes), within=2.0)  # a child that waits for more ends after a second
        orphans = sorted(self._living() - self._servers()) if len(self._living()) > len(self._processes) else []
        leaked = self._descriptors() - self._files
        if not before:
            (after,) = self._run([PROBE])
        equal = all(_bits(probe) == _bits(self._reference) for probe in (*others, after))
        tries = 2 if before and seconds > 2 * self._limit else 1  # in a batch it may have run again alone
        over = max(0.0, seconds - tries * self._limit)
        return Seen(result, seconds, over, orphans, leaked, equal)

    def _run(self, names: list[str]) -> list[Result]:
        jobs = [Job(self._index + i, name, 0) for i, name in enumerate(names)]
        self._index += len(names)
        results = run_all(self._executor, jobs, patience=120.0)
        return [results[job.index] for job in jobs]

    def _settled(self) -> int:
        """The descriptors once they have been as many for three seconds: the connections of Ray's driver come when they come."""
        found, since = self._descriptors(), time.monotonic()
        while time.monotonic() - since < 3.0:
            time.sleep(0.1)
            if (now := self._descriptors()) != found:
                found, since = now, time.monotonic()
        return found

    def _descriptors(self) -> int:
        family = [psutil.Process(), *(psutil.Process(pid) for pid in self._servers())]
        return sum(process.num_fds() for process in family)

    def _servers(self) -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True) if "evosearch.execution.server" in child.cmdline()}

    def _living(self) -> set[int]:
        """Below us, or with our mark: whoever a server of ours, or of an actor of ours, has started."""
        ours = {child.pid for child in psutil.Process().children(recursive=True)} | {psutil.Process().pid}
        marks = [WORKER + f"{pid}-".encode() for pid in ours]
        below = {pid for pid in ours - {psutil.Process().pid} if WORKER in _environment(pid)}
        return below | {int(name.name) for name in Path("/proc").iterdir() if name.name.isdecimal() and any(m in _environment(int(name.name)) for m in marks)}


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _bits(result: Result) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name not in ("index", "worker")}
