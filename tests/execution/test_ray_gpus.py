"""GPUs of each worker: logical ones on any machine, real ones where there are some."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from evosearch.execution import Cluster
from evosearch.execution.ray import RayExecutor
from evosearch.judging.evaluate import Plan
from evosearch.search.store import read_run
from tests.execution.laws import ENTRY, jobs_of, run_all

SMOKE = Path(__file__).parents[2] / "search_spaces" / "smoke.yaml"


@pytest.fixture
def four_gpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=8, num_gpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.mark.cluster
@pytest.mark.usefixtures("four_gpus")
def test_eight_workers_share_four_gpus_and_each_sees_its_own() -> None:
    with RayExecutor(ENTRY, "", workers=None, time_limit=60, memory_limit_gb=0.5, cluster=Cluster(gpus=0.5)) as executor:
        assert executor.workers == 8  # by what there is of GPUs
        deadline = time.monotonic() + 200
        while any(seat.step != "work" for seat in executor._seats):
            run_all(executor, jobs_of(["ok"]), patience=200)
            assert time.monotonic() < deadline
        results = run_all(executor, jobs_of(["gpus"] * 40), patience=100)
    assert Counter(seat.gpus for seat in executor._seats) == {"0": 2, "1": 2, "2": 2, "3": 2}
    assert {result.error for result in results.values()} <= {"0", "1", "2", "3"}  # of a candidate, below the fork server
    assert len({result.error for result in results.values()}) > 1


def test_a_worker_that_shares_a_gpu_is_held_to_its_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from evosearch.config import load
    from evosearch.judging import evaluate
    from evosearch.run import plan_of

    config = load(str(SMOKE), ["execution.executor=ray", "execution.gpus_per_worker=0.25", "execution.device=cuda"])
    plan = plan_of(config)
    assert Plan.from_text(plan.to_text()).gpu_share == 0.25
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    monkeypatch.setattr(evaluate, "_prepare", lambda *arguments, **options: None)
    evaluate.worker(plan.to_text())
    assert asked == [0.25]


@pytest.mark.gpu
@pytest.mark.cluster
def test_two_workers_on_one_real_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    given = ["--executor", "ray", "--device", "cuda", "--workers", "2", "--set", "execution.gpus_per_worker=0.5"]
    subprocess.run([sys.executable, "-m", "evosearch.cli", "run", str(SMOKE), "--out", str(tmp_path / "run"), *given], check=True)
    trained = [row for row in read_run(tmp_path / "run")[0] if row["scores"]]
    assert {row["device"].partition(":")[0] for row in trained} == {"cuda"}
    assert len({row["worker"] for row in trained}) > 1
