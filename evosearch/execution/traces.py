"""What a job can leave behind in the process that it ran in, so that another one after it would see it.

A child does one job after the other only as long as nothing of this differs from what the first one found. torch and
numpy are looked at where the entry has loaded them, and not imported for it.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import locale
import os
import random
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_AS"]
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_KERNEL = ("Threads", "Umask", "SigBlk", "SigIgn", "SigCgt", "Seccomp", "NoNewPrivs")
_TINY, _ONE, _ULP = 5e-324, 1.0, 1.2e-16  # what the floating-point unit makes of them tells how it rounds


def restore_randomness() -> Callable[[], None]:
    """A function that puts the generators of Python, numpy and torch back to where they are now: drawing is no trace."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    ours = random.getstate()
    theirs = numpy.get_state() if numpy else None
    tensor = torch.random.get_rng_state() if torch else None
    devices = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else None

    def restore() -> None:
        random.setstate(ours)
        if numpy:
            numpy.set_state(theirs)
        if torch:
            torch.random.set_rng_state(tensor)
            if devices:
                torch.cuda.set_rng_state_all(devices)

    return restore


def traces() -> list[Any]:
    """Everything else, to be compared with what it was."""
    return [
        *_process(), dict(os.environ), locale.setlocale(locale.LC_ALL), list(sys.path), sys.getrecursionlimit(),
        sys.gettrace(), sys.getprofile(), sys.excepthook, sys.stdin, sys.stdout, sys.stderr, sys.getswitchinterval(),
        gc.isenabled(), gc.get_threshold(), atexit._ncallbacks(), dict(vars(builtins)), list(warnings.filters),
        [signal.getsignal(number) for number in signal.valid_signals()], [signal.getitimer(timer) for timer in _TIMERS],
        _TINY * _ONE, _ONE + _ULP, -_ONE - _ULP, *_numpy(), *_torch(),
    ]  # fmt: skip


def _process() -> list[Any]:
    found: list[Any] = [os.getcwd(), os.getpgid(0), os.getsid(0), os.getpriority(os.PRIO_PROCESS, 0)]
    found += [resource.getrlimit(resource.RLIMIT_AS)[1], *(resource.getrlimit(limit) for limit in _LIMITS)]
    if sys.platform == "linux":
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        found += [fields.get(name) for name in _KERNEL]
        found += [os.listdir("/proc/self/fd"), Path(f"/proc/self/task/{os.getpid()}/children").read_text(), os.sched_getaffinity(0)]
    return found


def _numpy() -> list[Any]:
    numpy = sys.modules.get("numpy")
    return [numpy.geterr()] if numpy else []


def _torch() -> list[Any]:
    torch = sys.modules.get("torch")
    if not torch:
        return []
    return [
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), torch.is_anomaly_enabled(),
        torch.is_autocast_enabled("cpu"), torch.backends.mkldnn.enabled,
    ]  # fmt: skip
