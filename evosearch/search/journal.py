"""The open segment of a log: one line a record, `CRC32 of the JSON, a space, the JSON`, numbered from 0. Nothing of it is believed unread.

A tail without its newline is torn: nobody was told that it was written. So is one with a hole of zeros and no sound record
behind it, as power loss leaves it where the disk wrote blocks out of order. Damage anywhere else is an error that names the record.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evosearch.job import is_number
from evosearch.search.files import LogError, read_bytes

Row = dict[str, Any]

MAX_LINE = 2**23  # bytes of a record
COLUMNS: Mapping[str, type] = {
    "index": int, "ask": int, "attempt": int, "candidate": str, "canonical_id": str, "parents": str, "proposer": str, "stage": str, "status": str,
    "reason": str, "duplicate_of": int, "seed": int, "device": str, "worker": str, "error": str, "figure": float,
}  # fmt: skip
TABLES = ("objectives", "scores", "rates", "seconds")  # of a row, each a mapping to floats
_GIVEN = ("ask", "attempt", "candidate", "status")  # in every row; any other column may be empty
_NUMBER_OF_SEGMENT = 10**6  # parts' names have six digits


def frame(record: Mapping[str, Any]) -> bytes:
    """A record as its line. Raises ValueError for one that is not JSON, or too long to be read again."""
    body = json.dumps(record, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > MAX_LINE - 10:
        raise ValueError(f"a record of the log has at most {MAX_LINE} bytes; received {len(body)}")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int, bool]:
    """The journal's records, the byte length that is sound, and whether a torn tail follows it. Raises LogError for damage inside."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        data = b""
    records: list[dict[str, Any]] = []
    position = 0
    while position < len(data):
        end = data.find(b"\n", position)
        found = unframed(data[position:end], len(records)) if end >= 0 else "without its newline"
        if isinstance(found, str):
            if not _is_torn(data[position:], len(records)):
                raise LogError(f"record {len(records)} of {path} is damaged ({found}), {_place(data, end)}")
            if not records and not _begins(data):
                raise LogError(f"record 0 of {path} is damaged, there is no other; restore the file from a copy")
            return records, position, True
        records.append(found)
        position = end + 1
    return records, position, False


def _place(data: bytes, end: int) -> str:
    if 0 <= end < len(data) - 1:
        return "later records follow; `evosearch repair` mends a single flipped bit, else restore the file from a copy"
    return "it is the last one; restore the file from a copy, or `evosearch repair` mends or drops it, and its job is asked again"


def _is_torn(rest: bytes, number: int) -> bool:
    """Whether what follows the sound records is a write that did not finish. A whole record with a foreign byte for its newline is none."""
    if b"\n" not in rest:
        return rest[-1] == 0 or isinstance(unframed(rest[:-1], number), str)
    return b"\0\0" in rest and not any(re.match(rb"[0-9a-f]{8} \{", line) and _checksum_holds(line) for line in rest.split(b"\n"))


def _begins(data: bytes) -> bool:
    """Whether this may be the beginning of a record; a tail after others may hold anything, as power loss leaves it."""
    return re.match(rb"[0-9a-f]{8} \{|[0-9a-f]{0,8} ?\Z", data) is not None


def _checksum_holds(line: bytes) -> bool:
    checksum, _, body = line.partition(b" ")
    return re.fullmatch(rb"[0-9a-f]{8}", checksum) is not None and int(checksum, 16) == zlib.crc32(body)


def unframed(line: bytes, number: int | None = None) -> dict[str, Any] | str:
    """The record of a line that is the `number`-th of its journal (None: of any number), or what is wrong with it."""
    if len(line) > MAX_LINE:
        return f"longer than {MAX_LINE} bytes"
    if not _checksum_holds(line):
        return "its checksum does not hold"
    try:
        record = json.loads(line.partition(b" ")[2], parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {str(error)[:60]}"
    if not isinstance(record, dict):
        return "it is no mapping"
    if type(record.get("n")) is not int or number not in (None, record["n"]):
        return f"it is numbered {str(record.get('n'))[:20]}"
    return _fault(record) or record


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _fault(record: Mapping[str, Any]) -> str | None:
    """What keeps a record from being used: with a true checksum it is not damage but another writer's."""
    wanted: Mapping[str, tuple[str, type]] = {"open": ("segment", int), "part": ("crc32", int), "result": ("rows", list), "config": ("sha256", str)}
    kind = record.get("type")
    if not isinstance(kind, str):
        return "it has no type"
    key, of = wanted.get(kind, ("type", str))
    if type(record.get(key)) is not of:
        return f"a record `{kind}` has no `{key}`"
    if kind in ("open", "part") and not (type(record.get("segment")) is int and 0 <= record["segment"] < _NUMBER_OF_SEGMENT):
        return f"a record `{kind}` has no number of a segment"
    if kind == "result":
        return next((fault for row in record["rows"] if (fault := row_fault(row))), None)
    return f"a record `{kind}` is not as it is written" if kind in _SOUND and not _SOUND[kind](record) else None


def _is_scale(record: Mapping[str, Any]) -> bool:
    tables = [record.get(name) for name in ("center", "spread", "quality")]
    if not all(isinstance(table, dict) and all(map(is_number, table.values())) for table in tables):
        return False
    center, spread, _ = tables
    return bool(center) and center.keys() == spread.keys() and all(value > 0 for value in spread.values())  # type: ignore[union-attr]


def _is_tuning(record: Mapping[str, Any]) -> bool:
    begin, end = record.get("from"), record.get("to")
    return type(begin) is int and type(end) is int and 0 <= begin <= end < 2**63


def _is_change(record: Mapping[str, Any]) -> bool:
    config = record.get("config", [])  # the first version had other keys
    return isinstance(config, list) and all(isinstance(line, str) for line in config)


_SOUND: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "scale": _is_scale, "tuning": _is_tuning, "change": _is_change, "config": lambda record: isinstance(record.get("file", ""), str),
}  # fmt: skip


def row_fault(row: object) -> str | None:
    """What is wrong with a row's columns and their types; None for a sound one."""
    if not isinstance(row, dict):
        return "a row is no mapping"
    for name, kind in COLUMNS.items():
        value = row.get(name)
        if value is None and name not in _GIVEN:
            continue
        if kind is float and is_number(value):
            continue
        if type(value) is not kind or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            return f"`{name}` of a row is {str(value)[:40]!r}"
    for name in TABLES:
        table = row.get(name, {})
        if not isinstance(table, dict) or not all(map(is_number, table.values())):
            return f"`{name}` of a row holds something else than numbers"
    return None


def rows_of(records: list[dict[str, Any]]) -> list[Row]:
    """The rows of a journal's results, every column there."""
    empty: Row = {**dict.fromkeys(COLUMNS), **{table: {} for table in TABLES}}
    return [{**empty, **row} for record in records if record["type"] == "result" for row in record["rows"]]
