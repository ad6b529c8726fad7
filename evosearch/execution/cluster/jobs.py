"""Runs as jobs of a Ray cluster, over HTTP to its dashboard: submitted, read, stopped. One name, one run's folder on the head."""

from __future__ import annotations

import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import ray
from ray.job_submission import JobSubmissionClient

from evosearch.execution import ExecutorError
from evosearch.execution.cluster.connect import authenticate, check_floor
from evosearch.execution.cluster.names import SUBMITTED, check_name, entrypoint

_STAY_HOME = [".git", ".venv", "runs", "__pycache__", ".ray", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"]  # besides .rayignore
_OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_NOTICE = "30"  # seconds that a job has to end by itself once it is stopped
_TICK = 0.5  # seconds between two looks at a job


@dataclass(frozen=True)
class Submission:
    """A job of Ray: its id, its state (PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED) and what Ray says of it."""

    id: str
    status: str
    message: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    exit_code: int | None = None  # of a job that ended by itself

    def said(self) -> str:
        """Its state in a line; Ray's own words of a job that ended with a code are a copy of its log."""
        why = f", exit code {self.exit_code}" if self.exit_code is not None else f". {' '.join(self.message.split())[:300]}" if self.message else ""
        return self.status + (why if self.status == "FAILED" else "")


class Jobs:
    """The jobs of one cluster, at `http://host:port` of its dashboard. Raises ExecutorError, as do its methods."""

    def __init__(self, address: str, insecure: bool = False) -> None:
        check_floor()
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ExecutorError(f"jobs go to the dashboard of the head, e.g. http://127.0.0.1:8265; received {address[:80]}")
        self._insecure = insecure
        authenticate(insecure)
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # they would win over the address that was given
            os.environ.pop(name, None)
        self._address = address.rstrip("/")
        if self.takes_anybody() and not insecure:
            raise ExecutorError(
                f"the Ray cluster at {address} takes jobs from anybody who reaches it; start it with RAY_AUTH_MODE=token (docs/cluster.md), "
                "or say --insecure-cluster in a network that you trust"
            )
        for name in ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)  # they tell of packages; what fails is raised
        try:
            self._client = JobSubmissionClient(self._address)
        except ray.exceptions.AuthenticationError:
            raise ExecutorError(f"the cluster at {address} refuses the token (RAY_AUTH_TOKEN, or ~/.ray/auth_token): copy the token of its head") from None
        except (RuntimeError, ConnectionError) as error:
            hint = "pip install 'evosearch[cluster]'" if "ray[default]" in str(error) else "is the address that of a dashboard?"
            raise ExecutorError(f"no jobs can be given to {address}: {str(error)[:200]} ({hint})") from None

    def takes_anybody(self) -> bool:
        """Whether the dashboard lists its jobs to somebody without a token."""
        try:
            with urllib.request.urlopen(f"{self._address}/api/jobs/", timeout=10) as answer:
                return int(answer.status) < 300
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return False
            raise ExecutorError(f"what answers at {self._address} has no jobs ({error.code}); is it the dashboard of a Ray head?") from None
        except (OSError, ValueError) as error:
            raise ExecutorError(f"no dashboard answers at {self._address} ({error}); is the head up, and the tunnel to it (docs/cluster.md)?") from None

    def latest(self, name: str) -> Submission | None:
        """The last job of that name that the head remembers; a head that was started again has forgotten all."""
        found = [job for job in self._client.list_jobs() if (job.metadata or {}).get("evosearch") == check_name(name)]
        if not found:
            return None
        job = max(found, key=lambda job: job.start_time or 0)
        environment = {key: value for key, value in (job.runtime_env or {}).items() if key == "working_dir" and isinstance(value, str)}
        return Submission(str(job.submission_id), str(job.status.value), str(job.message or ""), tuple(environment.items()), job.driver_exit_code)

    def submit(self, name: str, command: Sequence[str], folder: Path, typed: str) -> tuple[Submission, bool]:
        """Gives `folder` and a command in it to the cluster; False with the job that is running under that name already.

        `typed` is what a job that is stopped tells its user to type again.
        """
        before = self.latest(name)
        if before and before.status not in _OVER:
            return before, False
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": _NOTICE, SUBMITTED: typed}
        environment = {"working_dir": str(folder), "excludes": _STAY_HOME, "env_vars": variables}
        return self._start(f"{name}-{time.time_ns() // 1_000_000:x}", command, environment, {"evosearch": name}), True

    def _start(self, job: str, command: Sequence[str], environment: Mapping[str, object], metadata: dict[str, str]) -> Submission:
        try:
            made = self._client.submit_job(entrypoint=entrypoint(command), submission_id=job, runtime_env=dict(environment), metadata=metadata)
        except (RuntimeError, ValueError) as error:
            raise ExecutorError(f"the cluster took no job: {' '.join(str(error).split())[:400]}") from None
        return Submission(str(made), "PENDING")

    def output(self, name: str, command: Sequence[str], patience: float) -> str:
        """What a small command prints on the head, where the run of that name is; its job is forgotten afterwards."""
        last = self.latest(name)
        made = self._start(f"{name}-fetch-{time.time_ns() // 1_000_000:x}", command, dict(last.environment) if last else {}, {})
        deadline = time.monotonic() + patience
        while (status := self._status(made.id)) not in _OVER:
            if time.monotonic() > deadline:
                self._client.stop_job(made.id)
                raise ExecutorError(f"the job {made.id} did not end in {patience:g} s; is the head busy? (`evosearch doctor`)")
            time.sleep(_TICK)
        said = str(self._client.get_job_logs(made.id))
        self._client.delete_job(made.id)
        if status != "SUCCEEDED":
            lines = [line for line in said.splitlines() if line.strip()]
            raise ExecutorError(lines[-1].removeprefix("evosearch: ")[:500] if lines else f"the job {made.id} ended as {status} and said nothing")
        return said

    def _status(self, job: str) -> str:
        return str(self._client.get_job_status(job).value)

    def logs(self, name: str, follow: bool) -> Iterator[str]:
        """What the last job of that name has printed; with `follow` on, until it ends."""
        job, shown = self._found(name), 0
        while True:
            is_over = self._status(job.id) in _OVER
            said = str(self._client.get_job_logs(job.id))
            if said[shown:]:
                yield said[shown:]
            shown = len(said)
            if is_over or not follow:
                return
            time.sleep(_TICK)

    def stop(self, name: str, patience: float = 60.0) -> Submission:
        """Asks the job to end and waits for it: it has 30 s to log what is in flight."""
        job = self._found(name)
        if job.status not in _OVER:
            self._client.stop_job(job.id)
        deadline = time.monotonic() + patience
        while self._status(job.id) not in _OVER and time.monotonic() < deadline:
            time.sleep(_TICK)
        return self._found(name)

    def _found(self, name: str) -> Submission:
        job = self.latest(name)
        if job is None:
            raise ExecutorError(f"the head knows no job `{name}`; one that was started again has forgotten those before: submit it once more, and it resumes")
        return job
