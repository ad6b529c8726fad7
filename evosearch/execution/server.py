"""The warm fork server: a single-threaded process that has done one training step, and forks children that do the jobs.
Where the entry has taken hold of a GPU it forks none and does them itself (spawned.py).

Started by sandbox.ForkServer as `python -m evosearch.execution.server`; frames over standard input and output: settings
in, `ready` and the isolation or the error of the entry out; then jobs in, a line each, and one result for every job, in their order. Cheap
jobs share a child. Before a job starts over, an empty frame goes out: its time begins anew. When the driver is gone the
server ends, and its child with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from evosearch.execution import TRIES, frames, spawned
from evosearch.execution.answers import FAILURES, KILLED, Run
from evosearch.execution.batches import WORK
from evosearch.execution.child import Child, Limits
from evosearch.execution.processes import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, ceiling, children, end_strays, prctl
from evosearch.execution.traces import reset_randomness, traces
from evosearch.job import Job, Result

READY = {"ready, forks": "fork", "ready, spawned": "spawn"}  # and the isolation of its jobs
AGAIN = ""  # the job starts over
_IDLE_TICK = 1.0  # seconds between two looks at the driver while there is nothing to do


@dataclass(frozen=True)
class Settings:
    """The first frame: what to import, and the limits of a job in seconds and bytes (0: no memory limit)."""

    entry: str
    plan: str
    path: list[str]
    time_limit: float
    memory_limit: int
    isolation: str = ""  # fork, spawn, or empty: spawn where the entry has taken hold of a GPU

    @property
    def limits(self) -> Limits:
        return Limits(self.time_limit, self.memory_limit)


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


def main() -> None:
    """Serves jobs until the driver closes the pipe."""
    commands, answers = os.dup(0), os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # what the entry reads or prints must not touch the frames
        os.dup2(silence, standard)
    driver = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's affair: what is in flight finishes
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    opening = frames.read(commands)
    if opening is None:
        return
    settings = Settings(**json.loads(opening))
    sys.path[:0] = [folder for folder in settings.path if folder not in sys.path]
    try:
        run = load_entry(settings.entry)(settings.plan)
    except Exception as error:  # the driver raises it: a task that does not load is the user's to mend
        frames.write(answers, unloaded(settings.entry, error))
        return
    isolation = settings.isolation or ("spawn" if _holds_a_gpu() else "fork")
    _pin_threads()
    ready = next(text for text, meant in READY.items() if meant == isolation)
    if isolation == "spawn":
        os.dup2(silence, 2)
        frames.write(answers, ready)
        spawned.serve(run, 0 if _holds_a_gpu() else ceiling(settings.memory_limit), commands, answers)
        return
    server = _Server(run, settings, driver, commands, answers, silence)
    # From here on we look for ourselves: the signal would leave a child's litter, and it comes too when only the thread
    # that started us ends.
    prctl(PR_SET_PDEATHSIG, 0)
    _take_precedence()
    frames.write(answers, ready)
    server.serve()


def _holds_a_gpu() -> bool:
    torch = sys.modules.get("torch")
    return bool(torch and torch.cuda.is_initialized())


def _pin_threads() -> None:
    """To one, whatever the entry has set: the number of threads changes a result's bits."""
    torch = sys.modules.get("torch")
    if torch:
        torch.set_num_threads(1)


def _take_precedence() -> None:
    """Before its children, where the system allows it: a thousand of them would not let it kill them."""
    if sys.platform == "linux":
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


class _Server:
    """Does the jobs in children, and answers each with a Result, whatever becomes of the child."""

    def __init__(self, run: Run, settings: Settings, driver: int, commands: int, answers: int, silence: int) -> None:
        self._run, self._limits, self._driver = run, settings.limits, driver
        self._commands, self._answers, self._silence = commands, answers, silence
        self._child: Child | None = None
        self._helpers = children()  # started by the entry: not a child's litter
        reset_randomness()  # both here once, for what they import and cache: numpy.random, loaded by every child anew, cost it 16 ms
        traces()
        gc.collect()
        gc.freeze()  # a collection in the child would write to, and so copy, every page of the warm heap

    def serve(self) -> None:
        """Until the driver is gone."""
        try:
            while (batch := self._next_batch()) is not None:
                lines = batch.split("\n")
                for line, upcoming in zip(lines, [*lines[1:], ""], strict=True):
                    frames.write(self._answers, self._answer(Job.from_text(line), upcoming, is_alone=len(lines) == 1).to_text())
        finally:
            self._end_child()

    def _next_batch(self) -> str | None:
        while not select.select([self._commands], [], [], _IDLE_TICK)[0]:
            if os.getppid() != self._driver:  # the pipe does not say so while another child of the driver holds it open
                return None
            self._end_child()  # one that waited for more
        return frames.read(self._commands)

    def _answer(self, job: Job, upcoming: str, is_alone: bool) -> Result:
        """What the job comes to. A failure counts of the first job of a child only: what was there before it may be at fault."""
        kills = 0
        while True:
            child = self._child = self._child or Child(self._run, self._limits, self._silence)
            result = child.ask(job, upcoming, self._look)
            has_failed = result.status in FAILURES
            is_used_up = child.seconds > WORK and not child.has_begun
            if has_failed or is_alone or is_used_up or child.is_changed or children() - self._helpers != {child.pid}:
                self._end_child()
            if not has_failed or (child.jobs == 1 and result.reason != KILLED):
                return result
            if child.jobs == 1:  # whoever killed it may have meant something else
                kills += 1
                if kills == TRIES:
                    return replace(result, error=f"{result.error} ({TRIES} times in a row)")
            frames.write(self._answers, AGAIN)

    def _look(self) -> None:
        """Exits when the driver is gone."""
        waiting = select.poll()
        waiting.register(self._commands, 0)  # reports only that the driver hung up
        if waiting.poll(0) or os.getppid() != self._driver:
            sys.exit()

    def _end_child(self) -> None:
        """Ends it with all that it started."""
        if self._child is not None:
            self._child.end()
            self._child = None
            end_strays(self._helpers)


if __name__ == "__main__":
    main()
