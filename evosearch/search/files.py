"""A run's files: written whole and fsynced, read within bounds; what the system refuses is said with its path and the fix."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

TEMPORARY = "_tmp."  # what begins so is the rest of a write that did not finish
FOLDERS = ("results", "damaged", "states")  # of a run
MAX_BYTES = 2**28  # of a file that is read at once: a run's folder may be a stranger's
_SEAL = re.compile(rb',\n "crc32": "([0-9a-f]{8})"\n\}\n\Z')


class LogError(ValueError):
    """The log is damaged, of another version, or in use; says which record, what is safe, what to do."""


def write_atomically(path: Path, data: bytes) -> None:
    """A file that is whole or as it was: temporary name, fsync, rename, fsync of the folder. Raises LogError with the fix."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)  # a link there may be a stranger's
        try:
            write_whole(handle, data)
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


def refuse_links(directory: Path) -> None:
    """Raises LogError where one of a run's folders is a symbolic link: what is written there would be written elsewhere."""
    for name in FOLDERS:
        if (directory / name).is_symlink():
            raise LogError(f"{directory / name} is a symbolic link, which is not followed; put the folder itself there")


def write_whole(handle: int, data: bytes) -> None:
    """Writes all of `data`: os.write may take a part of it and say so, as it does on a disk that is getting full."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def unwritable(path: Path, error: OSError) -> LogError:
    """What the system refused, of which path, how much room there is, and what to do about it."""
    fixes = {
        errno.ENOSPC: "make room there", errno.EDQUOT: "make room there (the quota is used up)", errno.EIO: "look at the disk",
        errno.ENAMETOOLONG: "choose a shorter name", errno.EISDIR: "it is a folder where a file belongs: move it away",
        errno.ENOTDIR: "a part of that path is a file: choose another folder", errno.EEXIST: "there is a file: choose another folder",
        errno.ENOENT: "a folder that was moved or deleted (resume the run where it is now), or one that cannot be: choose a folder that you may write to",
    }  # fmt: skip
    is_run = any(os.path.isfile(folder / "run.yaml") for folder in (path, path.parent, path.parent.parent))
    fix = fixes.get(error.errno or 0, "make it writable, or copy the run" if is_run else "choose a folder that you may write to")
    room = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # the disk's affair: a run that was under way goes on once it is mended
        room, fix = _free(path), f"{fix} and run again to resume: what was told before is safe"
    shown = str(path) if len(str(path)) <= 160 else f"{str(path)[:120]}...{str(path)[-30:]}"
    return LogError(f"{shown} cannot be written ({error.strerror or error}{room}); {fix}")


def _free(path: Path) -> str:
    try:
        return f"; {shutil.disk_usage(path.parent).free} bytes free"
    except OSError:  # the folder is what is wrong
        return ""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """A regular file's bytes. Raises FileNotFoundError, and LogError with the fix for a link, a device, more than `limit` bytes, and what else is refused."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would be waited for
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LogError(f"{path} is a symbolic link, which is not followed; put the file itself there") from None
        raise LogError(f"{path} cannot be read ({error.strerror or error}); make it a file that you may read") from None
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise LogError(f"{path} cannot be read (Is a directory); move it away and restore the file from a copy")
        if not stat.S_ISREG(found.st_mode):
            raise LogError(f"{path} is a device or pipe where a file belongs; remove it and restore the file from a copy")
        data = b""
        if found.st_size <= limit:
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(limit + 1)  # it may grow meanwhile
    except OSError as error:
        raise LogError(f"{path} cannot be read ({error.strerror or error}); restore it from a copy") from None
    finally:
        os.close(handle)
    if max(found.st_size, len(data)) > limit:
        raise LogError(f"{path} is longer than {limit} bytes, which no run's file is; restore it from a copy")
    return data


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record as a JSON file whose last key is the checksum of all bytes before it."""
    body = json.dumps(record, indent=1, sort_keys=True, allow_nan=False).encode()[: -len("\n}")]
    return body + b',\n "crc32": "%08x"\n}\n' % zlib.crc32(body)


def is_sealed(data: bytes) -> bool | None:
    """Whether the bytes are those that `sealed` wrote; None where there is no seal, as in the files of versions before."""
    seal = _SEAL.search(data)
    return None if seal is None else int(seal[1], 16) == zlib.crc32(data[: seal.start()])
