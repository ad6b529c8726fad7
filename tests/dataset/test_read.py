"""Data files of a user's: what was written is read as it was."""

from __future__ import annotations

import hashlib
import os
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from evosearch.dataset.read import read
from tests.datafiles import ROWS, pictures, points, write_cifar, write_csv, write_images, write_npz, write_parquet


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.csv", write_csv), ("a.parquet", write_parquet), ("a.npz", lambda path, x, y: write_npz(path, x=x, y=y))],
    ids=["csv", "parquet", "npz"],
)
def test_rows_and_classes_are_read_as_they_were_written(tmp_path, name, write):
    x, y = points()
    table = read(write(tmp_path / name, x, y))
    assert np.array_equal(table.inputs, x)
    assert np.array_equal(table.targets, y)
    assert (table.kind, table.shape, table.classes) == ("classes", "rows", ("0", "1"))


@pytest.mark.parametrize(
    ("y", "classes"),
    [(np.array(["dog", "cat", "eel"] * 20), ("cat", "dog", "eel")), (np.array([b"dog", b"cat"] * 30), ("cat", "dog")),
     (np.array([True, False] * 30), ("False", "True")), (np.array([7, -3, 12] * 20, dtype=np.int8), ("-3", "7", "12")),
     (np.array([[1], [0]] * 30), ("0", "1"))],
    ids=["text", "bytes", "truth", "whole", "column"],
)  # fmt: skip
def test_classes_are_numbered_by_the_order_of_their_values(tmp_path, y, classes):
    table = read(write_npz(tmp_path / "a.npz", x=points()[0], y=y))
    assert table.classes == classes
    names = [value.decode() if isinstance(value, bytes) else str(value) for value in y.reshape(-1)]
    assert [table.classes[k] for k in table.targets] == names


def test_parquet_of_pandas_kinds(tmp_path):
    x, y = points()
    labels = pa.array(["no", "yes"]).take(pa.array(y)).dictionary_encode()
    pq.write_table(pa.table({"a": x[:, 0].astype(np.float32), "label": labels, "b": y.astype(bool)}), tmp_path / "a.parquet")
    table = read(tmp_path / "a.parquet")
    assert (table.columns, table.target, table.classes) == (("a", "b"), "label", ("no", "yes"))
    assert np.array_equal(table.inputs[:, 1], y)


@pytest.mark.parametrize(
    ("header", "target"),
    [(["a", "b", "c"], "c"), (["Label", "a", "b"], "Label"), (["a", "y", "b"], "y"), (["x", "y", "label"], "label"), (["y", "label", "target"], "target")],
)
def test_the_target_is_the_column_of_that_name_or_the_last(tmp_path, header, target):
    lines = [",".join(str(k * 10 + j if name != target else k % 2) for j, name in enumerate(header)) for k in range(ROWS)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(header), *lines]))
    table = read(tmp_path / "a.csv")
    assert table.target == target
    assert table.columns == tuple(name for name in header if name != target)
    assert table.targets.tolist() == [k % 2 for k in range(ROWS)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_folder_of_images_by_class(tmp_path, channels):
    x, y = pictures(channels=channels)
    write_images(tmp_path / "pets", x, y)
    (tmp_path / "pets" / "README").write_text("beside the classes")
    (tmp_path / "pets" / "class0" / ".DS_Store").write_text("")
    table = read(tmp_path / "pets")
    order = np.argsort(y, kind="stable")
    assert table.classes == ("class0", "class1")
    assert np.array_equal(table.inputs, x[order])
    assert np.array_equal(table.targets, y[order])
    assert (table.shape, table.inputs.dtype) == ("images", np.uint8)


def test_jpeg_palettes_and_black_and_white(tmp_path):
    x, y = pictures(channels=1)
    write_images(tmp_path / "a", np.full_like(x, 90), y, suffix=".jpg")
    assert np.abs(read(tmp_path / "a").inputs.astype(int) - 90).max() <= 1
    for mode, channels in (("P", 3), ("1", 1)):
        for k in range(ROWS):
            (tmp_path / mode / str(k % 2)).mkdir(parents=True, exist_ok=True)
            Image.new(mode, (4, 4), k % 2).save(tmp_path / mode / str(k % 2) / f"{k}.png")
        assert read(tmp_path / mode).inputs.shape == (ROWS, channels, 4, 4)


def test_images_in_npz(tmp_path):
    x, y = pictures()
    assert np.array_equal(read(write_npz(tmp_path / "a.npz", x=x, y=y)).inputs, x)
    gray = read(write_npz(tmp_path / "b.npz", x=x[:, 0], y=y))
    assert (gray.inputs.shape, gray.shape) == ((ROWS, 1, 12, 12), "images")


def test_the_hash_is_that_of_sha256sum(tmp_path):
    file = write_csv(tmp_path / "a.csv", *points())
    assert read(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    folder = write_images(tmp_path / "pets", *pictures())
    listed = subprocess.run(
        "sha256sum */*.png | sha256sum", shell=True, cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=True
    )
    assert listed.stdout.split()[0] == read(folder).sha256
    before = read(folder).sha256
    (folder / "class0" / "000.png").rename(folder / "class1" / "999.png")
    assert read(folder).sha256 != before


def test_floats_are_a_regression_whatever_their_values(tmp_path):
    x, y = points()
    table = read(write_npz(tmp_path / "a.npz", x=x, y=y.astype(np.float32)))
    assert (table.kind, table.targets.shape) == ("numbers", (ROWS, 1))
    table = read(write_csv(tmp_path / "a.csv", x, [f"{v:.1f}" for v in x[:, 0] * 9]))
    assert table.kind == "numbers"


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar_keeps_its_own_test_part(tmp_path, labels):
    x, y = pictures(size=32)
    table = read(write_cifar(tmp_path / "cifar", x, y, labels))
    assert np.array_equal(table.inputs, x[:40])
    assert np.array_equal(table.targets, y[:40])
    assert np.array_equal(table.test[0], x[40:])
    assert np.array_equal(table.test[1], y[40:])
    assert table.form == ("cifar-10", "cifar-100")[labels - 1]


finite = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: float(np.float32(v)))


@given(x=hnp.arrays(np.float64, st.tuples(st.integers(20, 40), st.integers(1, 4)), elements=finite), y=st.integers(0, 2**32))
@settings(max_examples=25)
def test_one_table_in_three_formats_is_one_table(tmp_path_factory, x, y):
    folder = tmp_path_factory.mktemp("formats")
    labels = np.random.default_rng(y).permutation(len(x)) % 2
    found = [read(write(folder / name, x, labels)) for name, write in {"a.csv": write_csv, "a.parquet": write_parquet}.items()]
    found.append(read(write_npz(folder / "a.npz", x=x, y=labels)))
    for table in found:
        assert np.array_equal(table.inputs, x)
        assert np.array_equal(table.targets, labels)
