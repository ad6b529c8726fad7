"""The log of a run: an open journal (CRC-checked lines, fsynced) and closed Parquet segments. The only file with pyarrow.

    runs/<name>/run.yaml  journal.jsonl  results/part-NNNNNN.parquet  status.json  lock

The journal's first line says which segment it is. A segment is closed by writing the part, then a fresh journal; killed
between the two, the part is there and the journal's rows are known to be in it. A torn last line is dropped and said;
damage anywhere else is an error that names the record.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

FORMAT = 1
SEGMENT_ROWS = 2000
_FIXED = {
    "index": pa.int64(), "ask": pa.int64(), "attempt": pa.int64(), "candidate": pa.string(), "canonical_id": pa.string(),
    "parents": pa.string(), "proposer": pa.string(), "stage": pa.string(), "status": pa.string(), "reason": pa.string(),
    "duplicate_of": pa.int64(), "seed": pa.int64(), "device": pa.string(), "worker": pa.string(), "error": pa.string(),
}  # fmt: skip
_TABLES = ("objectives", "scores", "rates", "seconds")


class LogError(ValueError):
    """The log is damaged, of another version, or in use; says which record, what is safe, what to do."""


def write_atomically(path: Path, data: bytes) -> None:
    """A file that is whole or absent: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f"_tmp.{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _frame(number: int, record: Mapping[str, Any]) -> bytes:
    body = json.dumps({"n": number, **record}, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int, bool]:
    """The journal's records, the byte length that is sound, and whether a torn tail follows it. Raises LogError for damage inside."""
    data = path.read_bytes() if path.exists() else b""
    records: list[dict[str, Any]] = []
    position = 0
    while position < len(data):
        end = data.find(b"\n", position)
        record = _record(data[position:end], len(records)) if end >= 0 else None
        if record is None:
            if end >= 0 and end + 1 < len(data):
                raise LogError(f"record {len(records)} of {path} is damaged and later records follow; restore the file from a copy")
            return records, position, True
        records.append(record)
        position = end + 1
    return records, position, False


def _record(line: bytes, number: int) -> dict[str, Any] | None:
    checksum, _, body = line.partition(b" ")
    if not re.fullmatch(rb"[0-9a-f]{8}", checksum) or int(checksum, 16) != zlib.crc32(body):
        return None
    record = json.loads(body)
    return record if isinstance(record, dict) and record.get("n") == number else None


class Log:
    """The open log of one run: one driver at a time, holding the lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notices: list[str] = []
        self._records: list[dict[str, Any]] = []
        self._handle = -1
        (directory / "results").mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(directory)
        self._open_journal()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record of the open segment."""
        return list(self._records)

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Appends and fsyncs; when it returns, the records count."""
        frames = [_frame(len(self._records) + i, record) for i, record in enumerate(records)]
        os.write(self._handle, b"".join(frames))
        os.fsync(self._handle)
        self._records += [{"n": len(self._records) + i, **record} for i, record in enumerate(records)]

    def rows(self) -> list[Row]:
        """Every row of the run, closed segments first."""
        return [*_part_rows(self.directory), *_journal_rows(self._records)]

    def marks(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind other than `result` (they are carried from segment to segment)."""
        return [r for r in self._records if r["type"] == kind]

    def is_full(self) -> bool:
        """Whether the open segment has reached its size."""
        return len(_journal_rows(self._records)) >= SEGMENT_ROWS

    def close_segment(self, rows: Sequence[Row]) -> None:
        """Writes the open segment's rows (as given: objectives filled in) as a part and starts a fresh journal."""
        if not _journal_rows(self._records):
            return
        segment = self._records[0]["segment"]
        part = _part_path(self.directory, segment)
        write_atomically(part, _parquet(sorted(rows, key=lambda r: (r["ask"], r["attempt"]))))
        self._start_journal(segment + 1, [r for r in self._records[1:] if r["type"] != "result"])

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Rewrites status.json atomically."""
        write_atomically(self.directory / "status.json", json.dumps(status, indent=1, sort_keys=True).encode())

    def release(self) -> None:
        """Lets go of the journal and the lock."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._lock.close()

    def _open_journal(self) -> None:
        path = self.directory / "journal.jsonl"
        records, sound, torn = read_journal(path)
        if torn:
            lost = path.stat().st_size - sound
            self.notices.append(f"dropped a torn last line of {lost} bytes in {path}; every complete record is kept")
        if records and (records[0].get("type") != "open" or records[0].get("format") != FORMAT):
            raise LogError(f"{path} is of another version than {FORMAT}; use the evosearch that wrote it")
        if not records:
            self._start_journal(len(_parts(self.directory)), [])
            return
        if _part_path(self.directory, records[0]["segment"]).exists():  # killed between part and journal
            self._start_journal(records[0]["segment"] + 1, [r for r in records[1:] if r["type"] != "result"])
            return
        self._records = records
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        if torn:
            os.ftruncate(self._handle, sound)
            os.fsync(self._handle)

    def _start_journal(self, segment: int, carried: Sequence[Mapping[str, Any]]) -> None:
        opening: dict[str, Any] = {"type": "open", "segment": segment, "format": FORMAT}
        records = [{**record, "n": number} for number, record in enumerate([opening, *carried])]
        path = self.directory / "journal.jsonl"
        write_atomically(path, b"".join(_frame(r["n"], {k: v for k, v in r.items() if k != "n"}) for r in records))
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._records = records


