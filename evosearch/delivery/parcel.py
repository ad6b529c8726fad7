"""A run as lines of text, and a run's folder of such lines: how `evosearch fetch` brings a run home where no disk is shared.

A line carries a piece of one file, with the file's size and SHA-256. What comes in is a stranger's: only the names that a
run has are taken, in the sizes that they declare, and nothing is a run's folder before all of it is there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from evosearch.search.store import LogError, read_bytes

MARK = "evosearch-parcel "  # begins each line: a job's log holds others too
PIECE = 1 << 18  # bytes of a file in one line
LARGEST = 256 << 20  # bytes of a whole run
_NAMES = re.compile(r"run\.yaml|journal\.jsonl|status\.json|summary\.json|results/part-\d{6,9}\.parquet")


def pack(directory: Path, largest: int = LARGEST) -> Iterator[str]:
    """The lines of a run's folder, also while its driver writes. Raises LogError for what is no run, and for one that is too large."""
    if not (directory / "run.yaml").is_file():
        raise LogError(f"{directory} is not a run (it has no run.yaml); the name of a job is the name of its run's folder")
    sent = 0
    for name, data in _files(directory):
        sent += len(data)
        if sent > largest:
            raise LogError(f"{directory} has more than {largest >> 20} MB, too much for a job's log: copy it with rsync")
        head = {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for start in range(0, max(1, len(data)), PIECE):
            piece = base64.b64encode(zlib.compress(data[start : start + PIECE])).decode()
            yield MARK + json.dumps({**head, "start": start, "data": piece})
    yield MARK + json.dumps({"end": True})


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes. The journal is read before the parts, and of these only those that it counts: one moment of the run."""
    for name in ("status.json", "summary.json", "run.yaml"):
        if (directory / name).is_file():
            yield name, read_bytes(directory / name)
    journal = read_bytes(directory / "journal.jsonl")
    segment = json.loads(journal.split(b"\n", 1)[0].partition(b" ")[2])["segment"]
    yield "journal.jsonl", journal
    for number in range(int(segment)):
        name = f"results/part-{number:06d}.parquet"
        yield name, read_bytes(directory / name)


def unpack(lines: Iterable[str], directory: Path, largest: int = LARGEST) -> int:
    """Writes the run's folder, which must not be there yet; returns the bytes. Raises LogError for a parcel that is damaged."""
    if os.path.lexists(directory):
        raise LogError(f"{directory} is there already; choose another folder with --out")
    files = _gather(lines, largest)
    if not {"run.yaml", "journal.jsonl"} <= files.keys():
        raise LogError("the parcel holds no run (neither run.yaml nor journal.jsonl is in it)")
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.with_name(f".fetch-{os.getpid()}-{directory.name}")
    try:
        (unfinished / "results").mkdir(parents=True)
        for name, data in files.items():
            (unfinished / name).write_bytes(data)
        os.rename(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sum(map(len, files.values()))


def _gather(lines: Iterable[str], largest: int) -> dict[str, bytes]:
    found, promised, is_whole = dict[str, bytearray](), dict[str, tuple[int, str]](), False
    for line in lines:
        if not line.startswith(MARK):
            continue
        try:
            piece = json.loads(line[len(MARK) :])
            if piece.get("end") is True:
                is_whole = True
                continue
            name, size, digest, start = str(piece["name"]), int(piece["size"]), str(piece["sha256"]), int(piece["start"])
            unpacking = zlib.decompressobj()
            data = unpacking.decompress(base64.b64decode(piece["data"], validate=True), PIECE + 1)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, binascii.Error, zlib.error, RecursionError) as error:
            raise LogError(f"a line of the parcel is damaged ({type(error).__name__}); fetch it again") from None
        if not _NAMES.fullmatch(name):
            raise LogError(f"the parcel holds a file that no run has ({name[:80]!r}); nothing was written")
        so_far = found.setdefault(name, bytearray())
        if promised.setdefault(name, (size, digest)) != (size, digest) or start != len(so_far) or len(data) > PIECE:
            raise LogError(f"the pieces of {name} do not fit together; fetch it again")
        so_far += data
        if len(so_far) > size or sum(map(len, found.values())) > largest:
            raise LogError(f"the parcel is larger than it says, or than {largest >> 20} MB; nothing was written")
    if not is_whole:
        raise LogError("the parcel is not whole: the job that sends it ended early, or its log was cut; fetch it again")
    for name, held in found.items():
        if (len(held), hashlib.sha256(held).hexdigest()) != promised[name]:
            raise LogError(f"{name} is not as it was sent; fetch it again")
    return {name: bytes(data) for name, data in found.items()}
