"""Tables: .csv with a header and .parquet. The target is the column `target`, `label` or `y`, or the last."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from evosearch.dataset.source import DataError
from evosearch.dataset.table import MOST_VALUES, Array, Table

TARGETS = ("target", "label", "y")  # the first of them that is there
LONGEST_LABEL = 200


def read_csv(data: bytes) -> Table:
    """Comma-separated UTF-8 text. Raises DataError, and what pyarrow raises for text that is no table."""
    # one block: a column's type is that of all its cells
    table = csv.read_csv(pa.BufferReader(data), read_options=csv.ReadOptions(block_size=max(len(data), 1 << 16)))
    if len(table.column_names) == 1 and any(mark in table.column_names[0] for mark in ";\t|"):
        raise DataError(f"columns are separated by commas; the first line is `{table.column_names[0][:60]}`")
    if all(_is_number(name) for name in table.column_names):
        raise DataError(f"a .csv begins with a line of column names; its first line is the numbers `{', '.join(table.column_names)[:60]}`")
    return _of_columns(table)


def read_parquet(data: bytes) -> Table:
    """One column a feature. Raises DataError, and what pyarrow raises for a file that is not whole."""
    file = pq.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows * file.metadata.num_columns > MOST_VALUES:
        raise DataError(f"at most {MOST_VALUES} values; received {file.metadata.num_rows} rows of {file.metadata.num_columns} columns: take a part of it")
    for field in file.schema_arrow:
        if not (_is_plain(field.type) or _is_text(field.type)):
            raise DataError(f"the column `{field.name[:60]}` is {str(field.type)[:60]}, not numbers; encode it, or leave it out")
    return _of_columns(file.read())


def _of_columns(table: pa.Table) -> Table:
    names = list(table.column_names)
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(f"two columns are named `{twice[:60]}`; rename one")
    if len(names) < 2:
        raise DataError(f"a table has columns of inputs and one of targets; received {', '.join(names)[:60] or 'none'}")
    if not table.num_rows:
        raise DataError("the table has no rows")
    lowered = {name.lower(): name for name in reversed(names)}
    target = next((lowered[name] for name in TARGETS if name in lowered), names[-1])
    columns = [_numbers(name, table.column(name)) for name in names if name != target]
    return Table(np.stack(columns, 1), _answers(target, table.column(target)), columns=tuple(n for n in names if n != target), target=target)


def _numbers(name: str, column: pa.ChunkedArray) -> Array:
    _refuse_gaps(name, column)
    if not _is_plain(column.type):
        raise DataError(f"the column `{name[:60]}` is {str(column.type)[:60]}, not numbers; encode it, or leave it out")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _answers(name: str, column: pa.ChunkedArray) -> Array:
    _refuse_gaps(name, column)
    if _is_plain(column.type):
        return np.asarray(column.to_numpy())
    if not _is_text(column.type):
        raise DataError(f"the target `{name[:60]}` is {str(column.type)[:60]}; targets are numbers or text")
    labels = column.to_pylist()
    bad = next((text for text in set(labels) if not text.strip() or len(text) > LONGEST_LABEL), None)
    if bad is not None:
        raise DataError(f"a class of the target `{name[:60]}` is text of 1 to {LONGEST_LABEL} characters; received `{bad[:40]}`; fill or drop those rows")
    return np.array(labels, dtype=np.str_)


def _refuse_gaps(name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        raise DataError(f"the column `{name[:60]}` has {column.null_count} empty cells or NaN; fill or drop those rows")


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
