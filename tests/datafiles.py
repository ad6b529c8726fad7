"""Small data files for tests, and a table of tasks that forgets them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evosearch.judging import objectives, tasks

ROWS = 60


@contextmanager
def forgotten_tasks() -> Iterator[None]:
    """What is registered inside is gone afterwards."""
    measures, own = dict(objectives.TASKS), dict(tasks._own)
    yield
    for table, before in ((objectives.TASKS, measures), (tasks._own, own)):
        table.clear()
        table.update(before)


def points(rows=ROWS, columns=3, seed=0):
    """Rows of numbers, and the class `0` or `1` that their sum says."""
    x = np.random.default_rng(seed).normal(size=(rows, columns))
    return x, (x.sum(1) > 0).astype(np.int64)


def pictures(count=ROWS, channels=3, size=12, seed=0):
    """Bytes `(N, C, size, size)` and classes 0 and 1."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, size=(count, channels, size, size), dtype=np.uint8), np.arange(count) % 2


def write_csv(path: Path, x, y, header=None) -> Path:
    names = header or [*(f"c{k}" for k in range(x.shape[1])), "target"]
    lines = [",".join(names), *(",".join([*(repr(float(v)) for v in row), str(label)]) for row, label in zip(x, y, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def write_parquet(path: Path, x, y) -> Path:
    pq.write_table(pa.table({**{f"c{k}": x[:, k] for k in range(x.shape[1])}, "target": y}), path)
    return path


def write_images(path: Path, x, y, suffix=".png") -> Path:
    for k, (image, label) in enumerate(zip(x, y, strict=True)):
        (path / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path / f"class{label}" / f"{k:03}{suffix}")
    return path


def write_cifar(path: Path, x, y, labels=1, train=40) -> Path:
    """The first `train` images as training files (two of CIFAR-10), the others as the test file."""
    path.mkdir(exist_ok=True)
    records = [bytes(([7] if labels == 2 else []) + [int(label)]) + image.tobytes() for image, label in zip(x, y, strict=True)]
    names = {"data_batch_1.bin": (0, train // 2), "data_batch_2.bin": (train // 2, train), "test_batch.bin": (train, None)}
    for name, (first, last) in (names if labels == 1 else {"train.bin": (0, train), "test.bin": (train, None)}).items():
        (path / name).write_bytes(b"".join(records[first:last]))
    return path
