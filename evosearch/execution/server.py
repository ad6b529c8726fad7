"""The warm fork server: a single-threaded process that has done one training step, and forks a child for every job.

Started by sandbox.ForkServer as `python -m evosearch.execution.server`; frames (length, UTF-8 text) over standard input
and output: settings in, `ready` or the error of the entry out, then one result for every job. The child runs in its
own process group under a wall-clock limit and a limit on its address space; what it leaves behind is killed and reaped.
When the driver is gone the server ends, and its child with it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evosearch.job import Job, Result

MAX_ANSWER = 1 << 20  # bytes
READY = "ready"
KILLED = "crash:SIGKILL"  # the reason of a child that neither the limits nor the kernel's want of memory ended
_TICK = 0.05  # seconds between two looks at a silent child
_IDLE_TICK = 1.0  # seconds between two looks at the driver while there is nothing to do
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
# What torch's CPU allocator says when it gets no memory; it raises a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

Run = Callable[[str], str]


@dataclass(frozen=True)
class Settings:
    """The first frame: what to import, and the limits of a child in seconds and bytes (0: no memory limit)."""

    entry: str
    plan: str
    path: list[str]
    time_limit: float
    memory_limit: int


def load_entry(entry: str) -> Callable[[str], Run]:
    """The function that `package.module:function` names. Raises ValueError when there is none."""
    module, _, name = entry.partition(":")
    function: Callable[[str], Run] | None = getattr(importlib.import_module(module), name or " ", None)
    if function is None:
        raise ValueError(f"an entry is written `package.module:function`; there is no `{entry}`")
    return function


def unloaded(entry: str, error: Exception) -> str:
    """One line for an entry that does not load: what was raised, and where; a ValueError says it all itself."""
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"a worker could not load `{entry}`: {type(error).__name__}: {error} ({place.filename}:{place.lineno})"


def frame(text: str) -> bytes:
    """A text as it travels: its length in bytes (big-endian, 4 bytes), then UTF-8."""
    data = text.encode()
    return struct.pack(">I", len(data)) + data


def main() -> None:
    """Serves jobs until the driver closes the pipe."""
    commands, answers = os.dup(0), os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # what the entry reads or prints must not touch the frames
        os.dup2(silence, standard)
    driver = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's affair: what is in flight finishes
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    opening = _read_frame(commands)
    if opening is None:
        return
    settings = Settings(**json.loads(opening))
    sys.path[:0] = [folder for folder in settings.path if folder not in sys.path]
    try:
        run = load_entry(settings.entry)(settings.plan)
    except Exception as error:  # the driver raises it: a task that does not load is the user's to mend
        _write(answers, frame(unloaded(settings.entry, error)))
        return
    server = _Server(run, settings, driver, commands, answers, silence)
    # From here on we look for ourselves: the signal would leave a child's litter, and it comes too when only the thread
    # that started us ends.
    _prctl(_PR_SET_PDEATHSIG, 0)
    _write(answers, frame(READY))
    server.serve()


class _Server:
    """Runs one job at a time in a child, and answers each with a Result, whatever becomes of the child."""

    def __init__(self, run: Run, settings: Settings, driver: int, commands: int, answers: int, silence: int) -> None:
        self._run, self._settings, self._driver = run, settings, driver
        self._commands, self._answers, self._silence = commands, answers, silence
        self._helpers = _children()  # started by the entry: not a child's litter
        gc.collect()
        gc.freeze()  # a collection in the child would write to, and so copy, every page of the warm heap

    def serve(self) -> None:
        """Until the driver is gone."""
        while (text := self._next_job()) is not None:
            _write(self._answers, frame(self._answer(text)))

    def _next_job(self) -> str | None:
        waiting = select.poll()
        waiting.register(self._commands, select.POLLIN)
        while not waiting.poll(1000 * _IDLE_TICK):
            if os.getppid() != self._driver:  # the pipe does not say so while another child of the driver holds it open
                return None
        return _read_frame(self._commands)

    def _answer(self, text: str) -> str:
        job, start, kills = Job.from_text(text), time.monotonic(), _oom_kills()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._child(job, text, writing, (reading, self._commands, self._answers))
        try:
            os.close(writing)
            answer = self._collect(reading, pid, start + self._settings.time_limit)
        finally:
            os.close(reading)
            status = _end(pid)
            self._reap_strays()
        result = _judge(job, answer, status, _oom_kills() > kills)
        if result.status == "timeout":
            result = _failed(job, "timeout", "timeout", f"killed after {self._settings.time_limit:g} s")
        return result.to_text()

    def _child(self, job: Job, text: str, writing: int, foreign: tuple[int, ...]) -> None:
        """Never returns."""
        try:
            os.setpgid(0, 0)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for descriptor in foreign:
                os.close(descriptor)
            for standard in (0, 1, 2):
                os.dup2(self._silence, standard)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _write(writing, frame(_guarded(self._run, job, text, self._settings.memory_limit)))
        finally:
            os._exit(0)

    def _collect(self, reading: int, pid: int, deadline: float) -> bytes | None:
        """What the child wrote, up to one frame; None when the deadline passes first. Exits when the driver is gone."""
        waiting = select.poll()
        waiting.register(reading, select.POLLIN)
        waiting.register(self._commands, 0)  # reports only that the driver hung up
        data = b""
        while (left := deadline - time.monotonic()) > 0:
            events = dict(waiting.poll(1000 * min(left, _TICK)))
            if self._commands in events or os.getppid() != self._driver:
                sys.exit()
            if reading in events:
                part = os.read(reading, 1 << 16)
                data += part
                if not part or _whole(data) or len(data) > MAX_ANSWER:
                    return data
            elif _is_dead(pid):
                return data  # while something it started still holds the pipe
        return None

    def _reap_strays(self) -> None:
        """Kills and reaps what the child left behind: as subreaper, its orphans are our children."""
        while strays := _children() - self._helpers:
            for stray in strays:
                _end(stray)


def _guarded(run: Run, job: Job, text: str, memory_limit: int) -> str:
    """`run(text)` under the limit on the address space; whatever it raises is a result."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if memory_limit and sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_limit, hard))
    try:
        answer = run(text)
        if len(answer) > MAX_ANSWER:
            return _failed(job, "error", "error:bad_answer", f"the answer is {len(answer)} characters long").to_text()
        return answer
    except BaseException as error:  # a candidate may do anything, `sys.exit()` too: what it did is the row
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or any(words in message for words in _NO_MEMORY):
            return _failed(job, "memory", "memory", message).to_text()
        return _failed(job, "error", f"error:{type(error).__name__}", message).to_text()


