"""The driver's end of one fork server: a process of its own session, spoken to over pipes (no socket)."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict, replace

from evosearch.execution import TRIES, ExecutorError
from evosearch.execution.server import KILLED, READY, Settings, frame, signal_name
from evosearch.job import Job, Result

# One thread, whatever the machine or Ray would give: the thread count changes a result's bits.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_GRACE = 10.0  # seconds after a job's time limit in which the server has to answer before it counts as lost
_FAREWELL = 2.0  # seconds to end by itself


class ForkServer:
    """One worker: `submit` a job, then `receive` until its result is there.

    A server that dies or falls silent is replaced, and its job goes to the new one: the machine may be at fault. So is
    whoever kills the child alone, where the kernel did not for want of memory: it gets the job again. Only a job that is
    ended `TRIES` times is answered for.
    """

    def __init__(self, entry: str, plan_text: str, time_limit: float, memory_limit_gb: float) -> None:
        path = [os.path.abspath(folder) for folder in sys.path]
        self._settings = Settings(entry, plan_text, path, time_limit, int(memory_limit_gb * 2**30))
        self.job: Job | None = None
        self._taken = 0  # servers and children that were ended during the job in flight
        self._stillborn = 0  # servers in a row that ended while they warmed up
        self._start()

    def _start(self) -> None:
        # What Ray tells its workers through the environment, its token among it, is none of a candidate's business.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evosearch.execution.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
            env={**inherited, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(self._settings.path)},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._lease: float | None = None
        self.ready = False
        self._send(json.dumps(asdict(self._settings)))

    @property
    def pid(self) -> int:
        """The process id of the server now in service."""
        return self._process.pid

    def fileno(self) -> int:
        """The descriptor that is readable when something has come in."""
        return self._answers.fileno()

    def submit(self, job: Job) -> None:
        """Hands the job over; the server may still be warming up."""
        assert self.job is None, "a server runs one job at a time"
        self.job, self._taken = job, 0
        self._hand_over(job)

    def _hand_over(self, job: Job) -> None:
        self._renew_lease()
        self._send(job.to_text())

    def poll(self, timeout: float) -> Result | None:
        """Waits up to `timeout` seconds for something to come in; the result once whole. Raises like `receive`."""
        readable, _, _ = select.select([self], [], [], timeout)
        return self.receive() if readable else self.expire()

    def receive(self) -> Result | None:
        """Reads what is there (blocks if nothing is); the result once it is whole.

        Raises ExecutorError when the entry does not load, or when `TRIES` servers in a row ended while they warmed up.
        """
        part = os.read(self.fileno(), 1 << 16)
        if not part:
            return self._replace("crash", "crash:server", "the worker died during this job")
        self._buffer += part
        while len(self._buffer) >= 4:
            end = 4 + struct.unpack(">I", self._buffer[:4])[0]
            if len(self._buffer) < end:
                break
            text, self._buffer = self._buffer[4:end].decode(), self._buffer[end:]
            if self.ready:
                return self._answered(Result.from_text(text))
            if text != READY:
                raise ExecutorError(text)
            self.ready, self._stillborn = True, 0
            self._renew_lease()
        return None

    def _answered(self, result: Result) -> Result | None:
        """The result, unless the child was killed and the job has tries left: then it is handed over again."""
        if result.reason == KILLED and self.job is not None:
            self._taken += 1
            if self._taken < TRIES:
                self._hand_over(self.job)
                return None
            result = replace(result, error=f"{result.error} ({TRIES} times in a row)")
        self.job, self._lease = None, None
        return result

    def expire(self) -> Result | None:
        """The result `lost` when the server itself, not its child, has been silent past the job's lease; else None."""
        if self._lease is None or time.monotonic() < self._lease:
            return None
        return self._replace("lost", "lost:server", f"no answer {_GRACE:g} s after the time limit")

    def _renew_lease(self) -> None:
        if self.ready and self.job is not None:
            self._lease = time.monotonic() + self._settings.time_limit + _GRACE

    def _replace(self, status: str, reason: str, error: str) -> Result | None:
        """A new server for the old one, with its job; the job's result if it has used up its servers."""
        was_ready, job = self.ready, self.job
        self.kill()
        if not was_ready:
            self._stillborn += 1
            if self._stillborn == TRIES:
                raise ExecutorError(_stillborn(self._settings.entry, self._process.returncode))
        elif job is not None:
            self._taken += 1
        self._start()
        if job is None:
            return None
        if self._taken == TRIES:
            self.job = None
            return Result(job.index, job.candidate, status, reason, "numeric", error=f"{error} ({TRIES} workers in a row)")
        self._hand_over(job)
        return None

    def _send(self, text: str) -> None:
        data = frame(text)
        try:
            while data:
                data = data[os.write(self._commands.fileno(), data) :]
        except BrokenPipeError:
            return  # the end of its answers says the same, and is dealt with in `receive`

    def dismiss(self) -> None:
        """Asks the server to end: a closed pipe makes it kill its child and go. Follow with `kill`."""
        self._commands.close()

    def kill(self, patience: float = 0.0) -> None:
        """Ends the server, by force after `patience` seconds."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._commands.close()
        self._answers.close()

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
