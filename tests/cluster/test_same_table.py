"""One table, whoever computes it: 1 local worker, 2, Ray on two nodes, Ray with a node killed half way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from evosearch.search.store import LogError, read_run
from tests.cluster.hosts import PORT, Lan, why_not
from tests.cluster.tables import rows, table_hash

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
ROOT = Path(__file__).parents[2]


SHORT = ("budget.evaluations=20", "judging.quality.steps=10", "judging.full.steps=10", "judging.full.seeds=1", "judging.final.steps=5", "judging.final.seeds=1")


def command(out: Path, *more: str) -> list[str]:
    given = [part for key in SHORT for part in ("--set", key)]
    return [sys.executable, "-m", "evosearch.cli", "run", str(ROOT / "search_spaces/smoke.yaml"), "--out", str(out), *given, *more]


def test_one_table(tmp_path: Path) -> None:
    hashes = {}
    for workers in (1, 2):
        out = tmp_path / f"local-{workers}"
        subprocess.run(command(out, "--workers", str(workers)), check=True, stdout=subprocess.DEVNULL)
        hashes[out.name] = table_hash(out)
    with Lan() as lan:
        head, other = lan.host(), lan.host()
        head.start_ray()
        other.start_ray(head)
        for name in ("ray-2-nodes", "ray-node-killed"):
            out = tmp_path / name
            with head.popen(command(out, "--executor", "ray", "--address", f"{head.address}:{PORT}", "--workers", "2"), stdout=subprocess.DEVNULL) as driver:
                wait_for_half(out)
                assert all(host.processes("evosearch.execution.server") for host in (head, other))  # both are at work
                if name == "ray-node-killed":
                    assert other.kill("raylet/raylet")
                assert driver.wait(400) == 0
            hashes[name] = table_hash(out)
    print(hashes)
    assert len(rows(out)) >= 20
    assert len(set(hashes.values())) == 1, hashes


def wait_for_half(out: Path, half: int = 10) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if sum(row["index"] is not None for row in read_run(out)[0]) >= half:
                return
        except LogError:
            pass  # it is not there yet
        time.sleep(0.2)
    raise AssertionError("the run did not come half way")
