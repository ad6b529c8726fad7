"""What lives in a Ray worker: one fork server, and the calls that run jobs in it. Knows no Ray, so that its tests need none."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from evosearch.execution import ExecutorError
from evosearch.execution.sandbox import ForkServer
from evosearch.execution.versions import cpu_level, versions
from evosearch.job import Job

SIGN = 5.0  # seconds: a call returns at least so often, with results or as a sign of life
_TOGETHER = 0.1  # seconds: what comes in so soon after the first result of a call goes with it


class Actor:
    """Greets, loads, then works: one call at a time, each answered soon."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)  # the fork server inherits it, and what torch reads of it
        self._server: ForkServer | None = None

    def hello(self) -> dict[str, str]:
        """Who this is, and the versions that its scores depend on."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return {**versions(), "host": socket.gethostname(), "pid": str(os.getpid()), "cpu": cpu_level(), "gpus": gpus}

    def load(self, entry: str, plan_text: str, time_limit: float, memory_limit_gb: float) -> None:
        """Returns when the server is warm. Raises ExecutorError when it cannot load the entry."""
        self._server = ForkServer(entry, plan_text, time_limit, memory_limit_gb)
        while not self._server.ready:
            self._server.poll(SIGN)

    def work(self, jobs: list[str]) -> tuple[list[str], float]:
        """Takes jobs, if none is left, and returns the results that come in, with the seconds that each took."""
        if self._server is None:
            raise ExecutorError("a worker loads before it works")
        if jobs:
            self._server.submit([Job.from_text(text) for text in jobs])
        found, end = self._server.poll(SIGN), time.monotonic() + _TOGETHER
        seconds = self._server.seconds_each
        while found and self._server.jobs and (left := end - time.monotonic()) > 0:
            found += self._server.poll(left)
        return [result.to_text() for result in found], seconds
