"""The log of a run: an open journal (CRC-checked lines, fsynced) and closed Parquet segments. The only file with pyarrow but for `dataset/tables.py`.

    runs/<name>/run.yaml  journal.jsonl  results/part-NNNNNN.parquet  status.json  lock

The journal's first line says which segment it is; the run is the parts with a smaller number, and the journal. A segment
is closed by writing its part, then replacing the journal by that of the next segment, which carries the records that are
not results and the part's checksum (Parquet's own leave the footer out). So a reader who sees either journal sees every
row once, and a part that was written before a kill is written again. A torn last line, one without its newline, is
dropped and said; damage anywhere else is an error that names the record. run.yaml is written after the first journal: a
folder with run.yaml whose journal has no whole record has lost it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

FORMAT = 2
SEGMENT_ROWS = 2000
TEMPORARY = "_tmp."  # what begins so is the rest of a write that did not finish
_FIXED = {
    "index": pa.int64(), "ask": pa.int64(), "attempt": pa.int64(), "candidate": pa.string(), "canonical_id": pa.string(),
    "parents": pa.string(), "proposer": pa.string(), "stage": pa.string(), "status": pa.string(), "reason": pa.string(),
    "duplicate_of": pa.int64(), "seed": pa.int64(), "device": pa.string(), "worker": pa.string(), "error": pa.string(),
    "figure": pa.float64(),
}  # fmt: skip
_TABLES = ("objectives", "scores", "rates", "seconds")


class LogError(ValueError):
    """The log is damaged, of another version, or in use; says which record, what is safe, what to do."""


def write_atomically(path: Path, data: bytes) -> None:
    """A file that is whole or as it was: temporary name, fsync, rename, fsync of the folder. Raises LogError with the fix."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_whole(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as error:
        with suppress(OSError):  # the first error counts; what stays here is ignored by its name
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def unwritable(path: Path, error: OSError) -> LogError:
    """What the system refused, of which path, and what to do about it."""
    fixes = {
        errno.ENOSPC: "make room there", errno.EDQUOT: "make room there (the quota is used up)",
        errno.ENAMETOOLONG: "choose a shorter name", errno.EISDIR: "it is a folder where a file belongs: move it away",
        errno.ENOTDIR: "a part of that path is a file: choose another folder", errno.EEXIST: "there is a file: choose another folder",
    }  # fmt: skip
    fix = fixes.get(error.errno or 0, "choose a folder that you may write to")
    shown = str(path) if len(str(path)) <= 160 else f"{str(path)[:120]}...{str(path)[-30:]}"
    return LogError(f"{shown} cannot be written ({error.strerror or error}); {fix}")


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises FileNotFoundError, and LogError with the fix for whatever else the system refuses."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        fix = "move it away and restore the file from a copy" if isinstance(error, IsADirectoryError) else "make it a file that you may read"
        raise LogError(f"{path} cannot be read ({error.strerror or error}); {fix}") from None


def check_files(directory: Path) -> None:
    """Raises LogError for a folder in place of one of a run's files, which would else be met in the middle of the work."""
    kept = [directory / name for name in ("run.yaml", "journal.jsonl")]
    anew = [directory / name for name in ("status.json", "summary.json", "lock")]
    for path in (*kept, *_parts(directory), *anew):
        if os.path.isdir(path):
            fix = ": it is written anew" if path in anew else " and restore the file from a copy"
            raise LogError(f"{path} is a folder where a file belongs; move it away{fix}")


