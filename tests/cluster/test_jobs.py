"""A head on loopback: submit, logs, the head is killed and started again, the same submit resumes, fetch brings the run home; and a doctor."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from evosearch.search.store import LogError, read_run
from tests.cluster.hosts import TOKEN, Host, Lan, why_not
from tests.cluster.tables import rows, table_hash

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.chaos,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(find_spec("aiohttp") is None, reason="jobs need ray[default]: pip install 'evosearch[cluster]'"),
]
ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8265"
DASHBOARD = ("--include-dashboard=true", "--dashboard-host=127.0.0.1", "--dashboard-port=8265")


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "search.yaml").write_text((ROOT / "search_spaces" / "smoke.yaml").read_text())
    with Lan() as lan:
        made = lan.host()
        made.start_ray(None, 2, *DASHBOARD)
        yield made


def call(head: Host, work: Path, *arguments: str) -> str:
    process = head.popen([sys.executable, "-m", "evosearch.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=work)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert TOKEN not in said
    return str(said)


def told(run: Path) -> int:
    try:
        return sum(row["index"] is not None for row in read_run(run)[0])
    except LogError:
        return 0  # it is not there yet


def test_a_search_outlives_its_head_and_comes_home(head: Host, tmp_path: Path) -> None:
    work = tmp_path / "work"
    submit = ("submit", "search.yaml", "--address", ADDRESS, "--name", "first", "--set", "execution.workers=2")
    assert "first submitted" in call(head, work, *submit)
    run = head.folder / "evosearch-runs" / "first"
    deadline = time.monotonic() + 300
    while told(run) < 8:
        assert time.monotonic() < deadline, call(head, work, "logs", "first", "--address", ADDRESS)
        time.sleep(0.3)
    assert "is running already" in call(head, work, *submit)
    assert "to find" in call(head, work, "logs", "first", "--address", ADDRESS)
    for word in ("gcs_server", "raylet/raylet", "dashboard", "monitor.py"):
        head.kill(word)
    deadline = time.monotonic() + 40
    while [process for process in head.processes("evosearch.cli run") if "ray::" not in process.name()]:
        assert time.monotonic() < deadline, "the driver did not end"
        time.sleep(0.5)
    before = told(run)
    head.kill()  # what is left of it, as when the machine is started again
    head.start_ray(None, 2, *DASHBOARD)
    assert "first submitted" in call(head, work, *submit)
    assert "results:" in call(head, work, "logs", "first", "--address", ADDRESS, "--follow")
    assert "bytes" in call(head, work, "fetch", "first", "--address", ADDRESS)
    home = work / "runs" / "first"
    assert before <= told(home)
    assert "verdict" in call(head, work, "top", str(home))
    indices = [row["index"] for row in rows(home) if row["index"] is not None]
    assert len(indices) == len(set(indices)) >= 30
    whole = tmp_path / "whole"
    subprocess.run(
        [sys.executable, "-m", "evosearch.cli", "run", str(work / "search.yaml"), "--out", str(whole), "--workers", "2"], check=True, capture_output=True
    )
    assert table_hash(home) == table_hash(whole)
    for file in (path for folder in (home, run, work) for path in folder.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in file.read_bytes(), file


def test_a_search_is_stopped_and_fetched_as_it_is(head: Host, tmp_path: Path) -> None:
    work = tmp_path / "work"
    call(head, work, "submit", "search.yaml", "--address", ADDRESS, "--name", "second", "--set", "budget.evaluations=4000")
    run = head.folder / "evosearch-runs" / "second"
    deadline = time.monotonic() + 300
    while told(run) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert "STOPPED" in call(head, work, "stop", "second", "--address", ADDRESS)
    call(head, work, "fetch", "second", "--address", ADDRESS, "--out", "there")
    assert told(work / "there") == told(run) >= 3


def test_the_doctor_visits_every_node(head: Host, tmp_path: Path) -> None:
    said = call(head, tmp_path / "work", "doctor", "--address", "auto")
    assert "asks for its token, and took ours" in said
    assert f"{head.address}: the same Python" in said
    assert "a round trip takes" in said
    assert "FAIL" not in said
