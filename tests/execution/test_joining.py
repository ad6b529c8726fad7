"""What is said before a cluster is joined. Nothing here starts a Ray."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import ray

from evosearch.execution import ExecutorError
from evosearch.execution.cluster import connect
from evosearch.execution.cluster.doctor import FAIL, this_machine
from evosearch.execution.cluster.jobs import Jobs
from evosearch.execution.cluster.names import check_name, entrypoint


@pytest.fixture(autouse=True)
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(connect, "_set_mode", lambda mode: None)


@pytest.mark.parametrize(("version", "is_refused"), [("2.53.0", True), ("2.54.0", False), ("1.13.0", True), ("3.0.0", False)])
def test_a_ray_below_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch, version: str, is_refused: bool) -> None:
    monkeypatch.setattr(ray, "__version__", version)
    if is_refused:
        with pytest.raises(ExecutorError, match=rf"needs Ray 2\.54 or newer.*received {version}"):
            connect.check_floor()
    else:
        connect.check_floor()


def test_a_cluster_is_not_joined_without_a_token_unasked() -> None:
    with pytest.raises(ExecutorError, match=r"there is no token of the cluster.*--insecure-cluster"):
        connect.join("127.0.0.1:1", insecure=False)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", "an address of a cluster is auto or host:port"),
        ("ray://a:10001", "an address of a cluster is auto or host:port"),
        ("\u00b2:\u00b2", "an address of a cluster is auto or host:port"),
        ("x" * 70 + ":80", "an address of a cluster is auto or host:port"),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_an_address_that_is_none_is_said_at_once(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 32)
    with pytest.raises(ExecutorError, match=message):
        connect.join(address, insecure=False)


class Dashboard(BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def dashboard() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("code", "message"), [(200, "takes jobs from anybody.*--insecure-cluster"), (404, r"has no jobs \(404\)")])
def test_jobs_go_to_no_cluster_that_takes_them_from_anybody(monkeypatch: pytest.MonkeyPatch, dashboard: str, code: int, message: str) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 32)
    monkeypatch.setattr(Dashboard, "code", code)
    with pytest.raises(ExecutorError, match=message):
        Jobs(dashboard)


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ftp://a", "http://", "http://user:secret@a:1", "auto"])
def test_an_address_that_is_no_dashboard_is_said(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 32)
    with pytest.raises(ExecutorError, match="jobs go to the dashboard of the head"):
        Jobs(address)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "a;b", "a\nb", "$(id)", "x" * 64, ".hidden"])
def test_a_name_is_a_plain_folders_name(name: str) -> None:
    with pytest.raises(ExecutorError, match="a name has letters"):
        check_name(name)
    assert check_name("First_run-2.b") == "First_run-2.b"


def test_the_words_of_an_entry_point_are_words() -> None:
    assert entrypoint(["python", "~/runs/a b", "x=$(id)", "~root", "a;b"]) == "exec python \"$HOME\"/'runs/a b' 'x=$(id)' '~root' 'a;b'"


def test_the_doctor_finds_nothing_wrong_with_a_machine_that_has_what_it_takes(tmp_path: Path) -> None:
    findings = list(this_machine(tmp_path))
    assert not [finding for finding in findings if finding.level == FAIL]
    assert any(finding.what.startswith("torch ") for finding in findings)


def test_the_doctor_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evosearch.execution.cluster import doctor

    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    monkeypatch.setattr(doctor, "version", lambda name: "2.9.1" if name == "torch" else "99.0")
    monkeypatch.setattr(doctor, "_EMPTY", 1e9)
    failed = {finding.what.split(" ")[0]: finding.fix for finding in this_machine(tmp_path) if finding.level == FAIL}
    assert "chmod 600" in failed[str(tmp_path / ".ray" / "auth_token")]
    assert "torch>=2.10" in failed["torch"]
    assert len(failed) == 3
