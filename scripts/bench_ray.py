"""Throughput and utilization of the executors local and ray, over candidates that sleep: `python scripts/bench_ray.py [WORKERS]`.

Each figure once; both executors in one run, since a machine's other load moves them together.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evosearch.execution import Executor, make_executor
from evosearch.job import Job
from tests.execution.laws import ENTRY


def seconds(executor: Executor, candidates: list[str]) -> float:
    """How long they take together."""
    start, waiting, index, answered = time.perf_counter(), list(reversed(candidates)), 0, 0
    while answered < len(candidates):
        while waiting and executor.free_slots():
            executor.submit(Job(index, waiting.pop(), 0))
            index += 1
        answered += len(executor.poll(1.0))
    return time.perf_counter() - start


def main(workers: int) -> None:
    for name in ("local", "ray"):
        with make_executor(name, ENTRY, "", workers=workers, time_limit=60, memory_limit_gb=0.5) as executor:
            seconds(executor, ["ok"] * 500)  # warm, and the size of a batch is found
            took = seconds(executor, ["ok"] * 5000)
            print(f"{name:5}  no-op: {5000 / took:6.0f} candidates/s", flush=True)
            for milliseconds in (50, 10):
                seconds(executor, [f"sleep {milliseconds / 1000}"] * 40)
                count = 8000 // milliseconds
                took = seconds(executor, [f"sleep {milliseconds / 1000}"] * count)
                print(f"{name:5}  {milliseconds:2d} ms: utilization {100 * count * milliseconds / 1000 / workers / took:5.1f} %", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
