"""What can be made good of a damaged run, each file after a copy of it is kept in `damaged/`; what cannot is said with the fix.

A single flipped bit is found by its checksum and turned back: in a line of the journal and in a part by running CRC-32 backwards, in
run.yaml, whose checksum is SHA-256, by trying every bit. A record that is beyond that is dropped where everything else is there: its job
is asked again. All of it takes time in proportion to the bytes that are there: the folder may be a stranger's.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from evosearch.search.files import TEMPORARY, LogError, is_sealed, read_bytes, refuse_links, write_atomically
from evosearch.search.journal import MAX_LINE, frame, read_journal, unframed
from evosearch.search.lock import Lock, refuse_if_held
from evosearch.search.segments import part_path
from evosearch.search.soundness import is_of_files_with_seals
from evosearch.search.store import check_version

_TRIED = 2**14  # bytes of a run.yaml in which a flipped bit is looked for one by one
_HEAD = 9  # bytes of a line: its checksum and a space
_NEAR_NEWLINE = re.compile(b"[%s]" % re.escape(bytes(10 ^ 1 << bit for bit in range(8))))
_NAMED = 3  # parts that are missing, one by one: a stranger's journal may promise a million


def repair(directory: Path, dry_run: bool) -> tuple[list[str], list[str]]:
    """What was done (of a dry run: would be done), and what cannot be. Raises LogError where a driver holds the run."""
    if not (directory / "journal.jsonl").exists() and not (directory / "run.yaml").exists():
        raise LogError(f"{directory} is not a run (it has neither run.yaml nor journal.jsonl); give the folder that `run --out` was given")
    refuse_links(directory)
    if dry_run:
        refuse_if_held(directory)
        return _Repair(directory, dry_run).all()
    lock = Lock(directory)
    try:
        return _Repair(directory, dry_run).all()
    finally:
        lock.release()


class _Repair:
    def __init__(self, directory: Path, dry_run: bool) -> None:
        self.directory, self.dry_run = directory, dry_run
        self.done: list[str] = []
        self.left: list[str] = []

    def all(self) -> tuple[list[str], list[str]]:
        records = self._journal()
        if records:
            self._run_file([r["file"] for r in records if r["type"] == "config" and "file" in r])
            self._parts(records)
        for name, rest in (("status.json", "budget.minutes counts from the next resume on"), ("summary.json", "the next resume makes it anew")):
            self._derived(self.directory / name, rest, is_of_files_with_seals(records))
        return self.done, self.left

    def _journal(self) -> list[dict[str, Any]]:
        """The records as they are or are made good; none where they cannot be."""
        path = self.directory / "journal.jsonl"
        try:
            records, sound, torn = read_journal(path)
        except LogError as error:
            return self._damaged_journal(path, str(error))
        if records:
            check_version(path, records[0])
        else:
            self.left.append(f"{path}: missing or without a whole record; restore it from a copy")
        if torn and records:
            data = read_bytes(path)
            self._write(path, data, data[:sound], f"cut the last {len(data) - sound} bytes, which are no whole record: nobody was told that they were written")
        return records

    def _damaged_journal(self, path: Path, error: str) -> list[dict[str, Any]]:
        try:
            data = read_bytes(path)
        except (FileNotFoundError, LogError):
            self.left.append(error)
            return []
        made_good = mended(data)
        if made_good is not None:
            self._write(path, data, made_good, "turned back one flipped bit, as the checksum tells")
            return list(_lines(made_good))
        kept, dropped = _without_damaged(data)
        if not kept or kept[0]["type"] != "open":
            self.left.append(f"{path}: its first record, which says what segment it is, is damaged; restore the file from a copy")
            return []
        if missing := _missing_marks(kept):
            self.left.append(f"{path}: of the {dropped} damaged lines one was {missing}; restore the file from a copy")
            return []
        numbered = [{**record, "n": number} for number, record in enumerate(kept)]
        what = f"dropped {dropped} damaged lines; every other record is kept, and the jobs whose results they were are asked again"
        self._write(path, data, b"".join(map(frame, numbered)), what)
        return numbered

    def _run_file(self, known: Sequence[str]) -> None:
        path = self.directory / "run.yaml"
        try:
            data = read_bytes(path)
        except (FileNotFoundError, LogError) as error:
            self.left.append(f"{path}: {'missing' if isinstance(error, FileNotFoundError) else error}; restore it from a copy")
            return
        if not known or hashlib.sha256(data).hexdigest() in known:
            return
        for tried in _flipped(data) if len(data) <= _TRIED else ():
            if hashlib.sha256(tried).hexdigest() in known:
                self._write(path, data, bytes(tried), "turned back one flipped bit, as the journal's checksum tells")
                return
        self.left.append(f"{path}: not the bytes that were written, by more than a bit; restore it from a copy")

    def _parts(self, records: Sequence[Mapping[str, Any]]) -> None:
        checksums = {record["segment"]: record["crc32"] for record in records if record["type"] == "part"}
        missing = 0
        for number in range(records[0]["segment"]):
            path, wanted = part_path(self.directory, number), checksums.get(number)
            try:
                data = read_bytes(path)
            except FileNotFoundError:
                missing += not self._missing_part(path, wanted)
                if missing > _NAMED:
                    count = records[0]["segment"]
                    self.left[-1] = f"{path.parent}: more than {_NAMED} of the {count} parts that the journal counts are missing; restore them from a copy"
                    return
                continue
            except LogError as error:
                self.left.append(str(error))
                continue
            if wanted is None or zlib.crc32(data) == wanted:
                continue
            place = flipped_bit(data, wanted)
            if place is None:
                self.left.append(f"{path}: not the bytes that were written, by more than a bit; restore it from a copy")
            else:
                made_good = bytearray(data)
                made_good[place[0]] ^= 1 << place[1]
                self._write(path, data, bytes(made_good), f"turned back bit {place[1]} of byte {place[0]}, as the checksum tells")

    def _missing_part(self, path: Path, wanted: int | None) -> bool:
        """Whether it was there under another name."""
        for rest in sorted(path.parent.glob(f"{TEMPORARY}{path.name}.*")):
            data = read_bytes(rest)
            if wanted is not None and zlib.crc32(data) == wanted:
                self._write(path, None, data, f"written again from {rest.name}")
                return True
        self.left.append(f"{path}: missing, and its rows are nowhere else; restore it from a copy")
        return False

    def _derived(self, path: Path, rest: str, seals: bool) -> None:
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            return
        except LogError as error:
            self.left.append(str(error))
            return
        sealed = is_sealed(data)
        if sealed is False or (sealed is None and seals):
            self._keep(path, data)
            if not self.dry_run:
                path.unlink()
            self.done.append(f"{path}: removed, it is not the bytes that were written; {rest}")

    def _write(self, path: Path, before: bytes | None, after: bytes, what: str) -> None:
        if before is not None:
            self._keep(path, before)
        if not self.dry_run:
            write_atomically(path, after)
        self.done.append(f"{path}: {what}")

    def _keep(self, path: Path, data: bytes) -> None:
        if not self.dry_run:
            (self.directory / "damaged").mkdir(exist_ok=True)
            write_atomically(self.directory / "damaged" / f"{path.name}.{zlib.crc32(data):08x}", data)


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.split(b"\n")[:-1]):
        record = unframed(line, number)
        assert isinstance(record, dict)
        yield record


def mended(data: bytes) -> bytes | None:
    """The journal with its damage undone, if that is one flipped bit; a newline may have been made of it, or lost.

    Reads the data a few times, however long the line: the checksum tells the place.
    """
    number, start = 0, 0
    while (end := data.find(b"\n", start)) >= 0 and isinstance(unframed(data[start:end], number), dict):
        number, start = number + 1, end + 1
    for position, bit in _places(data, start, end):
        tried = bytearray(data)
        tried[position] ^= 1 << bit
        line = bytes(tried[start : max(0, tried.find(b"\n", start))])
        if isinstance(unframed(line, number), dict) and _is_whole(tried):
            return bytes(tried)
    return None


def _places(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The few (byte, bit) whose flip may make a sound line of what begins at `start` and ends at `end`, or nowhere (-1)."""
    stops = [end, data.find(b"\n", end + 1)] if end >= 0 else []  # the second: where the flip made the first
    for stop in stops:
        if start + _HEAD <= stop <= start + MAX_LINE:
            yield from _places_in(data[start:stop], start)
    yield from _lost_newline(data, start, end if end >= 0 else len(data))


