"""The lock of a run: one driver at a time. The kernel holds it (flock), so that it ends with its process however that ends; the file says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from evosearch.search.files import LogError, unwritable

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without a writer would be waited for
_LOOK = 0.1  # seconds after which whoever only looked (`refuse_if_held`) has let go


class Lock:
    """Held from its making until `release`. Raises LogError that names the holder, or the path that cannot be written."""

    def __init__(self, directory: Path) -> None:
        path, self._handle = directory / "lock", -1
        try:
            _make(directory)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
            _check_regular(self._handle, path)
            self._take(directory)
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(_me()).encode(), 0)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise unwritable(Path(error.filename or path), error) from error
            raise

    def _take(self, directory: Path) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _in_use(directory, os.pread(self._handle, 1000, 0)) from None

    def release(self) -> None:
        """Lets the next driver in."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def refuse_if_held(directory: Path) -> None:
    """Raises LogError where another driver holds the run, or `lock` is no file: a cheap look, before anything slow is imported; it is taken later."""
    try:
        handle = os.open(directory / "lock", os.O_RDONLY | _FLAGS)
    except OSError:  # none yet, or one that cannot be opened: whoever takes it says so
        return
    try:
        _check_regular(handle, directory / "lock")
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(directory, os.pread(handle, 1000, 0)) from None
    except OSError:
        return
    finally:
        os.close(handle)


def _check_regular(handle: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise LogError(f"{path} is a folder, pipe or device where a file belongs; remove it: it is written anew")


def _make(directory: Path) -> None:
    """The folder, whose name survives a power loss too."""
    if directory.is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    parent = os.open(directory.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _me() -> dict[str, Any]:
    """Who holds it: after a reboot, or once the process's number is another's, host and number alone would name the wrong one."""
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "started": _start(os.getpid()), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _boot() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if sys.platform == "linux" and file.exists() else ""


def _start(pid: int) -> int:
    """When a process started, in clock ticks since the boot; 0 where it is not to be known, -1 where there is no such process."""
    if sys.platform != "linux":
        return 0
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return -1


def _in_use(directory: Path, held: bytes) -> LogError:
    return LogError(f"{directory} is in use by {_holder(held, directory / 'lock')}")


def _holder(held: bytes, path: Path) -> str:
    """The holder in words, and what to do. The kernel says that somebody holds it; the file, which may be old, only who took it last."""
    try:
        owner = json.loads(held)
        host, pid, since = str(owner["host"])[:80], int(owner["pid"]), str(owner["since"])[:20]
        boot, started = owner["boot"], owner["started"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "another process; one driver a run: wait for it or stop it"
    if host != socket.gethostname():
        return (
            f"process {pid} on {host} (since {since}); one driver a run: stop it there. If that host is gone for good, delete {path} and run again: "
            "a driver that should still live there writes no more once another has opened the journal"
        )
    if boot != _boot() or started != _start(pid):  # it ended; a child that it left holds the lock
        return f"another process than the one that took it (process {pid}, since {since}, has ended); find it with `fuser {path}`"
    return f"process {pid} on {host} (since {since}); one driver a run: wait for it or stop it"
