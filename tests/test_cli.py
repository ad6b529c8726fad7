"""The commands, as a user types them."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from evosearch.cli import main

EVOSEARCH = [sys.executable, "-m", "evosearch.cli"]
TINY = ["run", "search_spaces/smoke.yaml", "--set", "budget.evaluations=14", "--set", "judging.full.steps=5", "--set", "judging.final.steps=2"]
COLUMNS = ["index", "ask", "attempt", "candidate", "canonical_id", "proposer", "status", "reason", "stage", "parents", "duplicate_of"]


def evosearch(*arguments, check=True, environment=None):
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | (environment or {})
    done = subprocess.run([*EVOSEARCH, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=env)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def refused(*arguments):
    """What a command says on standard error that must refuse; in this process, which has torch loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", ["evosearch", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2, err.getvalue()
    assert "Traceback" not in err.getvalue()
    assert len(err.getvalue().strip().splitlines()) == 1
    return err.getvalue()


def table(directory):
    """What a run found: everything but times, workers and the like."""
    (part,) = (directory / "results").glob("*.parquet")
    data = pq.read_table(part)
    names = COLUMNS + [n for n in data.column_names if n.startswith(("score_", "rate_", "mean", "worst", "quality_", "complexity", "saved"))]
    return data.select(names).to_pylist()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "first"
    output = evosearch(*TINY, "--out", directory, "--workers", 2)
    return directory, output.stdout, output.stderr


def test_help_is_instant():
    start = time.perf_counter()
    assert "export" in evosearch("--help").stdout
    assert time.perf_counter() - start < 2  # 0.13 s on an idle machine; the bound is for a busy one
    code = "import sys; sys.argv = ['evosearch', '--help']\nfrom evosearch.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'ray', 'sympy', 'numpy', 'optuna', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_run_leaves_a_table_a_verdict_and_readable_files(finished):
    directory, output, _ = finished
    assert ">>>>" in output
    assert "baseline" in output
    assert "photo/inr PSNR [dB]" in output
    assert "functions: 10 found + 4 baselines" in output
    assert "verdict: " in output
    assert "Next: evosearch export" in output
    assert not any(line.endswith(" ") for line in output.splitlines())
    assert json.loads((directory / "status.json").read_text())["finished"]
    summary = json.loads((directory / "summary.json").read_text())
    assert set(summary) == {"search_end", "pick", "verdict", "novelty", "simplified", "relative_time", "inference_time", "counts", "crc32"}
    assert summary["search_end"] == 14
    assert f"verdict: {summary['verdict']['line']}" in output
    rows = table(directory)
    assert len({r["candidate"] for r in rows if r["index"] is not None and r["index"] < 10**9}) == 14


def test_top_prints_the_table_again(finished):
    output = evosearch("top", finished[0]).stdout
    assert ">>>>" in output
    assert output in finished[1]
    narrow = evosearch("top", finished[0], environment={"COLUMNS": "60"}).stdout
    assert max(map(len, narrow.splitlines()[1:])) <= 60


def test_run_again_resumes_and_does_nothing_twice(finished, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(finished[0], directory)
    before, summary = table(directory), (directory / "summary.json").read_text()
    assert "measuring" not in evosearch(*TINY, "--out", directory).stdout
    assert (directory / "summary.json").read_text() == summary
    (directory / "summary.json").write_text(summary[:100])
    assert "is not what this evosearch writes" in evosearch("top", directory).stdout
    assert "measuring" in evosearch("resume", directory).stdout
    assert table(directory) == before


@pytest.mark.parametrize("options", [("--workers", 1), ("--workers", 3), ("--executor", "serial"), ("--executor", "ray")])
def test_the_same_candidates_in_the_same_order_for_any_executor(finished, tmp_path, options):
    evosearch(*TINY, "--out", tmp_path / "other", *options)
    assert table(tmp_path / "other") == table(finished[0])


def test_killed_half_way_and_run_again_gives_the_same_table(finished, tmp_path):
    directory = tmp_path / "killed"
    driver = subprocess.Popen([*EVOSEARCH, *TINY, "--out", str(directory), "--workers", "2"], stdout=subprocess.DEVNULL, start_new_session=True)
    journal = directory / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b'"type":"result"') < 7:
        assert driver.poll() is None
        time.sleep(0.01)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    evosearch(*TINY, "--out", directory)
    assert table(directory) == table(finished[0])


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_finishes_what_is_in_flight_and_a_second_one_stops_at_once(tmp_path, presses):
    directory = tmp_path / "stopped"
    command = [*EVOSEARCH, *TINY, "--out", str(directory), "--workers", "1"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = directory / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b'"type":"result"') < 5:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    heard = iter(driver.stdout.readline, "")
    assert any("finishing what is in flight" in line for line in heard)
    if presses == 2:
        driver.send_signal(signal.SIGINT)
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "Traceback" not in errors
    if "stopped at once" not in errors:  # what was in flight may end before the second press
        assert "Go on with: evosearch run" in output
        assert "Next: evosearch export" not in output
        assert "unfinished" in output or "No function has been fully trained yet" in output


