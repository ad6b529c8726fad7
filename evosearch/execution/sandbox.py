"""The driver's end of one fork server: a process of its own session, spoken to over pipes (no socket)."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate, islice

from evosearch.execution import TRIES, ExecutorError, frames
from evosearch.execution.answers import KILLED, MAX_ANSWER, epitaph, failed, judged
from evosearch.execution.processes import end_marked, is_stopped, oom_kills, resident, signal_name
from evosearch.execution.server import AGAIN, READY, Settings
from evosearch.execution.spawned import RETIRED
from evosearch.job import Job, Result

# One thread, whatever the machine or Ray would give: the thread count changes a result's bits.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_MARK = "EVOSEARCH_WORKER"  # a variable by which we find what a killed server has left behind
_GRACE = 10.0  # seconds after a job's time limit in which the server has to answer before it counts as lost
_AT_ONCE = 1 << 15  # bytes: a pipe holds them, so that writing never waits for a server
_ASLEEP = 1.0  # seconds after it in which a server has to answer that was stopped
_FAREWELL = 2.0  # seconds to end by itself


class ForkServer:
    """One worker: `submit` jobs, then `receive` until their results are there; they come one by one, in order.

    A server that dies or falls silent is replaced, and its jobs go to the new one, one at a time: the machine may be at
    fault, or a job before. Only a job that is the next to be answered when `TRIES` servers end is answered for.

    With the isolation `spawn`, which a server chooses that holds a GPU, it does the jobs itself, and we enforce the limits:
    of the job that it does, to be blamed if it is the first of its process; else a fresh one tries it again.
    """

    def __init__(self, entry: str, plan_text: str, time_limit: float, memory_limit_gb: float, isolation: str = "") -> None:
        path = [os.path.abspath(folder) for folder in sys.path]
        self._settings = Settings(entry, plan_text, path, time_limit, int(memory_limit_gb * 2**30), isolation)
        self.jobs: deque[Job] = deque()  # not answered yet
        self._sent = 0  # of them the server has so many
        self._careful = 0  # so many go one at a time
        self._taken = 0  # servers that ended during the first job
        self.seconds_each = 0.0  # of the jobs that were answered last
        self._stillborn = 0  # servers in a row that ended while they warmed up
        self._start()

    def _start(self) -> None:
        # What Ray tells its workers through the environment, its token among it, is none of a candidate's business.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evosearch.execution.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
            env={**inherited, **_ENVIRONMENT, _MARK: self._mark, "PYTHONPATH": os.pathsep.join(self._settings.path)},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._lease: float | None = None
        self._sent = self._done = 0
        self.isolation = ""  # until it is ready
        self._resident, self._oom_kills = 0, oom_kills()
        self._send(json.dumps(asdict(self._settings)))

    @property
    def ready(self) -> bool:
        """Whether the server has loaded the entry."""
        return bool(self.isolation)

    @property
    def pid(self) -> int:
        """The process id of the server now in service."""
        return self._process.pid

    def fileno(self) -> int:
        """The descriptor that is readable when something has come in."""
        return self._answers.fileno()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hands jobs over when none is left; the server may still be warming up."""
        assert jobs, "a batch has at least one job"
        assert not self.jobs, "a server does one batch at a time"
        self.jobs.extend(jobs)
        self._taken = self._careful = 0
        self._hand_over()

    def _hand_over(self) -> None:
        if not self.ready or self._sent or not self.jobs:
            return
        lines = [job.to_text() for job in islice(self.jobs, 1 if self._careful else None)]
        ends = list(accumulate(len(line) + 1 for line in lines))
        self._sent = max(1, sum(end <= _AT_ONCE for end in ends))
        self._since = time.monotonic()
        self._renew_lease()
        self._send("\n".join(lines[: self._sent]))

    def poll(self, timeout: float) -> list[Result]:
        """Waits up to `timeout` seconds for something to come in; the results that are whole. Raises like `receive`."""
        readable, _, _ = select.select([self], [], [], timeout)
        return self.receive() if readable else self.expire()

    def receive(self) -> list[Result]:
        """Reads what is there (blocks if nothing is); the results that are whole.

        Raises ExecutorError when the entry does not load, or when `TRIES` servers in a row ended while they warmed up.
        """
        part = os.read(self.fileno(), 1 << 16)
        if not part:
            return self._died()
        texts, self._buffer = frames.split(self._buffer + part)
        results = list[Result]()
        for text in texts:
            if not self.ready:
                if text not in READY:
                    raise ExecutorError(text)
                self.isolation, self._stillborn, self._resident = READY[text], 0, resident(self.pid)
            elif text == RETIRED and self._done:
                self._renew()
                return results
            elif text != AGAIN and self.jobs:
                results.append(self._answered(judged(self.jobs[0], frames.frame(text))))
        if frames.size(self._buffer) > MAX_ANSWER + 4:
            return results + self._replace("error", "error:bad_answer", "what the worker wrote is no answer", tries=1)
        if results:
            now = time.monotonic()
            self.seconds_each, self._since = (now - self._since) / len(results), now
        if texts:
            self._renew_lease()
        self._hand_over()
        return results

    def _answered(self, result: Result) -> Result:
        self.jobs.popleft()
        self._sent, self._careful, self._taken = self._sent - 1, max(0, self._careful - 1), 0
        self._done += 1
        return result

    def expire(self) -> list[Result]:
        """What became of the job whose time or memory is up where the server does it itself.

        Else the result `lost`, once the server, not its child, has been silent past the job's lease for `TRIES` times.
        """
        if self._process.poll() is not None:  # something that it started holds its end of the pipe
            return self._died()
        late = time.monotonic() - self._lease if self._lease is not None else -math.inf
        if self.isolation == "spawn":
            limits = self._settings.limits
            if late >= 0:
                return self._replace("timeout", "timeout", f"killed after {limits.time:g} s", tries=1)
            used = resident(self.pid) - self._resident if self._sent and limits.memory else 0
            return self._replace("memory", "memory", f"{used / 2**30:.2f} GiB more than before", tries=1) if used > limits.memory else []
        if late < _ASLEEP or (late < _GRACE and not is_stopped(self.pid)):
            return []
        return self._replace("lost", "lost:server", f"no answer {late:.0f} s after the time limit")

    def _died(self) -> list[Result]:
        """The end of its answers: of the server, or of a job that it did itself."""
        if self.isolation != "spawn" or not self.jobs:
            return self._replace("crash", "crash:server", "the worker died during this job")
        has_ended = self.kill(_FAREWELL)
        result = epitaph(self.jobs[0], self._process.returncode if has_ended else 0, oom_kills() > self._oom_kills)
        return self._replace(result.status, result.reason or "", result.error or "", tries=TRIES if result.reason == KILLED else 1)

    def _renew_lease(self) -> None:
        self._lease = time.monotonic() + self._settings.time_limit if self._sent else None

    def _replace(self, status: str, reason: str, error: str, tries: int = TRIES) -> list[Result]:
        """A new server for the old one, with its jobs; the first job's result if it has used up its tries."""
        was_ready, may_be_blamed = self.ready, self.isolation != "spawn" or not self._done
        self.kill()
        if not was_ready:
            self._stillborn += 1
            if self._stillborn == TRIES:
                raise ExecutorError(_stillborn(self._settings.entry, self._process.returncode))
        self._taken += was_ready and may_be_blamed
        self._careful = len(self.jobs)
        self._start()
        if not self.jobs or self._taken < tries:
            return []
        job = self.jobs.popleft()
        self._careful, self._taken = len(self.jobs), 0
        return [failed(job, status, reason, error if tries == 1 else f"{error} ({tries} workers in a row)")]

    def _renew(self) -> None:
        """A fresh server for one that has retired."""
        self.kill(_FAREWELL)
        self._start()

    def _send(self, text: str) -> None:
        try:
            frames.write(self._commands.fileno(), text)
        except BrokenPipeError:
            return  # the end of its answers says the same, and is dealt with in `receive`

    def dismiss(self) -> None:
        """Asks the server to end: a closed pipe makes it kill its child and go. Follow with `kill`."""
        self._commands.close()

    def kill(self, patience: float = 0.0) -> bool:
        """Ends the server, by force after `patience` seconds, and what it could not end itself. Whether it had ended by then."""
        has_ended = True
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            has_ended = False
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.returncode or self.isolation == "spawn":
            end_marked(f"{_MARK}={self._mark}")
        self._commands.close()
        self._answers.close()
        return has_ended

    def close(self) -> None:
        """Ends the server and whatever it started."""
        self.dismiss()
        self.kill(_FAREWELL)


def _stillborn(entry: str, code: int) -> str:
    end = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with code {code}"
    hint = "is there memory enough for so many workers (--workers)?" if code < 0 else "its message, if it left one, stands above"
    return f"a worker {end} while it loaded `{entry}`, {TRIES} times in a row; {hint}"


def close_all(servers: list[ForkServer]) -> None:
    """Ends servers side by side."""
    for server in servers:
        server.dismiss()
    for server in servers:
        server.kill(_FAREWELL)
