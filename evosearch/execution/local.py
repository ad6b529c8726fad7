"""local: a pool of fork servers on this machine. Pipes only: no network socket is opened."""

from __future__ import annotations

import selectors
import time
from typing import Self

from evosearch.execution.sandbox import ForkServer, close_all
from evosearch.job import Job, Result

_TICK = 1.0  # seconds between two looks at the leases


class LocalExecutor:
    """As many workers as asked for, one job each."""

    def __init__(self, entry: str, plan_text: str, *, workers: int, time_limit: float, memory_limit_gb: float) -> None:
        self.workers = workers
        self._servers = [ForkServer(entry, plan_text, time_limit, memory_limit_gb) for _ in range(workers)]

    def free_slots(self) -> int:
        return sum(1 for server in self._servers if server.job is None)

    def submit(self, job: Job) -> None:
        next(server for server in self._servers if server.job is None).submit(job)

    def poll(self, timeout: float) -> list[Result]:
        deadline = time.monotonic() + timeout
        while self.in_flight:
            left = max(0.0, deadline - time.monotonic())
            results = self._look(min(left, _TICK))
            if results or left == 0:
                return results
        return []

    def _look(self, timeout: float) -> list[Result]:
        with selectors.DefaultSelector() as selector:
            for server in self._servers:
                selector.register(server, selectors.EVENT_READ, server)
            readable = [key.data for key, _ in selector.select(timeout)]
        answers = [server.receive() if server in readable else server.expire() for server in self._servers]
        return [answer for answer in answers if answer is not None]

    @property
    def in_flight(self) -> list[int]:
        return sorted(server.job.index for server in self._servers if server.job is not None)

    def close(self) -> None:
        close_all(self._servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
