"""ray: Ray Core actors, each around one fork server, on this machine or on a cluster.

Ray may lose a worker, a node or an answer; it retries nothing for us. The lease on a worker is ours, on this process's
monotonic clock: every call of an actor returns within seconds, with results or as a sign of life, and whoever is silent for
longer than the lease loses its jobs to another. The first answer to a job counts, wherever it comes from.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Self

import ray

from evosearch.execution import TRIES, Cluster, ExecutorError
from evosearch.execution.actor import Actor
from evosearch.execution.batches import RECENT, batch_size, share
from evosearch.execution.cluster.connect import ClusterLost, answers, join, start
from evosearch.execution.versions import check, versions
from evosearch.job import Job, Result

KILLS = 2  # workers that died under a job alone, on nodes that live: the job is at fault
_LOSSES = 5  # workers that a job lost in any way: nobody asks for it for ever
_TICK = 1.0  # seconds between two looks at the leases
_LOOK = 2.0  # seconds between two looks at the head, and at what the cluster has
_SHORTEST_LEASE = 60.0  # seconds
_PATIENCE = 300.0  # seconds: a cluster may have to start machines first
_GONE = (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ray.exceptions.ObjectLostError)


class _RayActor(Actor):
    """An Actor that knows on which node of Ray it is."""

    def hello(self) -> dict[str, str]:
        return {**super().hello(), "node": ray.get_runtime_context().get_node_id()}


@dataclass
class _Seat:
    """One worker as the driver sees it; `call` is the reference to the answer that is not there yet.

    A seat may wait for ever where the cluster has fewer cores than asked for: it gets no job until it is warm.
    """

    actor: Any
    call: Any
    step: str = "hello"  # then load, then work
    node: str = ""
    gpus: str = ""  # those that it sees, as CUDA_VISIBLE_DEVICES has them
    jobs: dict[int, Job] = field(default_factory=dict)  # in the order in which they will be answered
    since: float = 0.0  # when the lease began, on the monotonic clock: the last sign of life
    stillborn: int = 0  # actors in a row that ended here while they warmed up


class RayExecutor:
    """Starts a Ray of its own on loopback, or joins the cluster at `cluster.address`.

    With `workers` so many seats, and what the cluster cannot seat yet waits, which an autoscaler sees. Without, as many as
    the cluster has room for, `at_most` so many, and more when nodes join.
    """

    def __init__(
        self, entry: str, plan_text: str, *, workers: int | None, time_limit: float, memory_limit_gb: float, at_most: int = 10_000,
        cluster: Cluster | None = None,
    ) -> None:  # fmt: skip
        self._cluster = cluster or Cluster()
        self._load = (entry, plan_text, time_limit, memory_limit_gb)
        self._lease = max(2 * time_limit, _SHORTEST_LEASE)
        self._ours = not ray.is_initialized()
        if self._ours and self._cluster.address:
            join(self._cluster.address, self._cluster.insecure)
        elif self._ours:
            start(workers)
        self._vital = _vital_addresses()
        self._actor_class = ray.remote(num_cpus=1, num_gpus=self._cluster.gpus, max_restarts=0, max_task_retries=0)(_RayActor)
        self._wanted, self._at_most = workers, at_most
        self._open: dict[int, Job] = {}  # not answered yet
        self._queue: deque[Job] = deque()  # of them those that wait here, not in Ray, for the first seat that is warm and free
        self._late: list[Any] = []  # answers of seats that were given up
        self._alone: dict[int, str] = {}  # jobs that have lost a worker, by the node where: they go alone, and elsewhere if they can
        self._kills, self._losses = Counter[int](), Counter[int]()
        self._failures, self._avoided = Counter[str](), set[str]()  # of nodes, in a row
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._started, self._loaded_once, self._looked, self._misses, self._lost_cluster = time.monotonic(), False, 0.0, 0, False
        self._seats = [self._seat() for _ in range(workers or self._room())]

    @property
    def workers(self) -> int:
        """Seats, those that wait for room in the cluster among them."""
        return len(self._seats)

    def _room(self) -> int:
        """How many seats the cluster has room for now; at least 1."""
        has = ray.cluster_resources()
        room = int(has.get("CPU", 0))
        if self._cluster.gpus:
            room = min(room, math.floor(has.get("GPU", 0) / self._cluster.gpus + 1e-9))
        return max(1, min(room, self._at_most))

    def _seat(self) -> _Seat:
        # what torch's kernels may use is pinned to what the driver has; the number of threads is pinned by the fork server
        pinned = {"ATEN_CPU_CAPABILITY": self._cluster.capability.lower()} if self._cluster.capability else {}
        avoid = {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(self._avoided))})"}} if self._avoided else {}
        actor = self._actor_class.options(**avoid).remote(pinned)
        return _Seat(actor, actor.hello.remote())

    def free_slots(self) -> int:
        return max(0, self.workers * batch_size(self._durations) - len(self._open))

    def submit(self, job: Job) -> None:
        self._open[job.index] = job
        self._queue.append(job)

    @property
    def in_flight(self) -> list[int]:
        return sorted(self._open)

    def poll(self, timeout: float) -> list[Result]:
        deadline = time.monotonic() + timeout
        while self._open:
            self._place()
            left = max(0.0, deadline - time.monotonic())
            results = self._look(min(left, _TICK))
            if results or left == 0:
                return results
        return []

    def _place(self) -> None:
        """Hands waiting jobs to the seats that can start them now; the lease begins here."""
        ready = [seat for seat in self._seats if seat.step == "work"]
        idle = [seat for seat in ready if not seat.call]
        while self._queue and idle:
            where = self._alone.get(self._queue[0].index)
            seat = min(idle, key=lambda seat: seat.node == where) if where else idle[0]
            idle.remove(seat)
            batch = [self._queue.popleft()]
            most = 1 if where else share(len(self._queue) + 1, len(ready), batch_size(self._durations))
            while self._queue and len(batch) < most and self._queue[0].index not in self._alone:
                batch.append(self._queue.popleft())
            seat.jobs = {job.index: job for job in batch}
            self._call(seat, [job.to_text() for job in batch])

    def _call(self, seat: _Seat, texts: list[str]) -> None:
        seat.call, seat.since = seat.actor.work.remote(texts), time.monotonic()

    def _look(self, timeout: float) -> list[Result]:
        self._watch()
        references = [*(seat.call for seat in self._seats if seat.call), *self._late]
        if not references:  # every seat is free and nothing waits: cannot be while a job is open
            raise AssertionError("jobs are open, and no worker has them")
        done, _ = ray.wait(references, num_returns=1, timeout=timeout)
        if done:  # take along whatever else is there
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
        there = set(done)
        results = [result for reference in self._late if reference in there for result in self._overdue(reference)]
        self._late = [reference for reference in self._late if reference not in there]
        for number in range(len(self._seats)):
            results += self._attend(number, there)
        return results

    def _watch(self) -> None:
        """Raises when the head is gone or no worker starts; takes in what has joined."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        silent = next((address for address in self._vital if not answers(address)), None)
        self._misses = self._misses + 1 if silent else 0
        if silent and self._misses > 1:
            self._lost_cluster = True
            raise ClusterLost(
                f"the head of the Ray cluster does not answer any more ({silent}); everything told is kept: when the cluster is up again, "
                "the same command goes on where this one ended"
            )
        if silent:
            return
        if not self._loaded_once and now - self._started > _PATIENCE:
            has = ray.cluster_resources()
            needs = f"a free core{f' and {self._cluster.gpus:g} of a GPU' if self._cluster.gpus else ''}"
            raise ExecutorError(
                f"no worker has started in {_PATIENCE:g} s: each needs {needs}; Ray has {has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs "
                "in all: lower --workers, or start more nodes"
            )
        if self._wanted is None:
            self._seats += [self._seat() for _ in range(self._room() - len(self._seats))]

    def _attend(self, number: int, done: set[Any]) -> list[Result]:
        """Takes what the worker has to say, or gives it up."""
        seat = self._seats[number]
        if not seat.call:
            return []
        if seat.call not in done:
            if seat.jobs and time.monotonic() - seat.since > self._lease:
                self._late.append(seat.call)
                return self._lost(number, f"no sign of life for {self._lease:g} s", killed=False)
            return []
        try:
            answer = ray.get(seat.call, timeout=_SHORTEST_LEASE)
        except _GONE as error:
            if not all(map(answers, self._vital)):
                return []  # the head went, and with it whom Ray would be asked through: `_watch` says so
            return self._lost(number, str(error), killed=_lives(seat.node))
        except ray.exceptions.RayTaskError as error:
            raise ExecutorError(str(error.cause)) from None  # the entry does not load: no fresh actor would help
        return self._heard(seat, answer)

    def _heard(self, seat: _Seat, answer: Any) -> list[Result]:
        seat.call = None
        if seat.step == "hello":
            check(versions(), answer, self._cluster.capability)
            seat.node, seat.gpus, seat.step, seat.call = answer["node"], answer["gpus"], "load", seat.actor.load.remote(*self._load)
            return []
        if seat.step == "load":
            seat.step, seat.stillborn, self._loaded_once = "work", 0, True
            return []
        texts, seconds = answer
        results = [Result.from_text(text) for text in texts]
        self._durations.extend(seconds for _ in results)
        if results:
            self._failures[seat.node] = 0
        for result in results:
            seat.jobs.pop(result.index, None)
        if seat.jobs:
            self._call(seat, [])
        return self._first(results)

    def _first(self, results: list[Result]) -> list[Result]:
        """Those that nobody has answered before."""
        fresh = [result for result in results if self._open.pop(result.index, None)]
        if any(result.index in self._alone for result in fresh):
            answered = {result.index for result in fresh}
            self._queue = deque(job for job in self._queue if job.index not in answered)
        return fresh

    def _overdue(self, reference: Any) -> list[Result]:
        """What a seat that was given up says after all."""
        try:
            texts, _ = ray.get(reference, timeout=_TICK)
        except _GONE:
            return []  # its jobs have been given to others
        return self._first([Result.from_text(text) for text in texts])

    def _lost(self, number: int, error: str, *, killed: bool) -> list[Result]:
        """A fresh actor takes the place, and its jobs wait again, unless one has been lost too often."""
        old = self._seats[number]
        ray.kill(old.actor)
        stillborn = old.stillborn + 1 if old.step != "work" else 0
        if stillborn == TRIES:
            raise ExecutorError(f"a worker of Ray ended while it warmed up, {TRIES} times in a row: {error[:300]}")
        self._count_failure(old.node)
        self._seats[number] = self._seat()
        self._seats[number].stillborn = stillborn
        again, results = [], []
        for job in old.jobs.values():
            if job.index not in self._open:
                continue
            self._alone[job.index] = old.node
            if len(old.jobs) == 1:  # of a batch one is at fault, or none: alone it shows
                self._losses[job.index] += 1
                self._kills[job.index] += killed
            if self._kills[job.index] < KILLS and self._losses[job.index] < _LOSSES:
                again.append(job)
            else:
                results.append(Result(job.index, job.candidate, "quarantined", "quarantined:lost_workers", "numeric", error=error[:500]))
        self._queue.extendleft(reversed(again))
        return self._first(results)

    def _count_failure(self, node: str) -> None:
        """A node that failed three times in a row without a success gets no further worker, as long as there is another."""
        self._failures[node] += 1
        others = {entry["NodeID"] for entry in ray.nodes() if entry["Alive"]} - self._avoided - {node}
        if node and self._failures[node] >= TRIES and others:
            self._avoided.add(node)

    def close(self) -> None:
        if not self._lost_cluster:
            for seat in self._seats:
                ray.kill(seat.actor)
        if self._ours:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _vital_addresses() -> tuple[str, ...]:
    """Whom this driver cannot do without, `host:port` each: the head, and the raylet beside it."""
    context = ray.get_runtime_context()
    own = next(entry for entry in ray.nodes() if entry["NodeID"] == context.get_node_id())
    return context.gcs_address, f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}"


def _lives(node: str) -> bool:
    """Whether the node's raylet answers: if it does, a worker that ended there ended alone."""
    entry = next((entry for entry in ray.nodes() if entry["NodeID"] == node), None)
    return entry is not None and entry["Alive"] and answers(f"{entry['NodeManagerAddress']}:{entry['NodeManagerPort']}")
