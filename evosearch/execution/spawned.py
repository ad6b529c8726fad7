"""A worker that does its jobs itself, as CUDA needs it: a process that holds a device cannot be forked.

The driver's end watches the limits and ends the process; a fresh one takes its place after a failure, after a job that has
changed the process, and after so many jobs.
"""

from __future__ import annotations

from evosearch.execution import frames
from evosearch.execution.answers import FAILURES, Run, guarded, judged
from evosearch.execution.traces import is_unchanged, reset_randomness, traces
from evosearch.job import Job

RETIRED = "retired"  # says the worker that ends, with jobs unanswered or not
JOBS = 200  # of one process


def serve(run: Run, ceiling: int, commands: int, answers: int) -> None:
    """Until the driver is gone, or a fresh process has to go on. Only the first job's failure is its own.

    `ceiling` limits the address space, in bytes; 0 where a GPU reserves of it what it likes.
    """
    before, done = traces(), 0
    while (batch := frames.read(commands)) is not None:
        for line in batch.split("\n"):
            job = Job.from_text(line)
            reset_randomness()
            result = judged(job, frames.frame(guarded(run, job, ceiling)))
            has_failed = result.status in FAILURES
            if not (has_failed and done):
                frames.write(answers, result.to_text())
                done += 1
            if has_failed or done == JOBS or not is_unchanged(before):
                frames.write(answers, RETIRED)
                return