def _write_whole(handle: int, data: bytes) -> None:
    """Writes all of `data`: os.write may take a part of it and say so, as it does on a disk that is getting full."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _frame(record: Mapping[str, Any]) -> bytes:
    body = json.dumps(record, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int, bool]:
    """The journal's records, the byte length that is sound, and whether a torn tail follows it. Raises LogError for damage inside."""
    data = read_bytes(path) if path.exists() else b""
    records: list[dict[str, Any]] = []
    position = 0
    while position < len(data):
        end = data.find(b"\n", position)
        if end < 0:
            if not records and not _begins(data):
                raise LogError(f"record 0 of {path} is damaged, there is no other; restore the file from a copy")
            return records, position, True
        record = _record(data[position:end], len(records))
        if record is None:
            place = "later records follow; restore the file from a copy" if end + 1 < len(data) else (
                "it is the last one; restore the file from a copy, or delete that line and its job is asked again"
            )  # fmt: skip
            raise LogError(f"record {len(records)} of {path} is damaged, {place}")
        records.append(record)
        position = end + 1
    return records, position, False


def _begins(data: bytes) -> bool:
    """Whether this may be the beginning of a record; a tail after others may hold anything, as power loss leaves it."""
    return re.match(rb"[0-9a-f]{8} \{|[0-9a-f]{0,8} ?\Z", data) is not None


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
        self._open_rows = 0  # of the open segment; counted as they come, for a driver asks after every result
        self._handle = -1
        self._lock = _take_lock(directory)
        try:
            (directory / "results").mkdir(exist_ok=True)
            self._open_journal()
        except OSError as error:
            self.release()
            raise unwritable(Path(error.filename or directory), error) from error
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record of the open segment."""
        return list(self._records)

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Appends and fsyncs; when it returns, the records count. Raises LogError when the disk refuses; then nothing more is taken."""
        if self._handle < 0:
            raise LogError(f"the log of {self.directory} is closed; run again to resume")
        numbered = [{"n": len(self._records) + i, **record} for i, record in enumerate(records)]
        frames = b"".join(_frame(record) for record in numbered)
        try:
            _write_whole(self._handle, frames)
            os.fsync(self._handle)
        except OSError as error:
            # never append behind a tail that may be torn, never fsync again after a failure: the next opening looks at what is there
            os.close(self._handle)
            self._handle = -1
            free = shutil.disk_usage(self.directory).free
            raise LogError(
                f"{self.directory / 'journal.jsonl'} cannot be written ({error}; {free} bytes free); "
                "what was told before is safe: make room and run again to resume"
            ) from error
        self._records += numbered
        self._open_rows += len(_journal_rows(numbered))

    def rows(self) -> list[Row]:
        """Every row of the run, closed segments first."""
        return _rows(self.directory, self._records)

    def marks(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind other than `result` (they are carried from segment to segment)."""
        return [r for r in self._records if r["type"] == kind]

    def is_full(self) -> bool:
        """Whether the open segment has reached its size."""
        return self._open_rows >= SEGMENT_ROWS

    def close_segment(self, rows: Sequence[Row]) -> None:
        """Writes the open segment's rows (as given: objectives filled in) as a part and starts a fresh journal."""
        if not _journal_rows(self._records):
            return
        data = _parquet(sorted(rows, key=lambda r: (r["ask"], r["attempt"])))
        write_atomically(_part_path(self.directory, self._records[0]["segment"]), data)
        first, *rest = self._records
        kept = [record for record in rest if record["type"] != "result"]
        self._start_journal(first["segment"] + 1, [*kept, {"type": "part", "segment": first["segment"], "crc32": zlib.crc32(data)}])

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
        segment = _segment(self.directory, records)
        if not records:
            self._start_journal(0, [])
            return
        newer = [part for part in _parts(self.directory) if part > _part_path(self.directory, segment)]
        if newer:
            raise LogError(f"{path} is older than {newer[-1].name}: it is an old copy; restore the newest one")
        self._records, self._open_rows = records, len(_journal_rows(records))
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        if torn:
            os.ftruncate(self._handle, sound)
            os.fsync(self._handle)

    def _start_journal(self, segment: int, carried: Sequence[Mapping[str, Any]]) -> None:
        first = {"type": "open", "segment": segment, "format": FORMAT}
        records = [{**record, "n": number} for number, record in enumerate([first, *carried])]
        path = self.directory / "journal.jsonl"
        if self._handle >= 0:  # from here on the old journal takes nothing more, whatever fails
            os.close(self._handle)
            self._handle = -1
        write_atomically(path, b"".join(_frame(record) for record in records))
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._records, self._open_rows = records, 0


def _take_lock(directory: Path) -> Any:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "lock", "ab+", buffering=0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(200).decode(errors="replace").strip() or "another process"
            lock.close()
            raise LogError(f"{directory} is in use by {holder}; one driver a run: wait for it or stop it") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError as error:
        raise unwritable(Path(error.filename or directory), error) from error
    return lock


def read_run(directory: Path, notices: list[str] | None = None) -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows and records of a run as they stand, without its lock; safe while the run goes on. Raises LogError.

    `notices` hears of a last line that is not whole.
    """
    records, torn = read_records(directory)
    if torn and notices is not None:
        path = directory / "journal.jsonl"
        notices.append(f"the last line of {path} is not whole and not shown: it is being written, or torn, and then `evosearch resume {directory}` drops it")
    return _rows(directory, records), records


def read_records(directory: Path) -> tuple[list[dict[str, Any]], bool]:
    """The records of a run's journal, and whether a torn line follows. Raises LogError."""
    if not (directory / "run.yaml").exists():
        raise LogError(f"{directory} is not a run (it has no run.yaml); `evosearch run SPACE.yaml --out {directory}` makes one")
    records, _, torn = read_journal(directory / "journal.jsonl")
    _segment(directory, records)
    return records, torn


def _segment(directory: Path, records: Sequence[Mapping[str, Any]]) -> int:
    """The open segment's number. Raises LogError when the journal is gone or of another version."""
    path = directory / "journal.jsonl"
    if not records:
        others = "closed segments are" if _parts(directory) else "run.yaml is" if (directory / "run.yaml").exists() else None
        if others:
            raise LogError(f"{path} is missing or empty although {others} there; restore it from a copy, or start anew with another --out")
        return 0
    if records[0].get("type") != "open" or records[0].get("format") != FORMAT:
        raise LogError(f"{path} is of another version than {FORMAT}; use the evosearch that wrote it")
    return int(records[0]["segment"])


def _rows(directory: Path, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Parts below the open segment, then the journal: never a listing, so a part that is being written is no double."""
    checksums = {r["segment"]: r["crc32"] for r in records if r["type"] == "part"}
    segments = range(records[0]["segment"] if records else 0)
    closed = [row for number in segments for row in _part_rows(_part_path(directory, number), checksums.get(number))]
    return [*closed, *_journal_rows(records)]


def _part_path(directory: Path, segment: int) -> Path:
    return directory / "results" / f"part-{int(segment):06d}.parquet"


def _parts(directory: Path) -> list[Path]:
    return sorted((directory / "results").glob("part-*.parquet"))


def _part_rows(path: Path, checksum: int | None) -> list[Row]:
    """The rows of a closed segment; `checksum` is None for a run that was begun before parts had one."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise LogError(f"{path} is missing although later segments exist; restore it from a copy") from None
    if checksum not in {None, zlib.crc32(data)}:
        raise LogError(f"{path} is damaged (not the bytes that were written); restore it from a copy")
    try:
        # without threads: Arrow's let go of Python's bytes while the interpreter ends, and 1 process in 20 aborted at its exit
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False) as file:
            return _unflatten(file.read(use_threads=False))
    except (OSError, pa.ArrowException) as error:
        raise LogError(f"{path} is damaged ({str(error)[:120]}); restore it from a copy") from None


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
        row: Row = {name: flat[name] for name in _FIXED}
        for nested in _TABLES:
            row[nested] = {key: flat[name] for name, (where, key) in keys.items() if where == nested and flat[name] is not None}
        rows.append(row)
    return rows
