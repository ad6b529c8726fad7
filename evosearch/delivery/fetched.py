"""A run that was brought home from a cluster: a folder that the next fetch of the same run may replace, and no other folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from evosearch.delivery.parcel import LARGEST, unpack
from evosearch.search.store import LogError, read_journal, write_atomically

MARK = "fetched"  # a file in the folder: the digest of the configuration with which the run was begun
LOCK = "lock"  # whoever drives a run leaves it behind


def refuse_unless_fetched(directory: Path) -> None:
    """Raises LogError for a folder that is there and no fetched copy, or that was driven from here: that would be lost."""
    if not os.path.lexists(directory):
        return
    if not (directory / MARK).is_file() or directory.is_symlink():
        raise LogError(f"{directory} is there already, and no fetch made it; choose another folder with --out")
    if os.path.lexists(directory / LOCK):
        raise LogError(f"{directory} was fetched, and the run went on from here (it has a lock); choose another folder with --out")


def bring(lines: Iterable[str], directory: Path, largest: int = LARGEST) -> int:
    """Writes the run of a parcel's lines, in place of an earlier fetch of it; returns the bytes.

    What else was put into that folder, as verify.json, is kept. Raises LogError; then the folder is as it was.
    """
    refuse_unless_fetched(directory)
    fresh, before = (directory.with_name(f".{word}-{os.getpid()}-{directory.name}") for word in ("fetched", "before"))
    try:
        size = unpack(lines, fresh, largest)
        write_atomically(fresh / MARK, _begun_with(fresh).encode())
        if not directory.exists():
            os.rename(fresh, directory)
            return size
        if (directory / MARK).read_text(encoding="utf-8") != _begun_with(fresh):
            raise LogError(f"{directory} holds an earlier fetch of another run; choose another folder with --out")
        _replace(directory, fresh, before)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(before)
    return size


def _begun_with(directory: Path) -> str:
    """What tells one run from another: a run is made by its configuration."""
    marks = [record for record in read_journal(directory / "journal.jsonl")[0] if record["type"] == "config"]
    if not marks:
        raise LogError("the parcel holds a run whose journal does not say with what it was begun; fetch it with rsync")
    return str(marks[0]["sha256"])


def _replace(directory: Path, fresh: Path, before: Path) -> None:
    """Two renames; a driver that begins in between finds its folder back."""
    ours = {file.name for file in fresh.iterdir()} | {"status.json", "summary.json", "report.html"}
    os.rename(directory, before)
    try:
        if os.path.lexists(before / LOCK):
            raise LogError(f"{directory} is driven from here; choose another folder with --out")
        for file in before.iterdir():
            if file.name not in ours:
                shutil.copytree(file, fresh / file.name, symlinks=True) if file.is_dir() else shutil.copy2(file, fresh / file.name, follow_symlinks=False)
        os.rename(fresh, directory)
    except BaseException:
        os.rename(before, directory)
        raise
