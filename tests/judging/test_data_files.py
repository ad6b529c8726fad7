"""Data files of a user's: what was written is read, what is bad is one line, and no row is in two regions."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from evosearch.dataset import arrays, images, source, tables
from evosearch.dataset.read import check_unchanged, data_file, read
from evosearch.dataset.source import DataError
from evosearch.dataset.table import Table, checked
from evosearch.delivery.inspection import inspect, warnings
from evosearch.job import Job
from evosearch.judging.evaluate import Plan, Stage, worker
from evosearch.judging.objectives import TASKS
from evosearch.judging.tasks import task
from evosearch.judging.tasks.files import data_of, install, regions
from evosearch.judging.tasks.supervised import RATES
from tests.datafiles import ROWS, forgotten_tasks, pictures, points, write_cifar, write_csv, write_images, write_npz, write_parquet


@pytest.fixture(autouse=True)
def forget():
    with forgotten_tasks():
        yield


def failing(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path)[-160:] in text
    assert "\n" not in text
    assert len(text) < 700
    return text


# ---- what was written is read


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


def test_floats_are_a_regression_whatever_their_values(tmp_path):
    x, y = points()
    table = read(write_npz(tmp_path / "a.npz", x=x, y=y.astype(np.float32)))
    assert (table.kind, table.targets.shape) == ("numbers", (ROWS, 1))
    assert any("floats of 2 whole values" in text for text in warnings(table))
    both = read(write_npz(tmp_path / "b.npz", x=x, y=x[:, :2] * 3))
    assert data_of(both, "b", "numbers").outputs == 2
    table = read(write_csv(tmp_path / "a.csv", x, [f"{v:.1f}" for v in x[:, 0] * 9]))
    assert table.kind == "numbers"


@pytest.mark.parametrize("kind", [np.float16, ">f8", "<f4", ">i4", np.bool_, np.uint8, np.int64])
def test_any_numbers_are_inputs(tmp_path, kind):
    x = (points()[0] * 10).clip(0).astype(kind)
    data = data_of(read(write_npz(tmp_path / "a.npz", x=x, y=points()[1])), "a", "classes")
    assert data.train[0].dtype == torch.float32


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


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar_keeps_its_own_test_part(tmp_path, labels):
    x, y = pictures(size=32)
    table = read(write_cifar(tmp_path / "cifar", x, y, labels))
    assert np.array_equal(table.inputs, x[:40])
    assert np.array_equal(table.targets, y[:40])
    assert np.array_equal(table.test[0], x[40:])
    assert np.array_equal(table.test[1], y[40:])
    assert table.form == ("cifar-10", "cifar-100")[labels - 1]
    train, validation, test = regions(table)
    assert (len(train[0]), len(validation[0])) == (34, 6)
    assert np.array_equal(test[0], x[40:])


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


# ---- regions

finite = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: float(np.float32(v)))


@given(seed=st.integers(0, 2**32), rows=st.integers(20, 60), columns=st.integers(1, 4), distinct=st.integers(1, 60))
@settings(max_examples=50)
def test_every_row_is_in_one_region_and_equal_rows_in_the_same(seed, rows, columns, distinct):
    x = np.random.default_rng(seed).normal(size=(distinct, columns)).round(1)[np.arange(rows) % distinct] + 0.0
    try:
        parts = regions(checked(Table(x, np.arange(rows) % 2)))
    except DataError:
        assert len(np.unique(x, axis=0)) < 10
        return
    assert sorted(row.tobytes() for part, _ in parts for row in part) == sorted(row.tobytes() for row in x)
    kept = [{row.tobytes() for row in part} for part, _ in parts]
    assert not kept[0] & kept[1] | kept[0] & kept[2] | kept[1] & kept[2]
    if sum(map(len, kept)) == rows:  # no row repeats
        assert [len(part) for part, _ in parts] == [round(0.7 * rows), round(0.85 * rows) - round(0.7 * rows), rows - round(0.85 * rows)]


@given(rows=st.integers(40, 60), columns=st.integers(1, 3), seed=st.integers(0, 2**32), center=st.sampled_from([0.0, 1e3, 1.7e9]))
@settings(max_examples=30)
def test_every_column_has_mean_0_and_deviation_1_in_training(rows, columns, seed, center):
    x = np.random.default_rng(seed).normal(size=(rows, columns)) + center
    x[:, 0] *= 1e-12 if center == 0.0 else 1.0
    data = data_of(checked(Table(x, np.arange(rows) % 2)), "a", "classes")
    assert torch.allclose(data.train[0].mean(0), torch.zeros(columns), atol=1e-5)
    assert torch.allclose(data.train[0].std(0, correction=0), torch.ones(columns), atol=1e-5)


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


def test_rows_that_hardly_differ_leave_regions_empty(tmp_path):
    x, y = points()
    with pytest.raises(DataError, match="too few of 60 differ: the regions would have 60, 0, 0 rows"):
        regions(read(write_csv(tmp_path / "a.csv", np.ones_like(x), y)))


# ---- what is bad is one line

SOUND, LABELS = points()


def replaced(value, at=(3, 1)):
    x = SOUND.copy()
    x[at] = value
    return x


BAD_ARRAYS = {
    "nan": ({"x": replaced(np.nan)}, "inputs hold 1 NaN or infinite values; fill or drop"),
    "infinity": ({"x": replaced(-np.inf)}, "inputs hold 1 NaN or infinite"),
    "nan target": ({"y": np.full(ROWS, np.nan)}, "targets hold 60 NaN or infinite"),
    "too large": ({"x": replaced(1e200)}, "go up to 1e+200, at most 1e+30; scale"),
    "one class": ({"y": np.zeros(ROWS, int)}, "the one class `0`; there is nothing to learn"),
    "one number": ({"y": np.full(ROWS, 2.5)}, "all targets are 2.5; there is nothing to learn"),
    "no rows": ({"x": SOUND[:0], "y": LABELS[:0]}, "at least 20 rows are needed; received 0"),
    "few rows": ({"x": SOUND[:19], "y": LABELS[:19]}, "received 19"),
    "no columns": ({"x": SOUND[:, :0]}, "received (60, 0)"),
    "objects": ({"x": SOUND.astype(object)}, "holds Python objects, which are not read"),
    "object targets": ({"y": LABELS.astype(object)}, "`y` holds Python objects"),
    "complex": ({"x": SOUND.astype(complex)}, "is complex128, not numbers"),
    "dates": ({"y": LABELS.astype("datetime64[s]")}, "datetime64"),
    "text inputs": ({"x": SOUND.astype(str)}, "encode text as numbers"),
    "structured": ({"y": np.zeros(ROWS, dtype=[("a", int)])}, "encode it as numbers"),
    "lengths": ({"y": LABELS[:-1]}, "received 60 inputs and 59 targets"),
    "flat": ({"x": SOUND[:, 0]}, "received (60,)"),
    "deep": ({"x": np.zeros((ROWS, 1, 2, 3, 4))}, "received (60, 1, 2, 3, 4)"),
    "colors last": ({"x": np.zeros((ROWS, 8, 8, 3))}, "x.transpose(0, 3, 1, 2)"),
    "one-hot": ({"y": np.eye(2, dtype=int)[LABELS]}, "classes (N,)"),
    "too many classes": ({"y": np.arange(ROWS)}, "60 different values in 60 rows, too many for classes"),
    "half a test part": ({"x_test": SOUND}, "both x_test and y_test or neither"),
    "another test shape": ({"x_test": SOUND[:, :2], "y_test": LABELS}, "received (60, 3) and (60, 2)"),
    "another test kind": ({"x_test": SOUND, "y_test": LABELS + 0.5}, "y and y_test are of one kind"),
    "bad test part": ({"x_test": replaced(np.nan), "y_test": LABELS}, "the test part: the inputs hold 1 NaN"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays(tmp_path, name):
    changed, message = BAD_ARRAYS[name]
    assert message in failing(write_npz(tmp_path / "bad.npz", **{"x": SOUND, "y": LABELS, **changed}))


def test_an_archive_without_x_and_y_or_that_is_none(tmp_path):
    assert "received x_train, y_train: rename them" in failing(write_npz(tmp_path / "a.npz", x_train=SOUND, y_train=LABELS))
    (tmp_path / "b.npz").write_bytes(b"hello")
    assert "cannot be read as npz: File is not a zip file; is the file whole" in failing(tmp_path / "b.npz")


class _Mark:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_nothing_is_unpickled(tmp_path):
    hostile = np.array([_Mark(str(tmp_path / "was_here"))] * ROWS, dtype=object)
    np.savez(tmp_path / "a.npz", x=SOUND, y=hostile)
    assert "Python objects" in failing(tmp_path / "a.npz")
    assert not (tmp_path / "was_here").exists()


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MOST_VALUES", 10_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *given: pytest.fail("unpacked"))
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((ROWS, 1000)), y=LABELS)
    assert (tmp_path / "a.npz").stat().st_size < 2000
    assert "at most 10000 values; `x` (60, 1000) unpacks to" in failing(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(10**11, 3), (ROWS, 10**7), (2**40, 2**40)])
def test_a_header_that_promises_more_than_there_is(tmp_path, shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue() + b"0" * 80)
        archive.writestr("y.npy", stream.getvalue())
    text = failing(tmp_path / "a.npz")
    assert "it is cut short" in text or "at most" in text


BAD_TEXTS = {
    "": "Empty CSV file",
    "a,b\n": "the table has no rows",
    "a,a,b\n1,2,3\n": "two columns are named `a`; rename one",
    "a\n1\n2\n": "received a",
    "a;b\n1;2\n": "separated by commas; the first line is `a;b`",
    "1,2\n3,4\n": "begins with a line of column names",
    "a,b\n1,2\n3\n": "Expected 2 columns, got 1",
    "a,b\n1,0\n,1\n": "the column `a` has 1 empty cells or NaN",
    "a,b\n1,0\nNaN,1\n": "the column `a` has 1 empty cells or NaN",
    "a,b\n1,0\n1,\n": "the column `b` has 1 empty cells or NaN",
    "a,b\n1,cat\n1,\n": "is text of 1 to 200 characters; received ``",
    "a,b\nred,0\nblue,1\n": "the column `a` is string, not numbers",
    "a,b\n2020-01-01,0\n2020-01-02,1\n": "the column `a` is date32[day], not numbers",
    "a,b\n1,2020-01-01\n1,2020-01-02\n": "the target `b` is date32[day]",
    "a,b\ninf,0\n1,1\n" + "1,1\n" * 20: "inputs hold 1 NaN or infinite",
    "a,b\n" + "1,1\n" * 20 + "x,1\n": "the column `a` is string",
}


@pytest.mark.parametrize("text", BAD_TEXTS, ids=range(len(BAD_TEXTS)))
def test_bad_tables(tmp_path, text):
    (tmp_path / "bad.csv").write_text(text)
    assert BAD_TEXTS[text] in failing(tmp_path / "bad.csv")


def test_text_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes("a,b\n1,\xe9\n".encode("latin-1") * 30)
    failing(tmp_path / "a.csv")


def test_bad_parquet(tmp_path, monkeypatch):
    pq.write_table(pa.table({"a": [[1.0]] * ROWS, "y": LABELS}), tmp_path / "a.parquet")
    assert "`a` is list" in failing(tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [None] + [1.0] * (ROWS - 1), "y": LABELS}), tmp_path / "b.parquet")
    assert "`a` has 1 empty cells" in failing(tmp_path / "b.parquet")
    monkeypatch.setattr(tables, "MOST_VALUES", 100)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *given: pytest.fail("read"))
    pq.write_table(pa.table({"a": np.zeros(ROWS), "y": LABELS}), tmp_path / "c.parquet")
    assert "at most 100 values; received 60 rows of 2 columns" in failing(tmp_path / "c.parquet")


def test_bad_folders_of_images(tmp_path, monkeypatch):
    x, y = pictures()
    sound = write_images(tmp_path / "pets", x, y)
    last = sound / "class1" / "999.png"
    Image.new("RGB", (9, 12)).save(last)
    assert "`class0/000.png` is 12x12 of 3 colors and `class1/999.png` is 9x12 of 3 colors: resize them" in failing(sound)
    Image.new("L", (12, 12)).save(last)
    assert "is 12x12 of 1 colors" in failing(sound)
    Image.new("CMYK", (12, 12)).save(last.with_suffix(".jpg"))
    last.unlink()
    assert "`class1/999.jpg` has the colors CMYK" in failing(sound)
    last.with_suffix(".jpg").unlink()
    last.write_bytes((sound / "class0" / "000.png").read_bytes()[:200])
    assert "`class1/999.png` is not a whole .png or .jpg" in failing(sound)
    last.unlink()
    (sound / "class1" / "notes.txt").write_text("")
    assert "received `class1/notes.txt`" in failing(sound)
    (sound / "class1" / "notes.txt").unlink()
    (sound / "class2").mkdir()
    assert "the class `class2` is empty" in failing(sound)
    assert "at least two; received 0 (none)" in failing(sound / "class0")
    (sound / "class2").rmdir()
    monkeypatch.setattr(images, "MOST_VALUES", 1000)
    monkeypatch.setattr(Image.Image, "convert", lambda *given: pytest.fail("unpacked"))
    assert "at most 1000 values; received 60 images, one of 12x12" in failing(sound)


def test_bad_cifar(tmp_path):
    x, y = pictures(size=32)
    folder = write_cifar(tmp_path / "cifar", x, y)
    file = folder / "data_batch_2.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert f"`data_batch_2.bin` holds records of 3073 bytes; received {len(whole) - 1} bytes: it is cut short" in failing(folder)
    file.write_bytes(b"\x0a" + whole[1:])
    assert "labels run from 0 to 9; received 10 in data_batch_1.bin, data_batch_2.bin" in failing(folder)
    file.write_bytes(b"")
    assert "received 0 bytes" in failing(folder)
    file.write_bytes(whole)
    (folder / "test_batch.bin").unlink()
    assert "`test_batch.bin` is missing" in failing(folder)


def test_what_is_no_file_or_folder(tmp_path):
    assert "there is no such file or folder" in failing(tmp_path / "none.csv")
    assert "there is no such file or folder" in failing(tmp_path / ("x" * 100) / "none.csv")
    file = write_csv(tmp_path / "a.csv", *points())
    (tmp_path / "link.csv").symlink_to(file)
    assert f"`link.csv` is a symbolic link, which may come to lead elsewhere; give what it leads to: {file}" in failing(tmp_path / "link.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is a device, pipe or socket" in failing(tmp_path / "pipe.csv")
    assert "is a device, pipe or socket" in failing(Path("/dev/zero"))
    (tmp_path / "a.txt").write_text("a,b\n")
    assert "received `a.txt`" in failing(tmp_path / "a.txt")
    folder = write_images(tmp_path / "pets", *pictures())
    (folder / "class1" / "x.png").symlink_to(folder / "class0" / "000.png")
    assert "`x.png` is a symbolic link" in failing(folder)
    (folder / "class1" / "x.png").unlink()
    (folder / "class3").symlink_to(folder / "class0")
    assert "`class3` is a symbolic link" in failing(folder)


def test_what_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read"))
    with open(tmp_path / "a.csv", "wb") as file:
        file.truncate(source.MOST_BYTES + 1)
    assert "at most 1024 MiB; received 1024 MiB" in failing(tmp_path / "a.csv")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound path of each form, and the file of it to damage."""
    folder, (x, y) = tmp_path_factory.mktemp("sound"), points(30)
    pets, cifar = write_images(folder / "pets", *pictures(30, size=6)), write_cifar(folder / "cifar", *pictures(30, size=32), train=22)
    alone = [write_npz(folder / "a.npz", x=x, y=y), write_csv(folder / "a.csv", x, y), write_parquet(folder / "a.parquet", x, y)]
    return [*((path, path) for path in alone), (pets, pets / "class0" / "000.png"), (cifar, cifar / "test_batch.bin")]


