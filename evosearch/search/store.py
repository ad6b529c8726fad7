"""The log of a run: an open journal (CRC-checked lines, fsynced) and closed Parquet segments.

    runs/<name>/run.yaml  journal.jsonl  results/part-NNNNNN.parquet  status.json  lock

The journal's first line says which segment it is; the run is the parts with a smaller number, and the journal. A segment
is closed by writing its part, then replacing the journal by that of the next segment, which carries the records that are
not results and the part's checksum (Parquet's own leave the footer out). So a reader who sees either journal sees every
row once, and a part that was written before a kill is written again. A torn last line is dropped and said; damage anywhere
else is an error that names the record. run.yaml is written after the first journal: a folder with run.yaml whose journal
has no whole record has lost it.

Whoever opens a log begins with a fresh copy of its journal. So nothing is ever appended behind a write or an fsync that
failed, and a driver that was stopped while another went on holds a file that is the journal no longer: it cannot write between.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from evosearch.search.files import TEMPORARY, LogError, read_bytes, refuse_links, sealed, unwritable, write_atomically, write_whole
from evosearch.search.journal import Row, frame, read_journal, rows_of
from evosearch.search.lock import Lock
from evosearch.search.segments import column_name, parquet, part_path, part_rows, parts

__all__ = [
    "TEMPORARY", "Log", "LogError", "Row", "check_files", "column_name", "read_bytes", "read_journal", "read_records", "read_run",
    "unwritable", "write_atomically",
]  # fmt: skip

FORMAT = 2
SEGMENT_ROWS = 2000


class Log:
    """The open log of one run: one driver at a time, holding the lock. A segment is full with `segment_rows` rows."""

    def __init__(self, directory: Path, segment_rows: int | None = None) -> None:
        self.directory = directory
        self.notices: list[str] = []
        self._segment_rows = segment_rows or SEGMENT_ROWS
        self._records: list[dict[str, Any]] = []
        self._open_rows = 0  # of the open segment; counted as they come, for a driver asks after every result
        self._handle = -1
        refuse_links(directory)
        self._lock = Lock(directory)
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
        numbered = [{"n": len(self._records) + i, **record} for i, record in enumerate(records)]
        frames = b"".join(frame(record) for record in numbered)
        self._check_ours()
        try:
            write_whole(self._handle, frames)
            os.fsync(self._handle)
        except OSError as error:
            self._close_journal()  # never append behind a tail that may be torn, never fsync again after a failure
            raise unwritable(self._path, error) from error
        self._records += numbered
        self._open_rows += len(rows_of(numbered))

    def rows(self) -> list[Row]:
        """Every row of the run, closed segments first."""
        return _rows(self.directory, self._records)

    def marks(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind other than `result` (they are carried from segment to segment)."""
        return [r for r in self._records if r["type"] == kind]

    def is_full(self) -> bool:
        """Whether the open segment has reached its size."""
        return self._open_rows >= self._segment_rows

    def close_segment(self, rows: Sequence[Row]) -> None:
        """Writes the open segment's rows (as given: objectives filled in) as a part and starts a fresh journal."""
        if not self.marks("result"):
            return
        self._check_ours()
        data = parquet(sorted(rows, key=lambda r: (r["ask"], r["attempt"])))
        first, *rest = self._records
        write_atomically(part_path(self.directory, first["segment"]), data)
        kept = [record for record in rest if record["type"] != "result"]
        part = {"type": "part", "segment": first["segment"], "crc32": zlib.crc32(data)}
        self._replace_journal([{"type": "open", "segment": first["segment"] + 1, "format": FORMAT}, *kept, part])

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Rewrites status.json atomically."""
        write_atomically(self.directory / "status.json", sealed(status))

    def release(self) -> None:
        """Lets go of the journal and the lock."""
        self._close_journal()
        self._lock.release()

    @property
    def _path(self) -> Path:
        return self.directory / "journal.jsonl"

    def _open_journal(self) -> None:
        records, sound, torn = read_journal(self._path)
        if torn:
            lost = self._path.stat().st_size - sound
            self.notices.append(f"dropped a torn last line of {lost} bytes in {self._path}; every complete record is kept")
        segment = segment_of(self.directory, records)
        newer = [part for part in parts(self.directory) if part > part_path(self.directory, segment)]
        if newer:
            raise LogError(f"{self._path} is older than {newer[-1].name}: it is an old copy; restore the newest one")
        self._replace_journal(records or [{"type": "open", "segment": 0, "format": FORMAT}])

    def _replace_journal(self, records: Sequence[Mapping[str, Any]]) -> None:
        numbered = [{**record, "n": number} for number, record in enumerate(records)]
        self._close_journal()  # from here on the old journal takes nothing more, whatever fails
        write_atomically(self._path, b"".join(frame(record) for record in numbered))
        try:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._records, self._open_rows = numbered, len(rows_of(numbered))

    def _close_journal(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _check_ours(self) -> None:
        """Raises LogError once the log is closed, or another driver has opened it (its lock was deleted, or is not kept by the file system)."""
        if self._handle < 0:
            raise LogError(f"the log of {self.directory} is closed; run again to resume")
        try:
            ours = os.path.samestat(os.fstat(self._handle), os.stat(self._path))
        except FileNotFoundError:
            self._close_journal()
            raise LogError(f"{self._path} is no longer there: the folder was moved or deleted; resume the run where it is now") from None
        except OSError as error:
            raise unwritable(self._path, error) from error
        if not ours:
            self._close_journal()
            raise LogError(f"another driver has opened {self.directory} meanwhile; this one writes no more: what it told is safe, and the other goes on")


def check_files(directory: Path) -> None:
    """Raises LogError for a link in place of a run's folder, and a folder in place of its file, which would else be met in the middle of the work."""
    refuse_links(directory)
    kept = [directory / name for name in ("run.yaml", "journal.jsonl")]
    anew = [directory / name for name in ("status.json", "summary.json", "lock")]
    for path in (*kept, *parts(directory), *anew):
        if os.path.isdir(path):
            fix = ": it is written anew" if path in anew else " and restore the file from a copy"
            raise LogError(f"{path} is a folder where a file belongs; move it away{fix}")


