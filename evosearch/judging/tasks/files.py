"""The user's data files as tasks: regions cut by content, default rates. What `dataset.read` read becomes the same task as `@evosearch.data` makes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from evosearch.dataset.read import read
from evosearch.dataset.source import DataError, DataFile
from evosearch.dataset.table import Array, Table
from evosearch.judging import objectives
from evosearch.judging.tasks import Data, Split, register
from evosearch.judging.tasks.supervised import CUTS, by_content, check, scaled, task_of

BATCH_SIZE = 64


def install(files: Iterable[DataFile]) -> None:
    """Makes each file a task of its name; it is read, and refused if it has changed, when the task's data is first loaded."""
    for file in files:
        objectives.register_file(file.name, file.targets, file.inputs)
        measure = objectives.TASKS[file.name]
        what = f"the user's {Path(file.path).name}"
        register(task_of(file.name, partial(_load, file), measure.architectures, {}, BATCH_SIZE, what, "the user's own"), measure)


@cache
def _load(file: DataFile, variant: str = "") -> Data:
    table = read(Path(file.path), file.sha256)
    return data_of(table, regions(table), file.name, file.targets)


def data_of(table: Table, parts: Iterable[tuple[Array, Array]], name: str, kind: str) -> Data:
    """The table's `regions` as tensors, inputs standardized by the training part. Raises ValueError for regions that cannot be trained on."""
    train, validation, test = (_split(*part) for part in parts)
    train, validation, test = (_single(*part) for part in scaled(train, validation, test))
    outputs = len(table.classes) or table.targets.shape[1]
    return check(Data(train, validation, test, outputs), name, classes=kind == "classes")


def regions(table: Table) -> list[tuple[Array, Array]]:
    """Inputs and targets of training, validation and test. Equal inputs are in one region, but for a test part that the file names itself.

    Raises DataError where a region is left with nothing.
    """
    cuts = CUTS if table.test is None else (CUTS[1],)
    parts = [(table.inputs[rows], table.targets[rows]) for rows in by_content(table.inputs + 0, cuts)]  # + 0: -0.0 is 0.0
    if not all(len(inputs) for inputs, _ in parts):
        sizes = ", ".join(str(len(inputs)) for inputs, _ in parts)
        raise DataError(
            f"equal inputs stay in one region, and too few of {len(table.inputs)} differ: the regions would have {sizes} rows; add rows that differ"
        )
    return parts if table.test is None else [*parts, table.test]


def _split(inputs: Array, targets: Array) -> Split:
    x = torch.from_numpy(np.ascontiguousarray(inputs))
    return x if x.is_floating_point() else x.float(), torch.from_numpy(np.ascontiguousarray(targets))


def _single(inputs: torch.Tensor, targets: torch.Tensor) -> Split:
    return inputs.float(), targets.float() if targets.is_floating_point() else targets
