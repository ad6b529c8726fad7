"""Which ports a search has open, as a neighbor on the network and as the machine itself see it (docs/security.md). Needs root and iproute2.

    python scripts/check_ports.py [local] [ray] [head]     # 2 to 5 minutes each; rc 1 if anything answers that should not

Each is run in a network namespace of its own, joined to a neighbor's by one cable, so that nothing else on the machine counts: `local`
a search of the executor local, `ray` one with a Ray of its own, `head` a `ray start --head` with a token as docs/cluster.md says. All
65,535 ports are connected to from both sides; what is open is asked over HTTP, without the token, for the pages that Ray has.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOUSE, NEIGHBOR = "10.231.77.1", "10.231.77.2"
PATHS = ("/", "/api/version", "/api/jobs/", "/api/cluster_status", "/api/v0/nodes", "/api/v0/logs?node_ip=" + HOUSE, "/nodes?view=summary", "/metrics",
         "/worker/traceback", "/api/healthz", "/api/local_raylet_healthz", "/api/gcs_healthz")  # fmt: skip
SETTLING = 40  # seconds, in which Ray's agents and workers come up
HEALTH = {"/api/healthz", "/api/local_raylet_healthz", "/api/gcs_healthz"}  # say that a process lives, and no more
SEARCH = ["-m", "evosearch.cli", "run", str(ROOT / "search_spaces" / "smoke.yaml"), "--set", "budget.evaluations=5000", "--workers", "2"]


def why_not() -> str | None:
    """Why namespaces cannot be made here; None where they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2 (apt-get install iproute2)"
    made = subprocess.run(["ip", "netns", "add", f"evo-try-{os.getpid()}"], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces cannot be made here ({made.stderr.strip()})"
    subprocess.run(["ip", "netns", "del", f"evo-try-{os.getpid()}"], check=True)
    return None


@contextmanager
def two_hosts() -> Iterator[tuple[list[str], list[str]]]:
    """The commands that run something in the house and at the neighbor's."""
    house, neighbor = (f"evo-{who}-{os.getpid()}" for who in ("house", "neighbor"))
    cable = [f"evo{side}{os.getpid()}"[:15] for side in "ab"]
    ip = lambda *words: subprocess.run(["ip", *words], check=True)  # noqa: E731
    try:
        for name in (house, neighbor):
            ip("netns", "add", name)
        ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for name, end, address in ((house, cable[0], HOUSE), (neighbor, cable[1], NEIGHBOR)):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/30", "dev", end)
            for link in ("lo", end):
                ip("-n", name, "link", "set", link, "up")
        yield ["ip", "netns", "exec", house], ["ip", "netns", "exec", neighbor]
    finally:
        for name in (house, neighbor):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _open_ports(host: str) -> list[int]:
    found = []
    for port in range(1, 65536):
        with socket.socket() as knock:
            knock.settimeout(2)
            if knock.connect_ex((host, port)) == 0 and knock.getsockname() != knock.getpeername():  # on one machine a socket may meet itself
                found.append(port)
    return found


def _answer(host: str, port: int, path: str) -> str:
    """The status that a request without a token gets; what it says where that is no HTTP."""
    try:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", path)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return "no HTTP"


def look(host: str) -> dict[str, dict[str, str]]:
    """Every open port of the host, and what each page of it answers."""
    return {str(port): {path: _answer(host, port, path) for path in PATHS} for port in _open_ports(host)}


def _owners(where: Sequence[str]) -> dict[str, str]:
    """Who listens, by port, and where."""
    code = (
        "import json, psutil\n"
        "name = lambda pid: ' '.join(psutil.Process(pid).cmdline())[:400] if pid else ''\n"
        "print(json.dumps([(c.laddr.port, c.laddr.ip, name(c.pid)) for c in psutil.net_connections('tcp') if c.status == 'LISTEN']))"
    )
    listening = json.loads(subprocess.run([*where, sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    return {str(port): f"{_role(command)} on {address}" for port, address, command in listening}


def _role(command: str) -> str:
    """What a process of Ray is, by its command line."""
    roles = {
        "RuntimeEnvAgent": "runtime environment agent", "DashboardAgent": "dashboard agent", "gcs_server": "GCS", "raylet/raylet": "raylet",
        "dashboard/agent.py": "dashboard agent", "runtime_env/agent": "runtime environment agent", "dashboard.py": "dashboard",
        "ray.util.client.server": "Ray client", "log_monitor": "log monitor", "ray::": "worker", "default_worker": "worker", "evosearch.cli": "evosearch",
    }  # fmt: skip
    return next((role for part, role in roles.items() if part in command), command.rpartition("/")[2][:40] or "?")


@contextmanager
def running(what: str, house: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The thing to look at, once it is at work."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder), "TMPDIR": str(folder)}
    if what == "head":
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        ray = str(Path(sys.executable).parent / "ray")
        command = [ray, "start", "--head", f"--node-ip-address={HOUSE}", "--port=6379", "--dashboard-host=127.0.0.1", "--num-cpus=1",
                   "--object-store-memory=100000000", f"--temp-dir={folder}", "--disable-usage-stats", "--block"]  # fmt: skip
    else:
        command = [sys.executable, *SEARCH, "--out", str(folder / "run"), "--executor", what]
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen([*house, *command], stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 900
        while not _at_work(what, folder):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not begin: {(folder / 'output').read_text()[-2000:]}")
            time.sleep(1)
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _gcs_answers(where: Sequence[str], environment: dict[str, str]) -> bool:
    """Whether `ray status` gets an answer from the cluster's GCS."""
    command = [*where, str(Path(sys.executable).parent / "ray"), "status", f"--address={HOUSE}:6379"]
    try:
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=120).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _at_work(what: str, folder: Path) -> bool:
    if what == "head":
        return b"Ray runtime started" in (folder / "output").read_bytes()
    if what == "ray":
        return b"\ntask " in (folder / "output").read_bytes()  # said once its Ray is there
    journal = folder / "run" / "journal.jsonl"
    return journal.exists() and journal.read_bytes().count(b'"type":"result"') >= 2


def check(what: str) -> list[str]:
    """Prints the table of one; returns what breaks the promise."""
    with two_hosts() as (house, neighbor), tempfile.TemporaryDirectory(prefix="evo") as name, running(what, house, Path(name)):
        if what != "local":
            time.sleep(SETTLING)
        owners = _owners(house)
        views = {}
        for side, where, host in (("neighbor", neighbor, HOUSE), ("itself", house, "127.0.0.1")):
            command = [*where, sys.executable, __file__, "--look", host]
            views[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}).stdout)
        asked = {}
        if what == "head":
            member = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(Path(name) / "token")}
            asked = {who: _gcs_answers(neighbor, given) for who, given in (("without a token", {"RAY_AUTH_MODE": "disabled"}), ("with it", member))}
    print(f"\n{what}: {len(views['neighbor'])} ports open to a neighbor, {len(views['itself'])} to the machine itself")
    if any(views.values()):
        print("| port | who | open to a neighbor | without a token |\n|---|---|---|---|")
    wrong = ["head: the GCS does not do as it should"] if asked and list(asked.values()) != [False, True] else []
    for port in sorted({*views["neighbor"], *views["itself"]}, key=int):
        answers = {**views["itself"].get(port, {}), **views["neighbor"].get(port, {})}
        said = ", ".join(f"{status}: {' '.join(p for p in PATHS if answers[p] == status)}" for status in dict.fromkeys(answers.values()))
        said = said if len(set(answers.values())) > 1 else said.partition(":")[0]
        print(f"| {port} | {owners.get(port, '?')} | {'yes' if port in views['neighbor'] else 'no'} | {said} |", flush=True)
        good = [path for path, status in answers.items() if status.startswith("2") and path not in HEALTH]
        if what == "local" or (what == "ray" and port in views["neighbor"]):
            wrong.append(f"{what}: port {port} is open")
        elif good:
            wrong.append(f"{what}: port {port} ({owners.get(port, '?')}) answers {' '.join(good)} without a token")
    if asked:
        said = ", ".join(f"{who} it {'answers' if answered else 'refuses'}" for who, answered in asked.items())
        print(f"the GCS, asked by a neighbor's `ray status`: {said}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["local", "ray", "head"], help="local, ray, head")
    parser.add_argument("--look", metavar="HOST", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.look:
        print(json.dumps(look(chosen.look)))
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that what was made is taken away
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        return
    wrong = [line for what in chosen.what for line in check(what)]
    print("\n" + ("\n".join(wrong) if wrong else "nothing answers that should not"))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
