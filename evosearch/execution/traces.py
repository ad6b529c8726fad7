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
from typing import Any

from evosearch.execution.processes import children, read

_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_AS"]
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_KERNEL = (b"Threads:", b"Umask:", b"SigBlk:", b"SigIgn:", b"SigCgt:", b"NoNewPrivs:")
_TINY, _ONE, _ULP = 5e-324, 1.0, 1.2e-16  # what the floating-point unit makes of them tells how it rounds; as text, for it may compare so too


def reset_randomness() -> None:
    """Puts the generators of Python, numpy and torch to where every job begins: who draws without a seed of his own gets the same in every worker."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    torch = sys.modules.get("torch")
    if torch:
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)


def traces() -> list[Any]:
    """Everything else, to be compared with what it was."""
    return [
        *_process(), os.environ.copy(), locale.setlocale(locale.LC_ALL), sys.path[:], sys.getrecursionlimit(), sys.getswitchinterval(),
        sys.gettrace(), sys.getprofile(), sys.excepthook, sys.stdin, sys.stdout, sys.stderr, gc.isenabled(), gc.get_threshold(),
        atexit._ncallbacks(), vars(builtins).copy(), warnings.filters[:], [signal.getitimer(timer) for timer in _TIMERS],
        *map(float.hex, (_TINY * _ONE, _ONE + _ULP, -_ONE - _ULP)), *_numpy(), *_torch(),
    ]  # fmt: skip


def is_unchanged(before: list[Any]) -> bool:
    """Whether the process is as it was; not if it cannot tell any more, for want of files, memory or stack."""
    try:
        return traces() == before
    except Exception:
        return False


def _process() -> list[Any]:
    found: list[Any] = [os.getcwd(), os.getpgid(0), os.getsid(0), os.getpriority(os.PRIO_PROCESS, 0)]
    found += [resource.getrlimit(resource.RLIMIT_AS)[1], *(resource.getrlimit(limit) for limit in _LIMITS)]
    if sys.platform == "linux":
        status = read("/proc/self/status")
        found += [status[start : status.find(b"\n", start)] for start in map(status.find, _KERNEL)]
        found += [os.listdir("/proc/self/fd"), os.sched_getaffinity(0), children()]
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
