"""Hosts of a network on this one machine: a network namespace each, on a bridge in a namespace of its own.

A Ray on such a host believes that it is alone on its machine. Needs root and iproute2; `why_not()` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

SUBNET = "10.77.0"
PORT = 6379
TOKEN = "a-token-of-the-tests-0123456789abcdef"  # of hosts that nobody else reaches


def why_not() -> str | None:
    """Why there can be no hosts here; None where there can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and iproute2's `ip`"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"evo{os.getpid()}probe"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "this machine makes no network namespaces (in a container without the right to?)"
    _ip("netns", "del", name)
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Host:
    """One machine: an address, a folder, and whatever was started there."""

    def __init__(self, lan: Lan, number: int) -> None:
        self.space, self.address = f"{lan.name}h{number}", f"{SUBNET}.{number}"
        self.folder = lan.folder / f"h{number}"
        self._lan, self._port = lan, f"p{number}"
        self.folder.mkdir()
        _ip("netns", "add", self.space)
        _ip("link", "add", "eth0", "netns", self.space, "type", "veth", "peer", "name", self._port, "netns", lan.switch)
        _ip("-n", lan.switch, "link", "set", self._port, "master", "br0", "up")
        _ip("-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", self.space, "link", "set", device, "up")

    def popen(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        """Starts the command on this host."""
        environment = {**os.environ, **self._lan.environment, "HOME": str(self.folder)}
        command = ["ip", "netns", "exec", self.space, *command]
        return subprocess.Popen(command, text=True, env=environment, start_new_session=True, **options)  # type: ignore[call-overload, no-any-return]

    def start_ray(self, head: Host | None = None, cpus: int = 1, *more: str) -> None:
        """A head, or a worker of `head`; returns when it has joined."""
        role = ["--head", f"--port={PORT}"] if head is None else [f"--address={head.address}:{PORT}"]
        if head is None and "--include-dashboard=true" not in more:
            more = (*more, "--include-dashboard=false")
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", *role, f"--node-ip-address={self.address}", f"--num-cpus={cpus}",
            f"--temp-dir={self.folder}", "--object-store-memory=80000000", "--disable-usage-stats", *more,
        ]  # fmt: skip
        with open(self.folder / "start.log", "w") as log:
            code = self.popen(command, stdout=log, stderr=subprocess.STDOUT).wait(240)  # seconds of a loaded machine
        assert code == 0, (self.folder / "start.log").read_text()

    def processes(self, word: str = "") -> list[psutil.Process]:
        """What runs on this host with the word in its command line."""
        listing = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True)
        return [process for pid in listing.stdout.split() for process in _named(int(pid), word)]

    def kill(self, word: str = "", number: int = signal.SIGKILL) -> int:
        """Signals those processes; how many."""
        found = self.processes(word)
        for process in found:
            os.kill(process.pid, number)
        return len(found)

    def cut(self) -> None:
        """Pulls the plug of the network."""
        _ip("-n", self._lan.switch, "link", "set", self._port, "down")

    def heal(self) -> None:
        """Puts it back."""
        _ip("-n", self._lan.switch, "link", "set", self._port, "up")

    def close(self) -> None:
        deadline = time.monotonic() + 10
        while self.kill() and time.monotonic() < deadline:
            time.sleep(0.1)
        _ip("netns", "del", self.space)


def _named(pid: int, word: str) -> Iterator[psutil.Process]:
    try:
        process = psutil.Process(pid)
        if word in " ".join([process.name(), *process.cmdline()]) and process.status() != psutil.STATUS_ZOMBIE:
            yield process
    except psutil.NoSuchProcess:
        return


class Lan:
    """The network. Ends with everything on it."""

    def __init__(self, **environment: str) -> None:
        self.name = f"e{os.getpid()}"
        # niced by 15, as Ray would have them, workers starve beside other tests
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_worker_niceness": "0", **environment}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.folder = Path(tempfile.mkdtemp(prefix="evo-", dir="/tmp"))  # short: a Unix socket's path has at most 107 letters
        self.switch = f"{self.name}sw"
        self.hosts: list[Host] = []
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "br0", "up")

    def host(self) -> Host:
        """One more machine."""
        self.hosts.append(Host(self, len(self.hosts) + 1))
        return self.hosts[-1]

    def __enter__(self) -> Lan:
        return self

    def __exit__(self, *failure: object) -> None:
        for host in reversed(self.hosts):
            host.close()
        _ip("netns", "del", self.switch)
        shutil.rmtree(self.folder, ignore_errors=True)