def test_what_must_not_change_is_refused_and_shown(finished, tmp_path):
    assert "seed: 0 -> 1" in refused(*TINY, "--out", finished[0], "--seed", 1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    assert "is not a run" in refused(*TINY, "--out", other)


def test_another_environment_is_refused_without_the_flag(finished, tmp_path):
    directory = tmp_path / "moved"
    shutil.copytree(finished[0], directory)
    file = directory / "run.yaml"
    file.write_text(file.read_text().replace("torch: ", "torch: 1."))
    assert "another environment" in refused(*TINY, "--out", directory)
    assert not evosearch(*TINY, "--out", directory, check=False).stdout  # no banner before a refusal
    shutil.copyfile(finished[0] / "run.yaml", file)
    done = evosearch(*TINY, "--out", directory, "--set", "budget.evaluations=13", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give at least 14" in done.stderr
    file.write_text(file.read_text().replace("torch: ", "torch: 1."))
    evosearch(*TINY, "--out", directory, "--accept-new-environment")


def test_mistakes_are_one_line_and_write_nothing(tmp_path):
    out = tmp_path / "never"
    bad = tmp_path / "bad.yaml"
    bad.write_text((Path(__file__).parent.parent / "search_spaces" / "smoke.yaml").read_text().replace("promote", "promot"))
    message = refused("run", bad, "--out", out)
    assert "did you mean `promote`" in message
    assert f"{bad}:" in message
    assert "did you mean `smoke.yaml`" in refused("run", "smok.yaml", "--out", out).replace("search_spaces/", "")
    assert "goes with the executor ray" in refused(*TINY, "--out", out, "--address", "auto") or out.exists()
    assert "unknown operator `sigmod`" in refused("explain", "sigmod(x)")
    assert "__import__" in refused("explain", "__import__('os')")
    assert "at most 4096 characters" in refused("explain", "(" * 10000 + "x" + ")" * 10000)
    assert "not a run" in refused("top", tmp_path)
    assert "--formula" in refused("export", "--to", tmp_path / "x")
    assert "no such device" in refused(*TINY, "--out", out, "--device", "tpu")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "run.yaml").write_text("{")
    assert "restore it from a copy" in refused("top", damaged)
    assert "Missing argument" in refused("run")
    assert "--out" in refused("run", "smoke.yaml", "--uot", out)
    assert "No such command" in refused("serach")


def test_export_of_the_pick_and_of_a_formula(finished, tmp_path):
    output = evosearch("export", finished[0], "--best", "--to", tmp_path / "my_layer", "--formats", "ts").stdout
    verdict = json.loads((finished[0] / "summary.json").read_text())["verdict"]["line"]
    assert f"verdict: {verdict}" in output
    assert {p.name for p in (tmp_path / "my_layer").iterdir()} == {
        "formula.json", "formula.tex", "my_layer.py", "my_layer.ts.pt", "pyproject.toml", "verify.json",
        "MODEL_CARD.md", "plot.svg", "benchmark.json", "provenance.json", "CITATION.cff",
    }  # fmt: skip
    assert f"seed {json.loads((tmp_path / 'my_layer' / 'provenance.json').read_text())['run']['seed']}" in (tmp_path / "my_layer" / "MODEL_CARD.md").read_text()
    assert json.loads((tmp_path / "my_layer" / "formula.json").read_text())["verdict"] == verdict
    output = evosearch("export", "--formula", "evonorm_b0", "--to", tmp_path / "b0", "--name", "evo_b0").stdout
    assert "no ts file: the layer keeps a value per channel, and a TorchScript file holds a fixed number of them: pass --features N" in output
    text = (tmp_path / "b0" / "evo_b0.py").read_text()
    assert "import evosearch" not in text
    assert "class EvoB0(nn.Module)" in text
    assert "weight: channel" in text
    assert "holds other things" in refused("export", "--formula", "sin(x)", "--to", tmp_path)
    assert "--formats takes py,ts," in refused("export", "--formula", "sin(x)", "--to", tmp_path / "other", "--formats", "tflite")
    assert "identifier" in refused("export", "--formula", "sin(x)", "--to", tmp_path / "a-b")


def test_files_that_are_folders_edits_and_torn_lines_are_said_by_every_command(finished, tmp_path):
    for name in ("run.yaml", "journal.jsonl", "results/part-000000.parquet", "status.json", "summary.json"):
        directory = tmp_path / name.replace("/", "-")
        shutil.copytree(finished[0], directory)
        (directory / name).unlink()
        (directory / name).mkdir()
        for command in (["resume"], ["top"], ["export", "--best", "--to", tmp_path / "layer"]):
            message = refused(command[0], directory, *command[1:])
            assert f"{directory / name} is a folder where a file belongs; move it away" in message
    directory = tmp_path / "edited"
    shutil.copytree(finished[0], directory)
    file = directory / "run.yaml"
    before = file.read_text()
    file.write_text(before.replace("max_nodes: 8", "max_nodes: 9"))
    for command in ("resume", "top"):
        assert "run.yaml is damaged or was edited" in refused(command, directory)
    file.write_text(before)
    with open(directory / "journal.jsonl", "ab") as journal:
        journal.write(b"0123")
    assert "note: the last line of" in evosearch("top", directory).stdout
    assert "dropped a torn last line of 4 bytes" in evosearch("resume", directory).stdout
    assert "note:" not in evosearch("top", directory).stdout


def test_an_export_that_cannot_be_is_one_line(tmp_path):
    assert "/proc/x/lay cannot be written" in refused("export", "--formula", "sin(x)", "--to", "/proc/x/lay")
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/lay cannot be written" in refused("export", "--formula", "sin(x)", "--to", tmp_path / "file" / "lay")
    assert "`x / 0` is finite nowhere" in refused("export", "--formula", "x / 0", "--to", tmp_path / "layer")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_evaluate_refuses_before_it_trains_and_fails_where_nothing_was_measured():
    assert "`gpu` is not there" in refused("evaluate", "sin(x)", "--task", "digits", "--device", "gpu")
    assert "at least 1 step" in refused("evaluate", "sin(x)", "--task", "digits", "--steps", 0)
    assert "has a gate y" in refused("evaluate", "swiglu", "--task", "digits")
    assert "`digits/mlp` stands here twice" in refused("evaluate", "sin(x)", "--task", "digits,digits/mlp")
    broken = ["evaluate", "exp(exp(x))", "--task", "digits/mlp.16", "--against", "relu", "--seeds", 2, "--steps", 2, "--executor", "serial"]
    done = evosearch(*broken, "--json", check=False)
    assert done.returncode == 2
    assert "every training of `exp(exp(x))` failed: " in done.stderr
    assert json.loads(done.stdout)["measured"][0]["name"] == "relu"
    assert "license" not in done.stderr


def test_what_is_trained_on_and_its_license_are_said_once_before(finished, tmp_path):
    digits = "task digits: 8x8 handwritten digits (scikit-learn); license: UCI optical digits, by way of scikit-learn: CC BY 4.0"
    photo = "task photo: colors of a photograph (scikit-image) from coordinates; license: "
    photo += "scikit-image astronaut (NASA, public domain), coffee and chelsea (CC0)"
    pairs = "digits/mlp.16,photo/inr.16,digits/deep-mlp.8"
    done = evosearch("evaluate", "sin(x)", "--task", pairs, "--against", "relu", "--seeds", 2, "--steps", 2, "--executor", "serial")
    assert done.stderr.splitlines() == [digits, photo]
    assert "license" not in done.stdout
    assert finished[2].splitlines() == [digits, photo]
    shutil.copytree(finished[0], tmp_path / "run")
    again = evosearch("verify", tmp_path / "run", "--seeds", 3, "--workers", 2)
    assert again.stderr.splitlines() == [digits, photo]


def test_explain_tasks_operators_library():
    assert "evonorm_s0" in evosearch("explain", "x * sigmoid(v * x) / std(x, group) where v: channel = 1").stdout
    assert "x * sigmoid(v0 * x)" in evosearch("explain", "swish").stdout
    assert "-tanh(x)" in evosearch("explain", "-tanh(x)").stdout
    assert "did you mean `swish`" in refused("explain", "swosh")
    assert "0.5, 0.5 where a = b" in evosearch("operators").stdout
    assert "arXiv 1908.08681" in evosearch("library", "mish").stdout
    assert "crelu_concat" in evosearch("library", "--unsayable").stdout
    assert "lower" in evosearch("tasks").stdout
    assert evosearch("--version").stdout.startswith("evosearch ")
    assert evosearch("--help").stdout.count("...") == 1  # [ARGS]...; no summary is cut


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(f"{sys.executable} -m evosearch.cli library | head -1", shell=True, capture_output=True, text=True, timeout=60)
    assert not done.stderr


def test_plugins_are_read_before_the_formula(tmp_path):
    (tmp_path / "ops.py").write_text(
        "from evosearch.language.operators import Operator\n"
        "OPERATORS = [Operator('swirl', 1, '{a} * torch.sin({a})', 'a * sin(a)', 'a * sin(a)', ('sin(a) + a * cos(a)',), 7, 'swirl({a})')]\n"
    )
    assert "swirl(x)" in evosearch("explain", "swirl(x)", "--plugin", tmp_path / "ops.py").stdout
    assert "is not there" in refused("explain", "x", "--plugin", tmp_path / "none.py")
