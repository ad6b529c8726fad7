"""Processes as the kernel shows them: who lives, how one ended, and how to end it with all that it started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"SIG{number}"


def is_dead(pid: int) -> bool:
    """Whether that child has ended, leaving it to be reaped."""
    return sys.platform == "linux" and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end(pid: int) -> int:
    """Kills the child and its group, reaps it, and returns its wait status."""
    for kill in (os.killpg, os.kill):  # it may not have made its group yet
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # gone already: that is the aim
    return os.waitpid(pid, 0)[1]


def end_strays(helpers: set[int]) -> None:
    """Kills and reaps every child but the helpers: as subreaper, the orphans of a child are our children."""
    while strays := children() - helpers:
        for stray in strays:
            end(stray)


def children() -> set[int]:
    """The children of this process; none where the system does not list them."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in listing.read_text().split()} if listing.exists() else set()


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    counters = Path("/proc/vmstat")
    if not counters.exists():
        return 0
    return next((int(line.split()[1]) for line in counters.read_text().splitlines() if line.startswith("oom_kill ")), 0)


def prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the closed pipe and the process group have to do."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
