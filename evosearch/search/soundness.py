"""Is a run's folder what was written? `examine` reads everything, against its checksums and against each other, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from evosearch.job import STAGES, STATUSES
from evosearch.search.files import TEMPORARY, LogError, is_sealed, read_bytes
from evosearch.search.journal import Row, read_journal, rows_of
from evosearch.search.segments import part_path, part_rows, parts, rows_of_part
from evosearch.search.store import check_version, segment_of
from evosearch.search.study import FINAL_INDEX

_MAX_RUN_FILE = 1_000_000  # bytes
_NAMED = 3  # of what is missing or wrong, one by one
_SMALL = 2**24  # bytes of status.json and summary.json


@dataclass(frozen=True)
class Finding:
    """What is to be said of one thing; `sound` is None for what carries no checksum, in a run that an older version began."""

    name: str
    sound: bool | None
    text: str


def examine(directory: Path, window: int | None = None) -> list[Finding]:
    """Every finding, sound or not. With the run's `window` it is also known which rows must be there.

    Raises LogError for a folder that is no run, or one of another version.
    """
    if not os.path.lexists(directory / "run.yaml") and not os.path.lexists(directory / "journal.jsonl"):
        raise LogError(f"{directory} is not a run (it has neither run.yaml nor journal.jsonl); give the folder that `run --out` was given")
    status = _read_seal(directory, "status.json")  # first: it may only be older than the log
    found: list[Finding] = []
    records = _journal(directory, found)
    seals = is_of_files_with_seals(records or ())
    _kinds(directory, found)
    found.append(_run_file(directory, records))
    rows = _parts(directory, records, found) if not (directory / "results").is_symlink() else None  # which _kinds has said
    if rows is not None and records is not None:
        rows += rows_of(records)
        found += [_rows(rows, window), _scales(records), _told(directory, rows)]
    found.append(_sealed("status.json", status, seals, "budget.minutes counts from now on once it is removed"))
    found.append(_sealed("summary.json", _read_seal(directory, "summary.json"), seals, "`evosearch resume` makes it anew once it is removed"))
    return [finding for finding in found if finding.text]


def _journal(directory: Path, found: list[Finding]) -> list[dict[str, Any]] | None:
    """The records; None where they cannot be read."""
    path = directory / "journal.jsonl"
    try:
        records, sound, torn = read_journal(path)
    except LogError as error:
        found.append(Finding("journal.jsonl", False, str(error)))
        return None
    if records:
        check_version(path, records[0])  # which is no damage: it raises
    try:
        segment = segment_of(directory, records)
    except LogError as error:
        found.append(Finding("journal.jsonl", False, str(error)))
        return None
    if torn:
        text = f"{len(records)} sound records, then {path.stat().st_size - sound} bytes without an end: being written just now, or torn, and resume drops them"
        found.append(Finding("journal.jsonl", False, text))
    else:
        found.append(Finding("journal.jsonl", True, f"{len(records)} records, their checksums and numbers hold; segment {segment} is open"))
    return records


def _kinds(directory: Path, found: list[Finding]) -> None:
    """Files where files belong, folders where folders do; what a write left behind is harmless, and said."""
    rests = 0
    for folder in (directory, directory / "results"):
        if folder.is_symlink() and folder != directory:
            found.append(Finding(folder.name, False, "a symbolic link, which is not followed; put the folder itself there"))
            continue
        for entry in os.scandir(folder) if folder.is_dir() else ():
            mode = entry.stat(follow_symlinks=False).st_mode
            rests += entry.name.startswith(TEMPORARY)
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                found.append(Finding(entry.name[:80], False, "a link, pipe or device, which is not opened; remove it"))
    found.append(Finding("unfinished writes", True, f"{rests} files {TEMPORARY}*, which nothing reads; they may be deleted" if rests else ""))


def _run_file(directory: Path, records: Sequence[Mapping[str, Any]] | None) -> Finding:
    try:
        data = read_bytes(directory / "run.yaml", _MAX_RUN_FILE)
    except FileNotFoundError:
        return Finding("run.yaml", False, "missing; restore it from a copy")
    except LogError as error:
        return Finding("run.yaml", False, str(error))
    known = [record.get("file") for record in records or () if record["type"] == "config"]
    if hashlib.sha256(data).hexdigest() in known:
        later = " before its last change, which the next resume makes again" if hashlib.sha256(data).hexdigest() != known[-1] else ""
        return Finding("run.yaml", True, f"the bytes that were written{later}")
    if records is None:
        return Finding("run.yaml", None, "not compared: its checksum is in the journal")
    if all(file is None for file in known):
        return Finding("run.yaml", None, "no checksum of its bytes: this run was begun by an older version, which kept one of the configuration alone")
    return Finding(
        "run.yaml", False, "not the bytes that were written: damaged, or edited; `evosearch repair` mends a flipped bit, else restore it from a copy"
    )


def _parts(directory: Path, records: Sequence[Mapping[str, Any]] | None, found: list[Finding]) -> list[Row] | None:
    """The rows of every closed segment; None where one cannot be read, or no journal says which there are."""
    marks = [record for record in records or () if record["type"] == "part"]
    checksums = {record["segment"]: record["crc32"] for record in marks}
    count = records[0]["segment"] if records else 0
    rows: list[Row] = []
    faults: list[str] = []
    missing = 0
    if len({(r["segment"], r["crc32"]) for r in marks}) != len(checksums) or any(number >= count for number in checksums):
        faults.append("the journal has two checksums for one part, or one for a part that is still open")
    if checksums and set(range(min(checksums), count)) - set(checksums):
        faults.append("the journal has no checksum for a part between others")
    for number in range(count):
        try:
            rows += part_rows(part_path(directory, number), checksums.get(number))
        except LogError as error:
            faults.append(str(error))
            missing += not os.path.lexists(part_path(directory, number))
            if missing > _NAMED:  # a stranger's journal may promise a million
                faults[-1] = f"more than {_NAMED} of the {count} parts that the journal counts are missing; restore them from a copy"
                break
    for path in parts(directory):
        number_of = re.fullmatch(r"part-(\d{6})\.parquet", path.name)
        if number_of is None or int(number_of[1]) >= count:
            faults += _stray(path, directory, records, count)
    without = [number for number in range(count) if number not in checksums]
    if faults:
        found.extend(Finding("results", False, fault) for fault in faults)
        return None
    if without:
        found.append(
            Finding("results", None, f"{len(without)} of {count} parts have no checksum of their footer: written by an older version; their pages' hold")
        )
    found.append(Finding("results", True, f"{count} parts, {len(rows)} rows, checksums and pages' checksums hold"))
    return rows if records is not None else None


def _stray(path: Path, directory: Path, records: Sequence[Mapping[str, Any]] | None, count: int) -> list[str]:
    if records is not None and path == part_path(directory, count):
        return []  # written before a kill, and written again
    if records is None:
        try:
            rows_of_part(read_bytes(path), path)
        except LogError as error:
            return [str(error)]
        return []
    return [f"{path} belongs to no closed segment: the journal is an old copy, or the part is another run's"]


def _rows(rows: Sequence[Row], window: int | None) -> Finding:
    """Against each other: what can be true of the rows of one run."""
    indices = Counter(row["index"] for row in rows if row["index"] is not None)
    searched = sorted(index for index in indices if index < FINAL_INDEX)
    last = searched[-1] if searched else -1
    reach = last if len(searched) < len(indices) else last - (window or last + 1)  # a check begins when all is told; an ask, `window` results later
    present = {index for index in searched if index <= reach}
    missing = list(islice((index for index in range(reach + 1) if index not in present), _NAMED))  # a stranger's index may be a billion
    faults = [
        *(f"job {index} has {count} results" for index, count in indices.items() if count > 1),
        *(f"the result of job {index} is missing, although later ones follow from it" for index in missing),
        *(fault for row in rows if (fault := _row_fault(row, indices))),
    ]
    twice = Counter((row["ask"], row["attempt"]) for row in rows)
    faults += [f"attempt {attempt} of ask {ask} is there {count} times" for (ask, attempt), count in twice.items() if count > 1]
    if faults:
        more = len(faults) - len(missing) + reach + 1 - len(present) - _NAMED
        return Finding("rows", False, "; ".join(faults[:_NAMED]) + (f"; and {more} more" if more > 0 else ""))
    screened = len(rows) - len(indices)
    return Finding(
        "rows", True, f"{len(searched)} of the search, {len(indices) - len(searched)} of its check, {screened} screened out; none missing, none twice"
    )


def _row_fault(row: Row, indices: Mapping[int, int]) -> str | None:
    where = f"the row of ask {row['ask']}, attempt {row['attempt']},"
    rules: list[tuple[bool, Callable[[], str]]] = [
        (row["status"] in STATUSES, lambda: f"{where} has the status {row['status'][:30]!r}"),
        (
            row["stage"] in STAGES or (row["index"] is None and row["stage"] == str(row["reason"]).partition(":")[0]),
            lambda: f"{where} has the stage {str(row['stage'])[:30]!r}",
        ),
        (row["ask"] >= 0 and row["attempt"] >= 0, lambda: f"{where} is numbered below 0"),
        (row["index"] is None or row["index"] == row["ask"], lambda: f"{where} is numbered {row['index']}"),
        (row["index"] is not None or row["status"] in ("rejected", "duplicate", "nonfinite"), lambda: f"{where} was screened out as {row['status']}"),
        ((row["status"] != "duplicate") or row["duplicate_of"] is not None, lambda: f"{where} is a duplicate of nothing"),
        (row["duplicate_of"] is None or row["duplicate_of"] < row["ask"], lambda: f"{where} is a duplicate of a later one"),
        (row["status"] == "ok" or row["reason"] is not None, lambda: f"{where} has no reason"),
    ]
    return next((text() for holds, text in rules if not holds), None)


def _scales(records: Sequence[Mapping[str, Any]]) -> Finding:
    scales = [{k: v for k, v in record.items() if k != "n"} for record in records if record["type"] == "scale"]
    if any(scale != scales[0] for scale in scales):
        return Finding("scale", False, "frozen twice, and not alike; restore the journal from a copy")
    return Finding("scale", True, "frozen once" if scales else "")


def _told(directory: Path, rows: Sequence[Row]) -> Finding:
    """status.json is written after the log: a log that has fewer results than it says was cut, or is an old copy."""
    try:
        status = json.loads(read_bytes(directory / "status.json", _SMALL))
        told = int(status["told"]) + int(status["final_told"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):  # said where status.json itself is examined
        return Finding("", True, "")
    there = sum(1 for row in rows if row["index"] is not None)
    if told > there:
        return Finding(
            "journal.jsonl", False, f"holds {there} results, and status.json counted {told}: it was cut off, or is an old copy; restore the newest one"
        )
    return Finding("", True, "")


def is_of_files_with_seals(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the run was begun by a version that seals status.json and summary.json: then a file without is not what was written."""
    return any("file" in record for record in records if record["type"] == "config")


def _read_seal(directory: Path, name: str) -> bool | str | None:
    """What `is_sealed` says of the file, or why it cannot be read; "" for none."""
    try:
        return is_sealed(read_bytes(directory / name, _SMALL))
    except FileNotFoundError:
        return ""
    except LogError as error:
        return str(error)


def _sealed(name: str, found: bool | str | None, seals: bool, fix: str) -> Finding:
    if isinstance(found, str):
        return Finding(name, not found, found)
    sound = False if found is None and seals else found
    texts = {True: "its checksum holds", False: f"not the bytes that were written; {fix}", None: "no checksum: written by an older version"}
    return Finding(name, sound, texts[sound])
