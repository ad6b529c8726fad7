"""serial: every job runs in this process, when it is polled; a debugger works in it. No time or memory limit."""

from __future__ import annotations

from typing import Self

from evosearch.execution import ExecutorError
from evosearch.execution.server import load_entry, unloaded
from evosearch.job import Job, Result


class SerialExecutor:
    """One slot, no isolation: an exception of a job passes through. Raises ExecutorError when the entry does not load."""

    workers = 1

    def __init__(self, entry: str, plan_text: str) -> None:
        try:
            self._run = load_entry(entry)(plan_text)
        except Exception as error:
            raise ExecutorError(unloaded(entry, error)) from error
        self._job: Job | None = None

    def free_slots(self) -> int:
        return 1 if self._job is None else 0

    def submit(self, job: Job) -> None:
        assert self._job is None, "the serial executor runs one job at a time"
        self._job = job

    def poll(self, timeout: float) -> list[Result]:
        job, self._job = self._job, None
        return [] if job is None else [Result.from_text(self._run(job.to_text()))]

    @property
    def in_flight(self) -> list[int]:
        return [] if self._job is None else [self._job.index]

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
