"""The scripts: the miniature runs and resumes, the shell scripts parse, the cluster file is what Ray expects."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from evosearch.source import import_file

ROOT = Path(__file__).parent.parent


def test_the_miniature_runs_the_idea_end_to_end_and_resumes(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "evosearch_mini.py"), str(tmp_path / "log.jsonl")]
    start = time.perf_counter()
    whole = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - start < 60  # under 30 s on an idle machine
    assert "(baseline)" in whole
    assert "(front)" in whole
    log = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text("".join(line + "\n" for line in log.splitlines()[:40]))
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == whole
    assert [json.loads(line)["graph"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [json.loads(line)["graph"] for line in log.splitlines()]


@pytest.mark.parametrize("script", [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"], ids=lambda p: p.name)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_weights_are_fitted_without_the_task_that_they_are_asked_about():
    """`entropy` is what was measured, on two tasks; on the third it is upside down, which must not be known when it is chosen."""
    script = import_file(ROOT / "scripts" / "rank_known.py", "rank_known_script")
    generator = np.random.default_rng(0)

    def task(sign):
        rows = {name: dict(zip(script.proxies.NAMES, generator.standard_normal(9), strict=True)) for name in script.FUNCTIONS}
        return script.ranked({name: row | {"measured": sign * row["entropy"]} for name, row in rows.items()})

    tasks = {pair: task(+1) for pair in script.PAIRS}
    asked = script.PAIRS[1]
    weights, row = script.leave_out(asked, tasks, trials=11)
    assert "+`entropy` | +1.00 | +1.00 [+1.00, +1.00]" in row
    tasks[asked] = script.Ranked(tasks[asked].scores, [-m for m in tasks[asked].measured])
    again, row = script.leave_out(asked, tasks, trials=11)
    assert again == weights
    assert "+`entropy` | +1.00 | -1.00 [-1.00, -1.00]" in row


def test_quickstart_that_was_interrupted_is_not_done(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    script = tmp_path / "scripts" / "quickstart.sh"
    script.write_text((ROOT / "scripts" / "quickstart.sh").read_text())
    (tmp_path / "scripts" / "setup.sh").write_text("set_up() { :; }\n")
    command = tmp_path / ".venv" / "bin" / "evosearch"
    for code in (0, 130):
        command.write_text(f"#!/bin/sh\nexit {code}\n")
        command.chmod(0o755)
        done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
        assert done.returncode == code
        assert ("done" in done.stdout) == (code == 0)


def test_ci_runs_exactly_the_test_script():
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text()


def test_the_cluster_file_names_its_node_types():
    data = YAML(typ="safe", pure=True).load((ROOT / "cluster.yaml").read_text())
    assert data["head_node_type"] in data["available_node_types"]
    assert any("-c constraints.txt" in command for command in data["setup_commands"])


def test_constraints_pin_every_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["onnx"], *(r for r in extras["test"] if r != "evosearch[onnx]")]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for requirement in wanted:
        name = requirement.split(">")[0].split("=")[0].split("<")[0].lower()
        assert name in pinned, requirement
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
