"""ray: Ray Core actors, each around one fork server. The only file with ray.

Ray may lose a worker or a node; it retries nothing for us. The lease on a job is ours, on this process's monotonic
clock: a job whose actor died or fell silent is asked again on a fresh one, and after the third time it is quarantined.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import ray

from evosearch.execution import TRIES, ExecutorError
from evosearch.execution.sandbox import ForkServer
from evosearch.job import Job, Result

_TICK = 1.0  # seconds between two looks at the leases
_SHORTEST_LEASE = 60.0  # seconds
_PATIENCE = 300.0  # seconds: a cluster may have to start machines first
_STORE = 100 * 2**20  # bytes of object store: only short texts travel


class _Actor:
    """Lives in a Ray worker: a fork server, and the blocking call that runs one job in it."""

    def __init__(self, entry: str, plan_text: str, time_limit: float, memory_limit_gb: float) -> None:
        self._server = ForkServer(entry, plan_text, time_limit, memory_limit_gb)

    def load(self) -> None:
        """Returns when the server is warm. Raises ExecutorError when it cannot load the entry."""
        while not self._server.ready:
            self._server.poll(_TICK)

    def run(self, job_text: str) -> str:
        self._server.submit([Job.from_text(job_text)])
        while not (results := self._server.poll(_TICK)):
            pass
        return results[0].to_text()


@dataclass
class _Seat:
    """One worker as the driver sees it. `loading` and `running` are references to answers that are not there yet.

    A seat may load for ever where the cluster has fewer cores than asked for: it gets no job until it is warm.
    """

    actor: Any
    loading: Any
    job: Job | None = None
    running: Any = None
    since: float = 0.0  # when the lease began, on the monotonic clock
    stillborn: int = 0  # actors in a row that ended here while they warmed up


class RayExecutor:
    """Starts a Ray of its own on loopback, or joins the cluster at `address`."""

    def __init__(
        self, entry: str, plan_text: str, *, workers: int, time_limit: float, memory_limit_gb: float,
        address: str | None = None,
    ) -> None:  # fmt: skip
        self.workers = workers
        self._arguments = (entry, plan_text, time_limit, memory_limit_gb)
        self._lease = max(2 * time_limit, _SHORTEST_LEASE)
        self._ours = not ray.is_initialized()
        if self._ours:
            _start(address, workers)
        self._actor_class = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Actor)
        self._seats = [self._seat() for _ in range(workers)]
        self._queue: deque[Job] = deque()  # waits here, not in Ray, for the first seat that is warm and free
        self._started, self._loaded_once = time.monotonic(), False
        self._kills: dict[int, int] = {}

    def _seat(self) -> _Seat:
        actor = self._actor_class.remote(*self._arguments)
        return _Seat(actor, actor.load.remote())

    def free_slots(self) -> int:
        return self.workers - len(self.in_flight)

    def submit(self, job: Job) -> None:
        self._queue.append(job)
        self._place()

    def _place(self) -> None:
        """Hands waiting jobs to the seats that can start them now; the lease begins here."""
        for seat in self._seats:
            if self._queue and seat.loading is None and seat.job is None:
                seat.job, seat.since = self._queue.popleft(), time.monotonic()
                seat.running = seat.actor.run.remote(seat.job.to_text())

    def poll(self, timeout: float) -> list[Result]:
        deadline = time.monotonic() + timeout
        while self.in_flight:
            left = max(0.0, deadline - time.monotonic())
            results = self._look(min(left, _TICK))
            if results or left == 0:
                return results
        return []

    def _look(self, timeout: float) -> list[Result]:
        references = [seat.loading or seat.running for seat in self._seats if seat.loading or seat.running]
        done, _ = ray.wait(references, num_returns=1, timeout=timeout)
        if done:  # take along whatever else is there
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
        answers = [self._attend(number, set(done)) for number in range(self.workers)]
        self._place()
        if not self._loaded_once and time.monotonic() - self._started > _PATIENCE:
            cores = ray.cluster_resources().get("CPU", 0)
            raise ExecutorError(f"no worker has started in {_PATIENCE:g} s: each needs a free core; Ray has {cores:g} in all: lower --workers")
        return [answer for answer in answers if answer is not None]

    def _attend(self, number: int, done: set[Any]) -> Result | None:
        """Takes what the worker has to say, or gives it up."""
        seat = self._seats[number]
        reference = seat.loading or seat.running
        if reference not in done:
            overdue = seat.job is not None and time.monotonic() - seat.since > self._lease
            return self._lost(number, f"no answer for {self._lease:g} s") if overdue else None
        try:
            answer = ray.get(reference, timeout=_SHORTEST_LEASE)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ray.exceptions.ObjectLostError) as error:
            return self._lost(number, str(error))
        except ray.exceptions.RayTaskError as error:
            raise ExecutorError(str(error.cause)) from None  # the entry does not load: no fresh actor would help
        if seat.loading:
            seat.loading, seat.stillborn, self._loaded_once = None, 0, True
            return None
        seat.job, seat.running = None, None
        return Result.from_text(answer)

    def _lost(self, number: int, error: str) -> Result | None:
        """A fresh actor takes the place and the job, unless the job has been lost too often."""
        old = self._seats[number]
        job = old.job
        ray.kill(old.actor)
        if old.loading and old.stillborn + 1 == TRIES:
            raise ExecutorError(f"a worker of Ray ended while it warmed up, {TRIES} times in a row: {error[:300]}")
        self._seats[number] = self._seat()
        self._seats[number].stillborn = old.stillborn + 1 if old.loading else 0
        if job is None:
            return None
        self._kills[job.index] = self._kills.get(job.index, 0) + 1
        if self._kills[job.index] < TRIES:
            self._queue.appendleft(job)
            return None
        return Result(job.index, job.candidate, "quarantined", "quarantined:lost_workers", "numeric", error=error[:500])

    @property
    def in_flight(self) -> list[int]:
        return sorted(job.index for job in (*self._queue, *(seat.job for seat in self._seats)) if job is not None)

    def close(self) -> None:
        for seat in self._seats:
            ray.kill(seat.actor)
        if self._ours:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _start(address: str | None, workers: int) -> None:
    """Ray with no dashboard, on loopback only, nothing printed, and a token that only its own processes know."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        ray.init(address=address, **quiet)
        return
    # Ray turns token authentication on for a cluster it starts. A token in the environment keeps it from writing one to
    # a file that everybody can read; it stays for this process's life, because Ray caches it for as long.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # A fork server that is left alone sees its actor go, and takes with it what its child started; killed, it could not.
    system = {"kill_child_processes_on_worker_exit": False}
    with _on_loopback():
        ray.init(
            address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE,
            _system_config=system, **quiet,
        )  # fmt: skip


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray as it is on a Mac: a single node at 127.0.0.1, which makes its servers listen there and nowhere else.

    On Linux `ray.init` takes the address of a network card even if it is told 127.0.0.1, and binds to all of them.
    """
    constants = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
