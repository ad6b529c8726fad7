"""Joining a Ray cluster, or starting a Ray of one's own: with a token, or not without being told so."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from evosearch.execution import ExecutorError
from evosearch.execution.cluster.token import MODE, VALUE, has_token

FLOOR = (2, 54)  # below, strangers could run code on a cluster (CVE-2026-27482)
_STORE = 100 * 2**20  # bytes of object store: only short texts travel
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
_STRANGER = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).check_alive([], timeout=5)
except Exception as error:
    print(type(error).__name__)
else:
    print("accepted")
"""


class ClusterLost(ExecutorError):
    """The head of the cluster has ended, or cannot be reached; what was told is kept, and the run resumes."""


def check_floor() -> None:
    """Raises ExecutorError for a Ray that strangers could command."""
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < FLOOR:
        raise ExecutorError(f"evosearch needs Ray {FLOOR[0]}.{FLOOR[1]} or newer, below strangers can run code on a cluster; received {ray.__version__}")


def join(address: str, insecure: bool) -> str:
    """Joins the cluster at `auto` or `host:port`; returns the address of its head, `host:port`.

    Raises ExecutorError for an address that is none, a cluster that does not answer or refuses the token, and one without
    tokens unless `insecure`.
    """
    check_floor()
    if "://" in address:
        raise ExecutorError(f"an address of a cluster is auto or host:port, e.g. 10.0.0.1:6379; received {address[:80]} (`evosearch submit` takes http://)")
    authenticate(insecure)
    head = _head_of(address)
    reach(head)
    if takes_anybody(head):
        anybody = f"the Ray cluster at {head} takes commands from anybody who reaches its ports"
        if not insecure:
            raise ExecutorError(f"{anybody}; start it with RAY_AUTH_MODE=token (docs/cluster.md), or say --insecure-cluster in a network that you trust")
        print(f"evosearch: warning: {anybody}; whoever does can run code as you on every node", file=sys.stderr, flush=True)
    _hush()
    try:
        ray.init(address=head, **_QUIET)
    except (ConnectionError, RuntimeError) as error:
        raise ExecutorError(f"no Ray cluster could be joined at {head}: {str(error)[:200]}") from None
    return head


def authenticate(insecure: bool) -> None:
    """Tells Ray to use the token; without one, only if `insecure`. Raises ExecutorError."""
    if has_token():
        _set_mode("token")
    elif insecure:
        _set_mode("disabled")
    else:
        raise ExecutorError(
            "there is no token of the cluster: copy it from the head to ~/.ray/auth_token (chmod 600) or set RAY_AUTH_TOKEN; "
            "for a cluster without tokens, in a network that you trust, say --insecure-cluster"
        )


def _hush() -> None:
    """Keeps the last lines of a raylet's log, which Ray prints for each worker that ends, out of our output: they stay in Ray's logs."""
    ray._private.worker.print_to_stdstream = lambda data, ignore_prefix=False: None


def _set_mode(mode: str) -> None:
    os.environ[MODE] = mode
    ray._raylet.Config.initialize("")  # Ray has read the environment when it was imported


def _head_of(address: str) -> str:
    """`host:port` of the head; `auto` is the cluster of this machine."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
        if not host or not is_port or any(len(label) > 63 for label in host.split(".")):
            raise ExecutorError(f"an address of a cluster is auto or host:port, e.g. 10.0.0.1:6379; received {address[:80]}")
        return address
    try:
        return str(ray._private.services.canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError:
        raise ExecutorError("no Ray cluster runs on this machine; start one with `ray start --head`, or name its address") from None


def answers(head: str, timeout: float = 3.0) -> bool:
    """Whether somebody listens at the head's port."""
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError:
        return False
    return True


def reach(head: str) -> None:
    """Raises ExecutorError unless the head answers, to our token: `ray.init` would try for 20 s and not say why."""
    if not answers(head):
        raise ExecutorError(f"no Ray cluster answers at {head}; is it running (`ray status` there), and is its port open from here?")
    try:
        ray._raylet.GcsClient(address=head).check_alive([], timeout=5)
    except ray.exceptions.AuthenticationError:
        raise ExecutorError(f"the Ray cluster at {head} refuses the token ({VALUE}, or the file ~/.ray/auth_token): copy the token of its head") from None
    except ray.exceptions.RpcError as error:
        raise ExecutorError(f"what answers at {head} is no Ray head: {str(error)[:200]}") from None


def takes_anybody(head: str) -> bool:
    """Whether the head obeys somebody with a wrong token, who asks from a process of its own: Ray reads a token once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {MODE: "token", VALUE: secrets.token_hex(32)}
    asked = subprocess.run([sys.executable, "-c", _STRANGER, head], capture_output=True, text=True, env=environment)
    said = asked.stdout.strip()
    if said not in ("accepted", "AuthenticationError"):
        raise ExecutorError(f"whether the cluster at {head} asks for its token could not be found out ({said or 'no answer'}); try again")
    return said == "accepted"


def start(workers: int | None) -> None:
    """A Ray of this machine alone: no dashboard, loopback only, nothing printed, a token that only its own processes know."""
    check_floor()
    # In the environment, so that Ray writes none to a file; it stays for this process's life, because Ray caches it for as long.
    os.environ.setdefault(VALUE, secrets.token_hex(32))
    _set_mode("token")
    # A fork server that is left alone sees its actor go, and takes with it what its child started; killed, it could not.
    # And Ray's workers run at nice 15, which starves them beside anything else; those of `local` do not.
    system = {"kill_child_processes_on_worker_exit": False, "worker_niceness": 0}
    _hush()
    with _on_loopback():
        ray.init(
            address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE, _system_config=system, **_QUIET,
        )  # fmt: skip


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray as it is on a Mac: a single node at 127.0.0.1, which makes its servers listen there and nowhere else.

    On Linux `ray.init` takes the address of a network card even if it is told 127.0.0.1, and binds to all of them.
    """
    constants = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