@given(which=st.integers(0, 4), cut=st.floats(0.5, 1.5), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4))
@settings(max_examples=150)
def test_a_damaged_file_is_an_error_of_one_line_or_a_sound_table(sound, which, cut, flips):
    path, file = sound[which]
    whole = file.read_bytes()
    data = bytearray(whole)
    for place, byte in flips:
        data[int(place * len(data))] = byte
    file.write_bytes(data[: int(cut * len(data))])
    said, table = "", None
    try:
        table = read(path)
    except DataError as error:
        said = str(error)
    finally:
        file.write_bytes(whole)
    if table is None:
        assert said
        assert "\n" not in said
    else:
        assert np.isfinite(table.inputs.astype(float)).all()
        assert len(table.inputs) == len(table.targets)


# ---- a file as a task


def installed(path: Path, name: str = "mine"):
    file = data_file(name, path, read(path))
    install([file])
    return file


def plan(file, pair="mine/mlp.8"):
    stage = Stage((pair,), 3, (1.0,), 2)
    return Plan(stage, stage, stage, data=(file,))


def test_a_file_is_a_task_with_default_rates(tmp_path):
    installed(write_csv(tmp_path / "rows.csv", *points()))
    assert TASKS["mine"].architectures == ("mlp", "deep-mlp")
    assert TASKS["mine"].name == "accuracy"
    assert task("mine").rates == {"mlp": RATES["mlp"], "deep-mlp": RATES["deep-mlp"]}
    assert task("mine").what == "the user's rows.csv"
    installed(write_images(tmp_path / "pets", *pictures()), "pets")
    assert set(TASKS["pets"].architectures) == set(RATES)
    x, _ = points()
    installed(write_npz(tmp_path / "c.npz", x=x, y=x[:, :2]), "numbers")
    assert (TASKS["numbers"].name, TASKS["numbers"].direction) == ("R2", 1)


