"""What the scores of a worker depend on besides the plan: compared before a worker gets its first job."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from evosearch.execution import ExecutorError

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "scikit-image", "sympy")  # what trains, and where the data come from
_LEVELS = ("DEFAULT", "AVX2", "AVX512")  # torch's names, each can do what those before can
_NEEDS = {"AVX2": {"avx2", "fma"}, "AVX512": {"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"}}


@cache
def versions() -> dict[str, str]:
    """Python, the packages that a score depends on, evosearch and a digest of its source."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), **{name: version(name) for name in _PACKAGES}}
    return {**found, "evosearch": version("evosearch"), "source": source_digest()}


def source_digest() -> str:
    """SHA-256 over the package's own files, first 16 hex digits."""
    digest = hashlib.sha256()
    for name, file in sorted(_source(files("evosearch"), "")):
        data = file.read_bytes()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


def _source(folder: Traversable, path: str) -> list[tuple[str, Traversable]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in ("__pycache__", "search_spaces"):  # the spaces lie elsewhere in a checkout
            found += _source(entry, f"{path}{entry.name}/")
        elif entry.name.endswith((".py", ".toml")):
            found.append((path + entry.name, entry))
    return found


def cpu_level() -> str:
    """The best instruction set that torch's kernels could use here, by torch's name; empty where it is not x86."""
    if platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"):
        return ""
    line = next((text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("flags")), "")
    flags = set(line.split())
    return max((level for level in _LEVELS if _NEEDS.get(level, set()) <= flags), key=_LEVELS.index)


def check(ours: Mapping[str, str], theirs: Mapping[str, str], capability: str) -> None:
    """Raises ExecutorError unless the worker that said `theirs` would compute what we would, at this CPU capability."""
    node = theirs.get("host", "?")
    for name, here in ours.items():
        there = theirs.get(name, "none")
        if there != here:
            raise ExecutorError(f"{_shown(name)} on the node {node} is {there}, here {here}: scores would not compare; {_fix(name, here)}")
    if capability in _LEVELS and theirs.get("cpu") in _LEVELS and _LEVELS.index(theirs["cpu"]) < _LEVELS.index(capability):
        raise ExecutorError(
            f"the CPU of the node {node} can do {theirs['cpu']}, the driver's {capability}, and the last bits of a score depend on it; "
            f"start the run with ATEN_CPU_CAPABILITY={theirs['cpu'].lower()} in the environment, or leave that node out"
        )


def _shown(name: str) -> str:
    return {"python": "Python", "source": "the source of evosearch (its digest)"}.get(name, name)


def _fix(name: str, here: str) -> str:
    if name == "python":
        return f"install evosearch there under Python {here}"
    if name in ("evosearch", "source"):
        return "install the same evosearch on every node, and start their Ray again"
    return f"install {name}=={here} there (pip install -c constraints.txt), and start its Ray again"
