"""A table's file as columns; the one file of this folder with pyarrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_columns(data: bytes) -> dict[str, list[Any]]:
    """Every column as a list, None where a cell is empty. Raises ValueError for what is not a whole Parquet file."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a whole Parquet file: {error}") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}
