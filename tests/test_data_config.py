"""`data: {name: path}` in a configuration: read before the pairs, by the YAML's folder, and what is wrong is one line with its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evosearch.config import ConfigError, load, read_run_file, run_file
from evosearch.judging.objectives import TASKS
from evosearch.run import files_of, plan_of
from tests.datafiles import forgotten_tasks, pictures, points, write_csv, write_images

SPACE = """space: {operators: [add, mul, tanh, sin], max_nodes: 6}
data:
  mine: folder/a.csv
judging:
  quality: {pairs: [mine/mlp.8], steps: 3, rates: [1]}
  full: {pairs: [mine/mlp.8], steps: 3, rates: [1], seeds: 2}
  final: {pairs: [mine/deep-mlp.8], steps: 3, rates: [1], seeds: 2}
baselines: [identity, relu]
proposers: {random: 1}
budget: {evaluations: 5}
"""


@pytest.fixture(autouse=True)
def forget():
    with forgotten_tasks():
        yield


@pytest.fixture
def space(tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    write_csv(tmp_path / "folder" / "a.csv", *points())
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "space.yaml"


def test_a_path_is_relative_to_the_yaml_file_and_is_described(space, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    config = load(str(space))
    (file,) = files_of(config)
    assert (file.name, file.path, file.targets, file.inputs) == ("mine", str(space.parent / "folder" / "a.csv"), "classes", "rows")
    assert len(file.sha256) == 64
    assert plan_of(config).data == (file,)
    assert config.judging.pairs == ["mine/deep-mlp.8", "mine/mlp.8"]


def test_a_path_on_the_command_line_is_relative_to_where_one_is(space, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_csv(elsewhere / "b.csv", *points(seed=1))
    monkeypatch.chdir(elsewhere)
    for override in ("data.mine=b.csv", "data={mine: b.csv}"):
        assert load(str(space), [override]).data["mine"].path == str(elsewhere / "b.csv")


def test_a_run_file_needs_no_data_to_be_read(space):
    config = load(str(space))
    (space.parent / "folder" / "a.csv").unlink()
    TASKS.pop("mine")
    assert read_run_file(run_file(config, {"torch": "2"}), "run.yaml", lambda recorded: None)[0] == config
    assert TASKS["mine"].architectures == ("mlp", "deep-mlp")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("folder/a.csv", "folder/b.csv", r"space.yaml:3: `data.mine`: .*folder/b.csv: there is no such file"),
     ("folder/a.csv", "space.yaml", r"space.yaml:3: `data.mine`: .*data is a .npz, .csv or .parquet file"),
     ("folder/a.csv", "3", r"space.yaml:3: `data.mine` is the path of a file or folder; received 3"),
     ("folder/a.csv", "{path: folder/a.csv}", r"space.yaml:3: `data.mine.sha256` is missing"),
     ("folder/a.csv", "{path: a, sha256: b, targets: classes, inputs: rows, kind: c}", r"`data.mine.sha256`: string should match"),
     ("  mine: folder/a.csv", "  - folder/a.csv", r"`data`: input should be a valid dictionary"),
     ("  mine: folder/a.csv", "  digits: folder/a.csv", r"`data`: there is a task `digits` already"),
     ("  mine: folder/a.csv", "  my/own: folder/a.csv", r"`data`: a task's name is letters"),
     ("  mine: folder/a.csv", "  mine: folder/a.csv\n  other: folder/a.csv", r"data: `other` is in no pair; name it in one, as in other/mlp"),
     ("mine/deep-mlp", "mine/resnet", r"space.yaml:7: .*unknown architecture `resnet` for mine; there are mlp, deep-mlp"),
     ("mine/deep-mlp", "minne/mlp", r"did you mean `mine`")],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(space, old, new, message):
    space.write_text(SPACE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        load(str(space))
    assert "\n" not in str(caught.value)


def test_bad_data_is_said_with_the_line(space):
    file = space.parent / "folder" / "a.csv"
    file.write_text(file.read_text().replace("\n", "\nnan", 1))
    with pytest.raises(ConfigError, match=r"space.yaml:3: `data.mine`: .*a.csv: "):
        load(str(space))
    with pytest.raises(ConfigError, match=r"^--set data.mine=none.csv: `data.mine`: none.csv: there is no such file"):
        load(str(space), ["data.mine=none.csv"])


def test_images_have_the_architectures_of_images(space):
    write_images(space.parent / "pets", *pictures())
    config = load(str(space), [f"data.mine={space.parent / 'pets'}", "judging.final.pairs=[mine/resnet.8]"])
    assert config.data["mine"].inputs == "images"


def test_the_configuration_half_reads_data_without_torch(space):
    code = f"import sys\nfrom evosearch.config import load\nload({str(space)!r})\nassert not {{'torch', 'sympy', 'ray'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
