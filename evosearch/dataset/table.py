"""Inputs and targets as they stand in a file, and the rules that they must meet before anything is trained on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evosearch.dataset.source import DataError

MOST_VALUES = 1 << 28  # of the inputs: 1 GiB as float32
MOST_CLASSES = 1000
FEWEST_ROWS, FEWEST_TEST_ROWS = 20, 5
ROWS_PER_CLASS = 5  # on average: with fewer, whole numbers are a quantity and text is an identifier
LARGEST = 1e30  # its square is still a float64 and its ratio to a spread still a float32
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Table:
    """Inputs `(N, D)` or `(N, C, H, W)` and targets: class numbers `(N,)` or floats `(N, K)`; `test` is the file's own test part.

    `classes` are the classes' names in the order of their numbers, none for floats; `columns` and `target` are a table's names.
    """

    inputs: Array
    targets: Array
    test: tuple[Array, Array] | None = None
    columns: tuple[str, ...] = ()
    target: str = ""
    classes: tuple[str, ...] = ()
    form: str = ""
    sha256: str = ""

    @property
    def kind(self) -> str:
        """`classes` or `numbers`."""
        return "classes" if self.classes else "numbers"

    @property
    def shape(self) -> str:
        """`rows` or `images`."""
        return "rows" if self.inputs.ndim == 2 else "images"


def checked(raw: Table) -> Table:
    """The table with its classes numbered: of whole numbers, truth values and text; floats are a regression. Raises DataError."""
    parts = [(raw.inputs, raw.targets), *([raw.test] if raw.test else [])]
    for (inputs, targets), part, fewest in zip(parts, ("", "the test part: "), (FEWEST_ROWS, FEWEST_TEST_ROWS), strict=False):
        fault = _fault(inputs, targets, fewest)
        if fault:
            raise DataError(part + fault)
    if len({targets.dtype.kind == "f" for _, targets in parts}) > 1 or len({targets.shape[1:] for _, targets in parts}) > 1:
        raise DataError(f"y and y_test are of one kind; received {', '.join(f'{t.dtype} {t.shape}' for _, t in parts)}")
    numbered, classes = _numbered([targets for _, targets in parts])
    test = (parts[1][0], numbered[1]) if raw.test else None
    return replace(raw, targets=numbered[0], test=test, classes=classes)


def _fault(inputs: Array, targets: Array, fewest: int) -> str | None:
    if len(inputs) != len(targets):
        return f"each input has one target; received {len(inputs)} inputs and {len(targets)} targets"
    if len(inputs) < fewest:
        return f"at least {fewest} rows are needed; received {len(inputs)}"
    if math.prod(inputs.shape) > MOST_VALUES:
        return f"at most {MOST_VALUES} values; received {inputs.shape}: take a part of it"
    for name, values in (("inputs", inputs), ("targets", targets)):
        if values.dtype.kind != "f":
            continue
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            return f"the {name} hold {bad} NaN or infinite values; fill or drop those rows"
        if float(np.abs(values).max()) > LARGEST:
            return f"the {name} go up to {float(np.abs(values).max()):g}, at most {LARGEST:g}; scale them"
    return None


def _numbered(parts: list[Array]) -> tuple[list[Array], tuple[str, ...]]:
    """Class numbers and names; floats `(N, K)` as they are, without names. Raises DataError for what nothing can be learned from."""
    if parts[0].dtype.kind == "f":
        columns = [part.reshape(len(part), -1).astype(np.float64) for part in parts]
        if not columns[0].shape[1] or (np.ptp(columns[0], axis=0) == 0).any():
            raise DataError(f"all targets are {columns[0].flat[0] if columns[0].size else 'missing'}; there is nothing to learn")
        return list(columns), ()
    if any(part.dtype.kind == "S" for part in parts):
        parts = [part.astype(np.str_) for part in parts]
    values, codes = np.unique(np.concatenate(parts), return_inverse=True)
    if len(np.unique(parts[0])) < 2:
        raise DataError(f"all targets are the one class `{str(parts[0][0])[:60]}`; there is nothing to learn")
    if len(values) > MOST_CLASSES or len(values) * ROWS_PER_CLASS > len(codes):
        raise DataError(
            f"the targets have {len(values)} different values in {len(codes)} rows, too many for classes "
            f"(at most {MOST_CLASSES}, of {ROWS_PER_CLASS} rows on average); write a quantity as floats, e.g. 12.0 in place of 12"
        )
    numbered = np.split(codes.reshape(-1).astype(np.int64), [len(parts[0])])
    return list(numbered), tuple(str(value) for value in values)
