"""A driver for the hosts: runs toy jobs through Ray and prints what happens, a line of JSON each.

`python -m tests.cluster.driver ADDRESS WORKERS TIME_LIMIT JOB...`
"""

from __future__ import annotations

import json
import sys
import time

import ray

from evosearch.execution import Cluster, make_executor
from evosearch.job import Job
from tests.execution.laws import ENTRY

START = time.monotonic()


def say(**what: object) -> None:
    print(json.dumps({**what, "at": round(time.monotonic() - START, 2)}), flush=True)


def main(address: str, workers: str, time_limit: str, *candidates: str) -> None:
    jobs = [Job(index, candidate, 0) for index, candidate in enumerate(candidates)]
    settings = {"workers": int(workers), "time_limit": float(time_limit), "memory_limit_gb": 0.5, "cluster": Cluster(address)}
    with make_executor("ray", ENTRY, "", **settings) as executor:  # type: ignore[arg-type]
        while any(seat.step != "work" for seat in executor._seats):  # type: ignore[attr-defined]
            if not executor.in_flight:
                executor.submit(Job(-1, "ok", 0))
            executor.poll(0.2)
        while executor.in_flight:
            executor.poll(1.0)
        for job in jobs:
            executor.submit(job)
        executor.poll(0.5)
        say(event="busy", nodes=sorted({seat.node for seat in executor._seats}))  # type: ignore[attr-defined]
        while executor.in_flight:
            for result in executor.poll(1.0):
                say(event="result", index=result.index, status=result.status, reason=result.reason, error=result.error)
    ray.init(address=address, log_to_driver=False)
    deadline = time.monotonic() + 90
    while (free := ray.available_resources().get("CPU", 0)) != (total := ray.cluster_resources()["CPU"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    say(event="end", free=free, total=total)


if __name__ == "__main__":
    main(*sys.argv[1:])
