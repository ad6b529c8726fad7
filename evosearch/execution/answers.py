"""What an answer is: made of whatever a job does, and judged by who reads it, who trusts nothing in it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from evosearch.execution import frames
from evosearch.execution.processes import signal_name
from evosearch.job import Job, Result

MAX_ANSWER = 1 << 20  # bytes
KILLED = "crash:SIGKILL"  # the reason of a process that neither the limits nor the kernel's want of memory ended
FAILURES = ("timeout", "memory", "crash", "error")  # what another job in the same process may be to blame for
# What torch's allocators say when they get no memory; they raise a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

Run = Callable[[str], str]


def failed(job: Job, status: str, reason: str, error: str) -> Result:
    """The result of a job that has none of its own."""
    return Result(job.index, job.candidate, status, reason, "numeric", worker=f"pid-{os.getpid()}", error=error[:500])


def guarded(run: Run, job: Job, ceiling: int) -> str:
    """`run(text)` under the limit on the address space in bytes (0: none); whatever it raises is a result."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if ceiling:
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))
    try:
        answer = run(job.to_text())
        if len(answer) >= MAX_ANSWER or len(answer.encode()) >= MAX_ANSWER:
            return failed(job, "error", "error:bad_answer", f"the answer is {len(answer)} characters long").to_text()
        return answer
    except BaseException as error:  # a candidate may do anything, `sys.exit()` too: what it did is the row
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
        message = _message(error)
        if isinstance(error, MemoryError) or any(words in message for words in _NO_MEMORY):
            return failed(job, "memory", "memory", message).to_text()
        return failed(job, "error", f"error:{type(error).__name__[:60]}", message).to_text()


def _message(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:1000].encode(errors="replace").decode()
    except BaseException:  # its own text is a candidate's as well
        return f"{type(error).__name__}, and its message cannot be read"


def is_whole(data: bytes) -> bool:
    """Whether enough is there to judge: a frame, or the beginning of one that is too long."""
    return len(data) >= 4 and (len(data) >= frames.size(data) or frames.size(data) > MAX_ANSWER + 4)


def judged(job: Job, data: bytes, skip: int = 0) -> Result:
    """The result in a frame, behind so many bytes, if it is a valid one for this job."""
    if frames.size(data) > MAX_ANSWER + 4:
        return failed(job, "error", "error:bad_answer", f"the child's answer is longer than {MAX_ANSWER} bytes")
    if len(data) > frames.size(data):
        return failed(job, "error", "error:bad_answer", "the child wrote more than its answer")
    try:
        result = Result.from_text(data[4 + skip :].decode())
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return failed(job, "error", "error:bad_answer", f"the child's answer is no result: {error}")
    if (result.index, result.candidate) != (job.index, job.candidate):
        return failed(job, "error", "error:wrong_answer", f"the child answered for job {result.index!r}")
    return result


def epitaph(job: Job, code: int, was_out_of_memory: bool) -> Result:
    """What the end of the process says that had the job: its exit code, or the signal that ended it, negative."""
    name = signal_name(-code) if code < 0 else ""
    if name == "SIGKILL" and was_out_of_memory:
        return failed(job, "memory", "memory:oom_kill", "the machine ran out of memory and killed the child")
    if name:
        return failed(job, "crash", f"crash:{name}", f"the child was ended by {name}")
    return failed(job, "error", "error:no_result", f"the child exited with code {code} and left no result")