@pytest.mark.parametrize("architecture", RATES)
def test_images_train_on_every_architecture(tmp_path, architecture):
    file = installed(write_images(tmp_path / "pets", *pictures()))
    (result,) = [worker(plan(file, f"mine/{architecture}").to_text())(Job(0, "tanh(x)", 0).to_text())]
    assert '"status":"ok"' in result


def test_a_plan_with_data_travels_as_text(tmp_path):
    sent = plan(installed(write_csv(tmp_path / "a.csv", *points())))
    assert Plan.from_text(sent.to_text()) == sent


def test_a_worker_refuses_a_file_that_differs(tmp_path):
    path = write_csv(tmp_path / "a.csv", *points())
    file = installed(path)
    check_unchanged(file)
    write_csv(path, *points(seed=1))
    for attempt in (lambda: worker(plan(file).to_text()), lambda: check_unchanged(file)):
        with pytest.raises(ValueError, match=f"a.csv: its content has changed since .*SHA-256 {file.sha256[:12]}, now {read(path).sha256[:12]}"):
            attempt()
    path.unlink()
    with pytest.raises(ValueError, match=r"the task `mine` failed: DataError: .*a.csv: there is no such file"):
        worker(plan(file).to_text())


def test_a_name_that_is_taken_is_refused_and_a_file_may_replace_a_file(tmp_path):
    path = write_csv(tmp_path / "a.csv", *points())
    for name, message in (("digits", "there is a task `digits` already"), ("no good", "a task's name is letters")):
        with pytest.raises(ValueError, match=message):
            installed(path, name)
    installed(path)
    x, _ = points()
    installed(write_npz(tmp_path / "b.npz", x=x, y=x[:, 0]))
    assert TASKS["mine"].name == "R2"
    assert task("mine").load("").outputs == 1


# ---- what one should know of it


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
    assert "the column `c2` numbers the rows" in "\n".join(warnings(read(write_csv(tmp_path / "a.csv", x, y))))


def test_a_test_part_that_training_has_seen_is_said(tmp_path):
    x, y = points(300)
    path = write_npz(tmp_path / "a.npz", x=x, y=y, x_test=np.concatenate([x[:7], x[100:200] + 9]), y_test=np.concatenate([y[:7], y[100:200]]))
    assert warnings(read(path)) == (
        "7 of 407 rows repeat the inputs of another",
        "7 of 107 test rows stand in training or validation too: the test score flatters",
    )


def test_sound_data_has_no_warnings(tmp_path):
    assert warnings(read(write_csv(tmp_path / "a.csv", *points(1000)))) == ()
