"""How well executors use their workers, and how many candidates that do nothing they get through in a second.

    python scripts/bench_executors.py [--executors serial local ray] [--workers 2] [--milliseconds 50 10] [--seconds 10] [--repeats 3]

A candidate computes for so many milliseconds of CPU time (torch is loaded in the workers, as in a search) and says how long it
took by the clock. Utilization is the sum of that over workers x time from the first submission to the last result, the warm-up
left out. On a machine that others use as well candidates take longer than they compute: `stretch` says how much. `candidates`
that compute nothing measure the cost of one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from evosearch.execution import EXECUTORS, Executor, make_executor
from evosearch.job import Job, Result


def load(plan_text: str) -> Callable[[str], str]:
    """The entry of the workers: a candidate is a number of seconds."""
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.Linear(64, 64)
    layer(torch.ones(8, 64)).sum().backward()

    def run(job_text: str) -> str:
        job, start, cpu = Job.from_text(job_text), time.perf_counter(), time.process_time()
        wanted = float(job.candidate)
        while time.process_time() - cpu < wanted:
            pass
        return Result(job.index, job.candidate, "ok", seconds={"own": time.perf_counter() - start}).to_text()

    return run


def drive(executor: Executor, seconds: float, number: int) -> tuple[float, float]:
    """So many candidates through the executor as a search would submit them: the time it took, and what they say they took."""
    jobs = (Job(index, repr(seconds), 0) for index in range(number))
    start, own, answered = time.perf_counter(), 0.0, 0
    waiting = next(jobs, None)
    while answered < number:
        while waiting and executor.free_slots():
            executor.submit(waiting)
            waiting = next(jobs, None)
        for result in executor.poll(1.0):
            assert result.status == "ok", result
            own += result.seconds["own"]
            answered += 1
    return time.perf_counter() - start, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=["serial", "local"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--milliseconds", type=float, nargs="*", default=[50, 10])
    parser.add_argument("--seconds", type=float, default=10, help="of work in one measurement")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'executor':<9} {'workers':>7} {'candidate':>10} {'number':>7} {'wall s':>7} {'utilization':>11} {'stretch':>8} {'a second':>9}")
    for name in options.executors:
        with make_executor(name, "bench_executors:load", "", workers=options.workers, time_limit=60, memory_limit_gb=4) as executor:
            drive(executor, 0.01, 64 * executor.workers)  # warm, and its batches have found their size
            for milliseconds, _ in ((m, r) for m in (*options.milliseconds, 0.0) for r in range(options.repeats)):
                number = int(options.seconds * executor.workers / (milliseconds / 1000)) if milliseconds else 5000
                wall, own = drive(executor, milliseconds / 1000, number)
                use = f"{own / executor.workers / wall:>11.1%} {own / number / (milliseconds / 1000):>8.2f}" if milliseconds else f"{'':>20}"
                print(f"{name:<9} {executor.workers:>7} {f'{milliseconds:g} ms':>10} {number:>7} {wall:>7.2f} {use} {number / wall:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
