"""Data files on the command line: inspect, evaluate, and a search that is resumed."""

from __future__ import annotations

import json
import os

import pytest
import torch

from evosearch.cli import main
from tests.datafiles import forgotten_tasks, pictures, points, write_csv, write_images, write_npz
from tests.test_cli import evosearch, refused
from tests.test_data_config import SPACE


@pytest.fixture(autouse=True)
def alone():
    before = torch.get_num_threads()
    with forgotten_tasks():
        yield
    torch.set_num_threads(before)


def printed(capsys, monkeypatch, *arguments) -> str:
    """What a command prints that ends well; in this process, which has torch loaded already."""
    monkeypatch.setattr("sys.argv", ["evosearch", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_inspect_says_what_a_file_holds(tmp_path, capsys, monkeypatch):
    rows = printed(capsys, monkeypatch, "data", "inspect", write_csv(tmp_path / "my rows.csv", *points()))
    for text in (
        "60 rows of 3 columns, float64", "columns   c0, c1, c2", "column `target`: 2 classes (scored by accuracy): 0 ", "train 42, validation 9, test 9",
        "mlp 0.01, deep-mlp 0.01", "warning   the test part has 9 rows", f"--data my-data='{tmp_path}/my rows.csv' --task my-data",
    ):  # fmt: skip
        assert "".join(text.split()) in "".join(rows.split())  # a long path is wrapped
    images = printed(capsys, monkeypatch, "data", "inspect", write_images(tmp_path / "pets", *pictures()))
    assert "60 images of 3x12x12 (colors, height, width), uint8, 0 to 255" in images
    assert "2 classes (scored by accuracy): class0 30 (50 %), class1 30 (50 %)" in images
    x, y = points(200)
    path = write_npz(tmp_path / "a.npz", x=x, y=y + 0.5, x_test=x[:20] + 9, y_test=y[:20] + 0.5)
    numbers = printed(capsys, monkeypatch, "data", "inspect", path)
    assert "".join(f"--data {path} --task a".split()) in "".join(numbers.split())
    assert "numbers, 1 per input (a regression, scored by R2): 0.5 to 1.5" in numbers
    assert "train 170, validation 30, test 20; the test part is the file's own" in numbers


def test_inspect_as_json(tmp_path, capsys, monkeypatch):
    path = write_csv(tmp_path / "a.csv", *points())
    found = json.loads(printed(capsys, monkeypatch, "data", "inspect", path, "--json"))
    assert found["rows"] == {"train": 42, "validation": 9, "test": 9}
    assert found["targets"]["column"] == "target"
    assert sum(found["targets"]["classes"].values()) == 60
    assert len(found["sha256"]) == 64


def test_bad_data_is_one_line_and_exit_code_2(tmp_path):
    assert "none.csv: there is no such file or folder" in refused("data", "inspect", tmp_path / "none.csv")
    path = write_csv(tmp_path / "a.csv", *points())
    path.write_text(path.read_text() + "nan,1,1,1\n")
    assert "the column `c0` has 1 empty cells or NaN" in refused("data", "inspect", path)
    assert "the column `c0` has 1 empty cells or NaN" in refused("evaluate", "sin(x)", "--data", path, "--task", "a")
    same = write_csv(tmp_path / "same.csv", points()[0] * 0, points()[1])
    assert "too few of 60 differ" in refused("data", "inspect", same)
    assert "too few of 60 differ" in refused("evaluate", "sin(x)", "--data", same, "--task", "same")
    assert "Missing command" in refused("data")


def test_evaluate_on_a_file_says_what_it_trains_on(tmp_path, capsys, monkeypatch):
    write_csv(tmp_path / "rows.csv", *points())
    write_csv(tmp_path / "b=c.csv", *points())
    monkeypatch.chdir(tmp_path)
    short = ["--against", "relu", "--seeds", 2, "--steps", 2, "--executor", "serial"]
    said = printed(
        capsys, monkeypatch, "evaluate", "sin(x)", "--data", "rows.csv", "--data", "other=./b=c.csv", "--task", "rows/mlp.8,other/deep-mlp.8", *short
    )
    assert (
        "data rows: 60 rows of 3 columns, 2 classes; train 42, validation 9, test 9; learning rates are defaults that nobody tuned for it: mlp 0.01\n" in said
    )
    assert "data other: " in said
    assert "\n  warning: the test part has 9 rows" in said
    assert "sin(x)                       rows/mlp.8" in said
    said = printed(capsys, monkeypatch, "evaluate", "sin(x)", "--data", "rows.csv", "--task", "rows/mlp.8", "--json", *short)
    assert json.loads(said)["measured"][0]["pair"] == "rows/mlp.8"


def test_evaluate_refuses_names_that_do_not_fit(tmp_path):
    path = write_csv(tmp_path / "digits.csv", *points())
    assert "there is a task `digits` already; give yours another name: --data NAME=PATH" in refused("evaluate", "sin(x)", "--data", path, "--task", "digits")
    assert "--data names the task `a` twice" in refused("evaluate", "sin(x)", "--data", f"a={path}", "--data", f"a={path}", "--task", "a")
    assert "--data a is used by no task" in refused("evaluate", "sin(x)", "--data", f"a={path}", "--task", "digits")
    assert "unknown architecture `resnet` for b" in refused("evaluate", "sin(x)", "--data", f"b={path}", "--task", "b/resnet")


def test_a_search_over_a_csv_and_what_happens_when_it_changes(tmp_path, capsys, monkeypatch):
    (tmp_path / "folder").mkdir()
    file = write_csv(tmp_path / "folder" / "a.csv", *points())
    (tmp_path / "space.yaml").write_text(SPACE)
    run = ["run", tmp_path / "space.yaml", "--out", tmp_path / "run", "--executor", "serial"]
    said = printed(capsys, monkeypatch, *run, "--set", "budget.evaluations=4")
    assert "data mine: 60 rows of 3 columns, 2 classes; train 42, validation 9, test 9; learning rates are defaults" in said
    assert "mine/mlp.8 accuracy [%]" in said
    table = printed(capsys, monkeypatch, "top", tmp_path / "run")
    assert "mine/mlp.8" in table

    sound = file.read_bytes()
    write_csv(file, *points(seed=1))
    for command in (run, ["resume", tmp_path / "run"]):
        message = refused(*command)
        assert f"{file}" in message
        assert "has changed since" in message
        assert "restore it" in message
    assert "has changed since" in refused("verify", tmp_path / "run", "--seeds", 3, "--workers", 1)
    file.unlink()
    assert "there is no such file" in refused("resume", tmp_path / "run")
    assert printed(capsys, monkeypatch, "top", tmp_path / "run") == table  # reading needs no data

    moved = tmp_path / "moved.csv"
    moved.write_bytes(sound)
    printed(capsys, monkeypatch, *run, "--set", f"data.mine={moved}")  # the same content elsewhere goes on
    assert str(moved) in (tmp_path / "run" / "run.yaml").read_text().replace("\n", " ")
    printed(capsys, monkeypatch, "resume", tmp_path / "run")


def test_workers_of_their_own_read_the_file(tmp_path):
    place = os.path.relpath(write_csv(tmp_path / "rows.csv", *points()))
    short = ["--data", place, "--task", "rows/mlp.8", "--against", "relu", "--seeds", 2, "--steps", 2, "--json"]
    serial, local = (json.loads(evosearch("evaluate", "sin(x)", *short, "--executor", name).stdout) for name in ("serial", "local"))
    assert serial["measured"] == local["measured"]