def _take_lock(directory: Path) -> Any:
    lock = open(directory / "lock", "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read(200).strip() or "another process"
        lock.close()
        raise LogError(f"{directory} is in use by {holder}; one driver a run: wait for it or stop it") from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def read_run(directory: Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows and records of a run as they stand, without its lock; safe while the run goes on. Raises LogError."""
    if not (directory / "run.yaml").exists():
        raise LogError(f"{directory} is not a run (it has no run.yaml); `evosearch run SPACE.yaml --out {directory}` makes one")
    records, _, _ = read_journal(directory / "journal.jsonl")
    closed = bool(records) and _part_path(directory, records[0]["segment"]).exists()
    return [*_part_rows(directory), *([] if closed else _journal_rows(records))], records


def _part_path(directory: Path, segment: int) -> Path:
    return directory / "results" / f"part-{int(segment):06d}.parquet"


def _parts(directory: Path) -> list[Path]:
    return sorted((directory / "results").glob("part-*.parquet"))


def _part_rows(directory: Path) -> list[Row]:
    rows: list[Row] = []
    for path in _parts(directory):
        try:
            table = pq.read_table(path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise LogError(f"{path} is damaged ({str(error)[:120]}); restore it from a copy") from None
        rows += _unflatten(table)
    return rows


def _journal_rows(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [row for record in records if record["type"] == "result" for row in record["rows"]]


def column_name(table: str, key: str) -> str:
    """A name that SQL takes without quotes: `full:textures/resnet:1` of `scores` is `score_full_textures_resnet_s1`."""
    name = re.sub(r":(\d+)$", r"_s\1", key)
    name = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return name if table == "objectives" else f"{ {'scores': 'score', 'rates': 'rate', 'seconds': 'seconds'}[table] }_{name}"


def _parquet(rows: Sequence[Row]) -> bytes:
    fields = [pa.field(name, kind) for name, kind in _FIXED.items()]
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in _FIXED}
    for table in _TABLES:
        for key in sorted({key for row in rows for key in row.get(table, {})}):
            name = column_name(table, key)
            fields.append(pa.field(name, pa.float64(), metadata={"table": table, "key": key}))
            columns[name] = [row.get(table, {}).get(key) for row in rows]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), sink, write_page_checksum=True, compression="zstd")
    return bytes(sink.getvalue())


def _unflatten(table: pa.Table) -> list[Row]:
    keys = {f.name: (f.metadata[b"table"].decode(), f.metadata[b"key"].decode()) for f in table.schema if f.metadata and b"key" in f.metadata}
    rows = []
    for flat in table.to_pylist():
        row: Row = {name: flat[name] for name in _FIXED}
        for nested in _TABLES:
            row[nested] = {key: flat[name] for name, (where, key) in keys.items() if where == nested and flat[name] is not None}
        rows.append(row)
    return rows
