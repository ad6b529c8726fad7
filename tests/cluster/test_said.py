"""What a job's commands say of it, without a cluster: the jobs are made up."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from evosearch.cli import app
from evosearch.execution.cluster import jobs
from evosearch.execution.cluster.jobs import Submission

COPY = "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\nevosearch: no such file"


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        (Submission("a-1", "FAILED", COPY, (), 2), 1, "job a-1: FAILED, exit code 2\n"),
        (Submission("a-1", "FAILED", "the package could\nnot be unpacked"), 1, "job a-1: FAILED. the package could not be unpacked\n"),
        (Submission("a-1", "SUCCEEDED", "Job finished successfully.", (), 0), 0, "job a-1: SUCCEEDED\n"),
    ],
)
def test_logs_end_with_one_line_that_says_how_the_job_ended(monkeypatch: pytest.MonkeyPatch, job: Submission, code: int, said: str) -> None:
    class Jobs:
        def __init__(self, address: str, insecure: bool) -> None:
            pass

        def logs(self, name: str, follow: bool) -> list[str]:
            return ["a\tb\x1b\n"]

        def latest(self, name: str) -> Submission:
            return job

    monkeypatch.setattr(jobs, "Jobs", Jobs)
    done = CliRunner().invoke(app, ["logs", "a", "--address", "http://h"])
    assert done.exit_code == code
    assert done.stdout == "a    b?\n"
    assert done.stderr == said
