"""Processes as the kernel shows them: who lives, how one ended, and how to end it with all that it started.

What depends on /proc does nothing where there is none; there the closed pipe and the process group have to do.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_BREATH = 0.002  # seconds in which the killed can end
_PAGE = resource.getpagesize()


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"SIG{number}"


def is_dead(pid: int) -> bool:
    """Whether that child has ended, leaving it to be reaped."""
    return sys.platform == "linux" and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal and does not run until another one wakes it."""
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] == [b"T"]


def end(pid: int) -> int:
    """Kills the child with all below it, reaps it, and returns its wait status."""
    while True:
        for member in family(pid):
            _kill(member)
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(_BREATH)


def end_strays(helpers: set[int]) -> None:
    """Kills and reaps every child but the helpers, and theirs: as subreaper, the orphans of a child are our children.

    Whoever forks faster than we kill leaves orphans, which come to us: so again and again until there are none.
    """
    while strays := children() - helpers:
        for pid in [pid for stray in strays for pid in family(stray)]:
            _kill(pid)
        gone = [stray for stray in strays if os.waitpid(stray, os.WNOHANG)[0]]
        if len(gone) < len(strays):
            time.sleep(_BREATH)


def end_marked(mark: str) -> None:
    """Kills every process of ours whose environment was begun with this text: what a killed worker has left behind."""
    while found := [pid for pid in _all() if mark.encode() in read(f"/proc/{pid}/environ")]:
        for pid in found:
            _kill(pid)


def children(pid: int | None = None) -> set[int]:
    """The children of that process, or of this one, which has one thread."""
    if pid is None:
        return set(map(int, read("/proc/thread-self/children").split()))
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it is gone, or there is no /proc
        return set()
    return {int(child) for thread in threads for child in read(f"/proc/{pid}/task/{thread}/children").split()}


def family(pid: int) -> list[int]:
    """The process and all below it, parents first."""
    found = [pid]
    for member in found:  # it grows as we go
        found += children(member)
    return found


def resident(pid: int) -> int:
    """Bytes of memory of its own, without files, that the process has now; 0 when it is gone."""
    pages = read(f"/proc/{pid}/statm").split()
    return (int(pages[1]) - int(pages[2])) * _PAGE if pages else 0


def ceiling(memory_limit: int) -> int:
    """The limit on this process's address space, in bytes, that leaves it so many more; 0 for none."""
    pages = read("/proc/self/statm").split()
    return int(pages[0]) * _PAGE + memory_limit if pages and memory_limit else 0


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    return next((int(line.split()[1]) for line in read("/proc/vmstat").splitlines() if line.startswith(b"oom_kill ")), 0)


def prctl(option: int, value: int) -> None:
    """Linux only."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not have made its group yet
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # gone already: that is the aim


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()] if Path("/proc").exists() else []


def read(path: str) -> bytes:
    """A file of /proc; nothing when the process is gone, is another user's, or there is no /proc."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
