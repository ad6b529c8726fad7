"""Data files of a user's that are not sound: one line that says what is wrong, and nothing is unpacked or unpickled before."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evosearch.dataset import arrays, images, source, tables
from evosearch.dataset.read import read
from evosearch.dataset.source import DataError
from tests.datafiles import ROWS, pictures, points, write_cifar, write_csv, write_images, write_npz, write_parquet


def failing(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path)[-160:] in text
    assert "\n" not in text
    assert len(text) < 700
    return text


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