def read_run(directory: Path, notices: list[str] | None = None) -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows and records of a run as they stand, without its lock; safe while the run goes on. Raises LogError.

    `notices` hears of a last line that is not whole.
    """
    refuse_links(directory)
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
    segment_of(directory, records)
    return records, torn


def segment_of(directory: Path, records: Sequence[Mapping[str, Any]]) -> int:
    """The open segment's number. Raises LogError when the journal is gone or of another version."""
    path = directory / "journal.jsonl"
    if not records:
        others = "closed segments are" if parts(directory) else "run.yaml is" if (directory / "run.yaml").exists() else None
        if others:
            raise LogError(f"{path} is missing or empty although {others} there; restore it from a copy, or start anew with another --out")
        return 0
    check_version(path, records[0])
    return int(records[0]["segment"])


def check_version(path: Path, first: Mapping[str, Any]) -> None:
    """Raises LogError for a journal of another format than this program's, by its number."""
    if first["type"] != "open" or first.get("format") != FORMAT:
        found = str(first.get("format"))[:20] if first["type"] == "open" else "unknown"
        raise LogError(f"{path} is of another version than {FORMAT}: {found}; use the evosearch that wrote it")


def _rows(directory: Path, records: list[dict[str, Any]]) -> list[Row]:
    """Parts below the open segment, then the journal: never a listing, so a part that is being written is no double."""
    checksums = {r["segment"]: r["crc32"] for r in records if r["type"] == "part"}
    segments = range(records[0]["segment"] if records else 0)
    closed = [row for number in segments for row in part_rows(part_path(directory, number), checksums.get(number))]
    return [*closed, *rows_of(records)]
