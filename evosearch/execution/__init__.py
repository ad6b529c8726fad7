"""Where jobs run: submit / poll behind one Protocol. Executors know neither study nor tasks; workers get text only."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Protocol, Self

from evosearch.job import Job, Result

EXECUTORS = ("serial", "local", "ray")
TRIES = 3  # a worker that ends once or twice is an accident; so often, its job is at fault, or what it loads


class ExecutorError(ValueError):
    """The workers cannot start: the entry does not load, or a worker ends again and again while it warms up."""


@dataclass(frozen=True)
class Cluster:
    """What the executor ray needs to know besides: where, what a worker gets, and which CPU kernels the driver would use."""

    address: str | None = None  # `auto` or `host:port`; None: a Ray of this machine alone
    gpus: float = 0.0  # of each worker; 0.5 puts two on a GPU
    insecure: bool = False  # join a cluster without tokens
    capability: str = ""  # torch's name of the instruction set, which workers are held to; empty: not said


class Executor(Protocol):
    """Submit jobs, poll results; results come in any order, each job exactly once."""

    @property
    def workers(self) -> int:
        """How many there are, or will be."""

    def free_slots(self) -> int:
        """How many jobs can be submitted now: one a worker, or more where the jobs before were cheap."""

    def submit(self, job: Job) -> None:
        """Takes a job; it starts when a worker is free, at the next poll at the latest."""

    def poll(self, timeout: float) -> list[Result]:
        """Results that have come in, waiting up to `timeout` seconds for the first.

        Returns none at once if nothing is in flight. Raises ExecutorError when a worker cannot load the entry.
        """

    @property
    def in_flight(self) -> list[int]:
        """Indices of the jobs that are not answered yet."""

    def close(self) -> None:
        """Ends every worker and whatever it started."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...


def make_executor(
    name: str, entry: str, plan_text: str, *, workers: int | None = None, time_limit: float, memory_limit_gb: float,
    at_most: int | None = None, cluster: Cluster | None = None,
) -> Executor:  # fmt: skip
    """The executor of that name; its workers warm up while the caller goes on.

    `entry` is `package.module:function`; `function(plan_text)` returns `run(job_text) -> result_text`. A job that runs
    longer than `time_limit` seconds, or needs `memory_limit_gb` GiB more than the warm worker (0: no limit, as CUDA
    needs it), ends with the status timeout or memory; not so in serial. `workers` is the number of cores by default, of
    the whole cluster with ray, where it grows as nodes join; never more than `at_most`.
    Raises ValueError for an unknown name, a limit out of range, or an address that does not go with the executor.
    """
    if cluster and cluster.address and name != "ray":
        raise ValueError(f"an address goes with the executor ray; received it with `{name}`")
    if cluster and cluster.gpus and name != "ray":
        raise ValueError(f"GPUs of each worker go with the executor ray; received them with `{name}`")
    if workers is not None and workers < 1:
        raise ValueError(f"an executor needs at least 1 worker; received {workers}")
    if not (math.isfinite(time_limit) and time_limit > 0):
        raise ValueError(f"the time limit of a job is a finite number of seconds above 0; received {time_limit}")
    if not (math.isfinite(memory_limit_gb) and memory_limit_gb >= 0):
        raise ValueError(f"the memory limit is a finite number of GiB, 0 for none; received {memory_limit_gb}")
    most = at_most or 10_000
    count = min(workers or os.cpu_count() or 1, most)
    if name == "serial":
        from evosearch.execution.serial import SerialExecutor

        return SerialExecutor(entry, plan_text)
    if name == "local":
        from evosearch.execution.local import LocalExecutor

        return LocalExecutor(entry, plan_text, workers=count, time_limit=time_limit, memory_limit_gb=memory_limit_gb)
    if name == "ray":
        from evosearch.execution.ray import RayExecutor

        seats = min(workers, most) if workers else None
        return RayExecutor(entry, plan_text, workers=seats, time_limit=time_limit, memory_limit_gb=memory_limit_gb, at_most=most, cluster=cluster)
    raise ValueError(f"unknown executor `{name}`; there are {', '.join(EXECUTORS)}")
