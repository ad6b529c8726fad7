"""What a doctor looks at: this machine, and each node of a cluster. Findings are OK, WARN or FAIL, each with the fix."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from evosearch.execution import ExecutorError
from evosearch.execution.cluster.connect import FLOOR, join, takes_anybody
from evosearch.execution.cluster.token import VALUE, exposed, token_file
from evosearch.execution.versions import check, cpu_level, versions

OK, WARN, FAIL = "OK", "WARN", "FAIL"
_FLOORS = {"torch": (2, 10), "ray": FLOOR, "pyarrow": (14, 0)}
_LOW, _EMPTY = 5.0, 0.5  # GiB of disk
_SLOW = 0.05  # seconds of a round trip
_PATIENCE = 30.0  # seconds for all nodes together: they may have to start a worker first


@dataclass(frozen=True)
class Finding:
    """One line: how it is, what was looked at, and what to do."""

    level: str
    what: str
    fix: str = ""


def this_machine(folder: Path) -> Iterator[Finding]:
    """Versions, CPU, GPUs, disk and the token's file."""
    yield Finding(
        OK if sys.version_info >= (3, 11) else FAIL, f"Python {platform.python_version()}", "" if sys.version_info >= (3, 11) else "use 3.11 or newer"
    )
    for name, floor in _FLOORS.items():
        yield _package(name, floor)
    yield Finding(OK, f"{os.cpu_count()} cores, torch's kernels may use {cpu_level() or platform.machine()}")
    yield _gpus()
    yield _disk(folder)
    yield _token()


def _package(name: str, floor: tuple[int, ...]) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(FAIL, f"{name} is not installed", "pip install -c constraints.txt -e .")
    least = ".".join(map(str, floor))
    if tuple(int(part) for part in found.split("+")[0].split(".")[:2]) < floor:
        return Finding(FAIL, f"{name} {found} is older than {least}", f"pip install '{name}>={least}' (below, known holes are open)")
    return Finding(OK, f"{name} {found}")


def _gpus() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding(OK, "no GPU here (no nvidia-smi): --device cpu")
    asked = subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True)
    if asked.returncode:
        return Finding(FAIL, f"nvidia-smi fails: {' '.join((asked.stderr or asked.stdout).split())[:120]}", "mend the driver, or use --device cpu")
    if "+cpu" in version("torch"):
        return Finding(WARN, f"GPUs are there, and torch {version('torch')} is a CPU build", "install torch from PyPI")
    return Finding(OK, f"GPUs: {'; '.join(asked.stdout.split(chr(10))[:-1])}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    level = FAIL if free < _EMPTY else WARN if free < _LOW else OK
    return Finding(level, f"{free:.1f} GiB free in {folder.resolve()}", "" if level == OK else "make room, or use an --out elsewhere")


def _token() -> Finding:
    if os.environ.get(VALUE):
        return Finding(OK, f"the cluster's token is in {VALUE}")
    file = token_file()
    if not file.is_file():
        return Finding(OK, "no token of a cluster here (a Ray of this machine alone makes its own)")
    fault = exposed(file)
    if fault:
        return Finding(FAIL, fault.partition(":")[0], fault.partition(": ")[2])
    if stat.S_IMODE(file.parent.stat().st_mode) & 0o077:
        return Finding(WARN, f"{file.parent}, the folder of the token, is open to others", f"chmod 700 {file.parent}")
    return Finding(OK, f"the token is in {file}, for its owner alone")


def cluster(address: str, insecure: bool, capability: str) -> Iterator[Finding]:
    """Joins the cluster and looks at every node. What cannot be joined is one finding."""
    try:
        head = join(address, insecure)
    except ExecutorError as error:
        yield Finding(FAIL, str(error), "see above")
        return
    try:
        yield (
            Finding(WARN, f"{head} obeys anybody who reaches it", "start the cluster with RAY_AUTH_MODE=token")
            if takes_anybody(head)
            else Finding(OK, f"{head} asks for its token, and took ours")
        )
        nodes = [node for node in ray.nodes() if node["Alive"]]
        has = ray.cluster_resources()
        yield Finding(OK, f"{len(nodes)} node{'s' * (len(nodes) != 1)}, {has.get('CPU', 0):g} cores, {has.get('GPU', 0):g} GPUs")
        looks = [(node, *_ask(node)) for node in sorted(nodes, key=lambda node: str(node["NodeManagerAddress"]))]
        deadline = time.monotonic() + _PATIENCE
        for node, asked, answer in looks:
            yield from _node(node, asked, answer, deadline, capability)
    finally:
        ray.shutdown()


def _ask(node: dict[str, Any]) -> tuple[Any, Any]:
    """The look as a task for that node, and the answer to come; it asks for no core, for a run may have them all."""
    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    asked = ray.remote(num_cpus=0, max_retries=0)(_look).options(scheduling_strategy=place)
    return asked, asked.remote()


def _node(node: dict[str, Any], asked: Any, answer: Any, deadline: float, capability: str) -> Iterator[Finding]:
    name, resources = node["NodeManagerAddress"], node["Resources"]
    try:
        seen = ray.get(answer, timeout=max(0.0, deadline - time.monotonic()))
        start = time.perf_counter()
        for _ in range(10):
            ray.get(asked.remote(), timeout=_PATIENCE)
        trip = (time.perf_counter() - start) / 10
    except ray.exceptions.RayTaskError as error:
        yield Finding(FAIL, f"{name}: evosearch does not run there: {str(error.cause)[:200]}", "install it on that node, and start its Ray again")
        return
    except ray.exceptions.GetTimeoutError:
        if ray.available_resources().get("CPU", 0) < 1:
            yield Finding(WARN, f"{name}: not looked at: no free core within {_PATIENCE:g} s, a run is using them", "ask again when it has ended")
        else:
            yield Finding(FAIL, f"{name}: starts no worker within {_PATIENCE:g} s", "look at its Ray's logs, raylet.out first")
        return
    except ray.exceptions.RayError as error:
        yield Finding(FAIL, f"{name}: starts no worker: {' '.join(str(error).split())[:160]}", "look at its Ray's logs, raylet.out first")
        return
    try:
        check(versions(), seen["versions"], capability)
        yield Finding(OK, f"{name}: the same Python, torch {seen['versions']['torch']} and evosearch as here; {seen['versions']['cpu'] or 'not x86'}")
    except ExecutorError as error:
        what, _, fix = str(error).partition("; ")
        yield Finding(FAIL, f"{name}: {what}", fix)
    yield Finding(WARN if trip > _SLOW else OK, f"{name}: a round trip takes {1000 * trip:.1f} ms", "it is far away, or busy" if trip > _SLOW else "")
    level = FAIL if seen["free"] < _EMPTY else WARN if seen["free"] < _LOW else OK
    yield Finding(level, f"{name}: {seen['free']:.1f} GiB free in {seen['folder']}", "" if level == OK else "make room there")
    if seen["gpus"] != resources.get("GPU", 0):
        yield Finding(
            WARN, f"{name}: {seen['gpus']} GPUs by nvidia-smi, {resources.get('GPU', 0):g} by Ray", "start its Ray with --num-gpus as it is, or mend the driver"
        )


def _look() -> dict[str, Any]:
    """Runs on the node."""
    folder = str(Path.home())
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout if shutil.which("nvidia-smi") else ""
    return {
        "versions": {**versions(), "host": socket.gethostname(), "cpu": cpu_level()}, "free": shutil.disk_usage(folder).free / 2**30, "folder": folder,
        "gpus": sum(line.startswith("GPU ") for line in listed.splitlines()),
    }  # fmt: skip