def _judge(job: Job, answer: bytes | None, status: int, oom: bool) -> Result:
    """The child's own result if it is a valid one for this job, else what its end says."""
    if answer is None:
        return _failed(job, "timeout", "timeout", "killed at the time limit")
    if _whole(answer):
        try:
            result = Result.from_text(answer[4:].decode())
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            return _failed(job, "error", "error:bad_answer", f"the child's answer is no result: {error}")
        if (result.index, result.candidate) != (job.index, job.candidate):
            return _failed(job, "error", "error:wrong_answer", f"the child answered for job {result.index!r}")
        return result
    if len(answer) > MAX_ANSWER:
        return _failed(job, "error", "error:bad_answer", f"the child's answer is longer than {MAX_ANSWER} bytes")
    if os.WIFSIGNALED(status):
        name = signal_name(os.WTERMSIG(status))
        if oom and name == "SIGKILL":
            return _failed(job, "memory", "memory:oom_kill", "the machine ran out of memory and killed the child")
        return _failed(job, "crash", f"crash:{name}", f"the child was ended by {name}")
    code = os.waitstatus_to_exitcode(status)
    return _failed(job, "error", "error:no_result", f"the child exited with code {code} and left no result")


def _whole(data: bytes) -> bool:
    return len(data) >= 4 and len(data) - 4 == struct.unpack(">I", data[:4])[0]


def _failed(job: Job, status: str, reason: str, error: str) -> Result:
    return Result(job.index, job.candidate, status, reason, "numeric", worker=f"pid-{os.getpid()}", error=error[:500])


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"SIG{number}"


def _is_dead(pid: int) -> bool:
    """Whether that child has ended, leaving it to be reaped."""
    return sys.platform == "linux" and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(pid: int) -> int:
    """Kills the process and its group, reaps it, and returns its wait status."""
    for kill in (os.killpg, os.kill):  # it may not have made its group yet
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # gone already: that is the aim
    return os.waitpid(pid, 0)[1]


def _children() -> set[int]:
    """The children of this process; none where the system does not list them."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in listing.read_text().split()} if listing.exists() else set()


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    counters = Path("/proc/vmstat")
    if not counters.exists():
        return 0
    return next((int(line.split()[1]) for line in counters.read_text().splitlines() if line.startswith("oom_kill ")), 0)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the closed pipe and the process group have to do."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _read_frame(descriptor: int) -> str | None:
    """The next text; None at the end."""
    header = _read_exactly(descriptor, 4)
    if header is None:
        return None
    body = _read_exactly(descriptor, struct.unpack(">I", header)[0])
    return None if body is None else body.decode()


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = os.read(descriptor, count - len(data))
        if not part:
            return None
        data += part
    return data


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
