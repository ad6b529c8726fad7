"""local: a pool of fork servers on this machine. Pipes only: no network socket is opened."""

from __future__ import annotations

import selectors
import time
from collections import deque
from typing import Self

from evosearch.execution.batches import RECENT, batch_size, share
from evosearch.execution.sandbox import ForkServer, close_all
from evosearch.job import Job, Result

_TICK = 0.25  # seconds between two looks at the leases


class LocalExecutor:
    """As many workers as asked for; cheap jobs go to them in batches. What is submitted starts when it is polled for."""

    def __init__(self, entry: str, plan_text: str, *, workers: int, time_limit: float, memory_limit_gb: float) -> None:
        self.workers = workers
        self._servers = [ForkServer(entry, plan_text, time_limit, memory_limit_gb) for _ in range(workers)]
        self._queue: deque[Job] = deque()
        self._durations: deque[float] = deque(maxlen=RECENT)  # seconds of the jobs before

    def free_slots(self) -> int:
        return max(0, self.workers * batch_size(self._durations) - self._count)

    def submit(self, job: Job) -> None:
        self._queue.append(job)

    def poll(self, timeout: float) -> list[Result]:
        deadline = time.monotonic() + timeout
        while self._count:
            self._place()
            left = max(0.0, deadline - time.monotonic())
            results = self._look(min(left, _TICK))
            if results or left == 0:
                return results
        return []

    def _place(self) -> None:
        """Hands waiting jobs to the workers that have none; the rest waits for whoever is free first."""
        for server in sorted(self._servers, key=lambda server: not server.ready):
            if self._queue and not server.jobs:
                count = share(len(self._queue), self.workers, batch_size(self._durations))
                server.submit([self._queue.popleft() for _ in range(count)])

    def _look(self, timeout: float) -> list[Result]:
        with selectors.DefaultSelector() as selector:
            for server in self._servers:
                selector.register(server, selectors.EVENT_READ, server)
            readable = [key.data for key, _ in selector.select(timeout)]
        results = []
        for server in self._servers:
            found = server.receive() if server in readable else server.expire()
            self._durations.extend(server.seconds_each for _ in found)
            results += found
        return results

    @property
    def in_flight(self) -> list[int]:
        return sorted(job.index for jobs in (self._queue, *(server.jobs for server in self._servers)) for job in jobs)

    @property
    def _count(self) -> int:
        return len(self._queue) + sum(len(server.jobs) for server in self._servers)

    def close(self) -> None:
        close_all(self._servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