def _places_in(line: bytes, start: int) -> Iterator[tuple[int, int]]:
    found = zlib.crc32(memoryview(line)[_HEAD:])
    wanted = _checksum(line)
    if wanted is not None and (place := flipped_bit(line[_HEAD:], wanted)):
        yield start + _HEAD + place[0], place[1]
    for position in range(_HEAD):  # in the checksum itself, or the space behind it
        for bit in range(8):
            head = bytearray(line[:_HEAD])
            head[position] ^= 1 << bit
            if head[-1:] == b" " and _checksum(head) == found:
                yield start + position, bit


def _lost_newline(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the checksum holds for what is before a byte that is one bit from a newline; the first alone, which a checksum tells."""
    wanted, register, done = _checksum(data[start : start + _HEAD]), 0, start + _HEAD
    if wanted is None:
        return
    for found in _NEAR_NEWLINE.finditer(data, done, min(end, start + MAX_LINE)):
        register, done = zlib.crc32(memoryview(data)[done : found.start()], register), found.start()
        if register == wanted:
            yield done, (data[done] ^ 10).bit_length() - 1
            return


def _checksum(line: bytes | bytearray) -> int | None:
    """What a line says of itself."""
    return int(line[:8], 16) if re.match(rb"[0-9a-f]{8} ", line) else None


def _flipped(data: bytes) -> Iterator[bytearray]:
    """The data with each bit flipped in turn: one array, changed in place."""
    tried = bytearray(data)
    for position in range(len(data)):
        for bit in range(8):
            tried[position] ^= 1 << bit
            yield tried
            tried[position] ^= 1 << bit


def _is_whole(data: bytearray) -> bool:
    *lines, rest = bytes(data).split(b"\n")
    return not rest and all(isinstance(unframed(line, number), dict) for number, line in enumerate(lines))


def _without_damaged(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """The records whose checksums hold and whose numbers rise, and how many lines there are besides."""
    kept: list[dict[str, Any]] = []
    lines = data.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    for line in lines:
        record = unframed(line)
        if isinstance(record, dict) and (kept[-1]["n"] + 1 if kept else 0) <= record["n"] < len(lines):
            kept.append(record)
    return kept, len(lines) - len(kept)


def _missing_marks(kept: Sequence[Mapping[str, Any]]) -> str | None:
    """What other than a result must have been among the dropped, None where all of that is there."""
    marked = {record["segment"] for record in kept if record["type"] == "part"}
    if marked and set(range(min(marked), kept[0]["segment"])) - marked:
        return "a part's checksum"
    if not any(record["type"] == "config" for record in kept):
        return "the configuration's checksum"
    return None


def flipped_bit(data: bytes, wanted: int) -> tuple[int, int] | None:
    """The (byte, bit) whose flip gives the data the CRC-32 that is wanted: the difference of the two, run backwards from the last byte."""
    table, inverse = _tables()
    starts = {table[1 << bit]: bit for bit in range(8)}
    register = zlib.crc32(data) ^ wanted
    for position in range(len(data) - 1, -1, -1):
        if register in starts:
            return position, starts[register]
        index = inverse[register >> 24]
        register = ((register ^ table[index]) << 8 | index) & 0xFFFFFFFF
    return None


@cache
def _tables() -> tuple[list[int], dict[int, int]]:
    """CRC-32 by bytes (polynomial 0xEDB88320 reflected), and which entry has a given highest byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table, {entry >> 24: index for index, entry in enumerate(table)}
