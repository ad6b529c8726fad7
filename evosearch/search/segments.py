"""Closed segments: Parquet parts with page checksums and typed columns. The only file with pyarrow but for a user's and the open tables."""

from __future__ import annotations

import re
import resource
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evosearch.search.files import LogError, read_bytes
from evosearch.search.journal import COLUMNS, TABLES, Row, row_fault

_TYPES = {int: pa.int64(), str: pa.string(), float: pa.float64()}
_PREFIX = {"objectives": "", "scores": "score_", "rates": "rate_", "seconds": "seconds_"}
_MAX_CELLS = 50_000_000
_ROOM = 2**30  # bytes of memory that reading one part may take: 617 bytes of Parquet can hold as much


def part_path(directory: Path, segment: int) -> Path:
    """Where the part of a closed segment lies."""
    return directory / "results" / f"part-{int(segment):06d}.parquet"


def parts(directory: Path) -> list[Path]:
    """The parts that are there, by number."""
    return sorted((directory / "results").glob("part-*.parquet"))


def part_rows(path: Path, checksum: int | None) -> list[Row]:
    """The rows of a closed segment; `checksum` is None for a run that was begun before parts had one. Raises LogError."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise LogError(f"{path} is missing although later segments exist; restore it from a copy") from None
    if checksum not in {None, zlib.crc32(data)}:
        raise LogError(f"{path} is damaged (not the bytes that were written); `evosearch repair` mends a single flipped bit, else restore it from a copy")
    return rows_of_part(data, path)


def rows_of_part(data: bytes, path: Path) -> list[Row]:
    """The rows in a part's bytes, within bounds of memory. Raises LogError."""
    try:
        # without threads: Arrow's let go of Python's bytes while the interpreter ends, and 1 process in 20 aborted at its exit
        texts = [name for name in pq.read_schema(pa.BufferReader(data)).names if COLUMNS.get(name) is str]
        with _bounded(), pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts, page_checksum_verification=True, pre_buffer=False) as file:
            cells = file.metadata.num_rows * file.metadata.num_columns
            if cells > _MAX_CELLS:
                raise LogError(f"{path} declares {cells} cells, more than any part that evosearch writes; restore it from a copy")
            table = file.read(use_threads=False)
            if (size := _opened(table)) > _ROOM // 2:
                raise MemoryError(size)
            rows = _unflatten(table)
    except LogError:
        raise
    except (MemoryError, OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        what = f"opens into more than {_ROOM >> 21} MiB" if isinstance(error, MemoryError) else " ".join(str(error).split())[:120]
        raise LogError(f"{path} is damaged ({what}); restore it from a copy") from None
    fault = next((fault for row in rows if (fault := row_fault(row))), None)
    if fault:
        raise LogError(f"{path} is damaged ({fault}); restore it from a copy")
    return rows


def _opened(table: pa.Table) -> int:
    """Bytes that a table's texts take when each is written out: a text of a megabyte that is there a thousand times is stored once."""
    chunks = [chunk for column in table.columns if pa.types.is_dictionary(column.type) for chunk in column.chunks]
    return int(table.nbytes) + sum(len(chunk) * max((len(text or "") for text in chunk.dictionary.to_pylist()), default=0) for chunk in chunks)


@contextmanager
def _bounded() -> Iterator[None]:
    """So much memory and no more while a part is read: what it opens into, neither its length nor its footer says."""
    if sys.platform != "linux":
        yield
        return
    pa.allocate_buffer(1)  # with which Arrow reserves its first gigabyte of addresses: that is not what a part takes
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + _ROOM if soft == resource.RLIM_INFINITY else min(soft, used + _ROOM)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def column_name(table: str, key: str) -> str:
    """A name that SQL takes without quotes: `full:textures/resnet:1` of `scores` is `score_full_textures_resnet_s1`."""
    name = re.sub(r":(\d+)$", r"_s\1", key)
    name = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return _PREFIX[table] + name


def parquet(rows: Sequence[Row]) -> bytes:
    """The rows as the bytes of a part."""
    fields = [pa.field(name, _TYPES[kind]) for name, kind in COLUMNS.items()]
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in COLUMNS}
    for table in TABLES:
        for key in sorted({key for row in rows for key in row.get(table, {})}):
            name = column_name(table, key)
            while name in columns:  # two keys that differ in punctuation only; the field's metadata tells them apart
                name += "_"
            fields.append(pa.field(name, pa.float64(), metadata={"table": table, "key": key}))
            columns[name] = [row.get(table, {}).get(key) for row in rows]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), sink, write_page_checksum=True, compression="zstd")
    return bytes(sink.getvalue())


def _unflatten(table: pa.Table) -> list[Row]:
    keys = {f.name: (f.metadata[b"table"].decode(), f.metadata[b"key"].decode()) for f in table.schema if f.metadata and b"key" in f.metadata}
    rows = []
    for flat in table.to_pylist():
        row: Row = {name: flat.get(name) for name in COLUMNS}  # a part of an older version has fewer
        for nested in TABLES:
            row[nested] = {key: flat[name] for name, (where, key) in keys.items() if where == nested and flat[name] is not None}
        rows.append(row)
    return rows
