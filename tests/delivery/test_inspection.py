"""What is said of a data file before it is trained on: counts, and what may mislead."""

from __future__ import annotations

import numpy as np

from evosearch.dataset.read import read
from evosearch.delivery.inspection import inspect, warnings
from evosearch.judging.tasks.files import regions
from tests.datafiles import points, write_csv, write_npz


def warned(table):
    return warnings(table, regions(table))


def test_inspection_counts_and_warns(tmp_path):
    x, _ = points(200, 4)
    x[:, 1], x[:, 2] = 5.0, np.arange(200)
    y = np.array(["rare"] * 4 + ["common"] * 196)
    x[100:110] = x[90]
    table = read(write_csv(tmp_path / "a.csv", x, y))
    found = inspect(table, "a.csv")
    assert found.rows["train"] + found.rows["validation"] + found.rows["test"] == 200
    assert found.targets == {"kind": "classes", "column": "target", "classes": {"common": 196, "rare": 4}}
    said = "\n".join(found.warnings)
    for text in (
        "the test part has ", "10 of 200 rows repeat the inputs", "the class common is 98 % of the rows",
        "1 of 2 classes have fewer than 10 rows: `rare`", "1 columns are constant in training: `c1`",
    ):  # fmt: skip
        assert text in said
    assert "numbers the rows" not in said  # the repeated rows break the count
    x[:, 2] = np.arange(200)
    assert "the column `c2` numbers the rows" in "\n".join(warned(read(write_csv(tmp_path / "a.csv", x, y))))


def test_a_test_part_that_training_has_seen_is_said(tmp_path):
    x, y = points(300)
    path = write_npz(tmp_path / "a.npz", x=x, y=y, x_test=np.concatenate([x[:7], x[100:200] + 9]), y_test=np.concatenate([y[:7], y[100:200]]))
    assert warned(read(path)) == (
        "7 of 407 rows repeat the inputs of another",
        "7 of 107 test rows stand in training or validation too: the test score flatters",
    )


def test_sound_data_has_no_warnings(tmp_path):
    assert warned(read(write_csv(tmp_path / "a.csv", *points(1000)))) == ()


def test_floats_that_look_like_classes_are_said(tmp_path):
    x, y = points()
    table = read(write_npz(tmp_path / "a.npz", x=x, y=y.astype(np.float32)))
    assert any("floats of 2 whole values" in text for text in warned(table))
