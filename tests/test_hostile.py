"""What comes from strangers: text that wants to be run, files without end, letters that a terminal obeys; and sockets that nobody opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from evosearch.config import MAX_BYTES, ConfigError, load, read_run_of
from evosearch.delivery.layout import Column, grid, printable, prose
from evosearch.job import Job, Result
from evosearch.language.formula import FormulaError, parse
from tests.test_cli import TINY, refused

ROOT = Path(__file__).parent.parent
SMOKE = (ROOT / "search_spaces" / "smoke.yaml").read_text()


def test_hostile_text_runs_nothing_opens_nothing_and_takes_no_time(tmp_path):
    """374 texts through everything that reads text, in a child with an audit hook."""
    child = [sys.executable, "-m", "tests.hostile_child", str(tmp_path)]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["texts"] >= 300
    assert found["refused"] > 0.9 * found["tries"]
    assert not found["seen"]
    assert not found["odd"]  # nothing but a ValueError, in a message that fits a screen
    assert not found["slow"]  # a second of processor time each, two on a busy machine
    assert found["grown_mb"] < 200
    assert found["left"] == ["config.yaml"]


def test_the_audit_hook_sees_what_it_is_for(tmp_path):
    code = (
        "import sys, pathlib, subprocess\nfrom tests.hostile_child import watched\nfolder = pathlib.Path(sys.argv[1])\nseen = watched(folder)\n"
        "exec('1')\nopen(folder / 'mine', 'w').close()\nopen(folder.parent / 'other', 'w').close()\n"
        "subprocess.run(['true'])\nprint(len(seen), *seen, sep='\\n')"
    )
    inside = tmp_path / "inside"
    inside.mkdir()
    said = subprocess.run([sys.executable, "-c", code, str(inside)], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(what in said for what in ("exec", "subprocess.Popen", "other"))
    assert "mine" not in said


HOSTILE_FILES = {
    "aliases": "a0: &a0 [1, 1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)),
    "levels": SMOKE + "x: " + "[" * 5000 + "]" * 5000,
    "block levels": SMOKE + "x:\n" + "".join(" " * (i % 1000) + "- \n" for i in range(1000)),
    "keys": SMOKE + "".join(f"k{i}: 1\n" for i in range(60_000)),
    "tag": SMOKE.replace("window: 8", "window: !!python/object/apply:os.getpid []"),
    "a long word": SMOKE + "x: " + "y" * 900_000,
    "digits": SMOKE + "x: " + "9" * 900_000,
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_configuration_is_refused_in_one_line_and_soon(tmp_path, name):
    file = tmp_path / "space.yaml"
    file.write_text(HOSTILE_FILES[name])
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    assert time.process_time() - start < 10  # a second or two alone
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600 + len(str(file))


def test_a_huge_configuration_is_not_read(tmp_path):
    file = tmp_path / "space.yaml"
    with open(file, "wb") as handle:
        handle.truncate(100_000_000)
    start = time.process_time()
    with pytest.raises(ConfigError, match=f"at most {MAX_BYTES} bytes"):
        load(str(file))
    file.rename(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="bytes, a run's configuration at most"):
        read_run_of(tmp_path, lambda plugins: None)
    assert time.process_time() - start < 0.5


def test_a_seed_list_without_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="seeds"):
        load("smoke.yaml", ["seeds=[" + ", ".join(["sin(x)"] * 501) + "]"])


def test_a_device_or_a_pipe_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in ("/dev/zero", str(tmp_path / "pipe.yaml"), str(tmp_path)):
        with pytest.raises(ConfigError, match="no such file"):
            load(path)


@pytest.mark.parametrize("kind", [Job, Result])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"index": ' * 100_000, "[]", "{}", "null", '"x"', "9" * 5000, '{"a": 1}', "\x00", "NaN"], ids=lambda t: t[:9])
def test_what_a_worker_may_say_is_a_result_or_a_value_error(kind, text):
    with pytest.raises(ValueError, match=r"."):
        kind.from_text(text)


def test_a_name_without_end_is_not_repeated():
    with pytest.raises(FormulaError) as caught:
        parse("a" * 4095)
    assert len(str(caught.value)) < 300


# -- terminals -----------------------------------------------------------------------------------------------------------

PAYLOADS = [
    "\x1b[2J", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1b]8;;http://x\x07link\x1b]8;;\x07", "\x1bP1$r\x1b\\", "\x1b[6n",
    "\x1b[?1049h", "\x1bc", "\x9b31m", "\x9d52;c;eA==\x9c", "\x90q\x9c", "\r", "safe\rEVIL", "\b\b\b", "\x07", "\x00", "\x7f", "\x0b", "\x0c", "\x1a", "\x04",
    "\t", "\x85", "\u2028", "\u2029", "\u202eevil", "\u202a", "\u202d", "\u2066x\u2069", "\u2067", "\u200e", "\u200f", "\u061c", "\u200b", "\u200c", "\u200d",
    "\u2060", "\ufeff", "\u00ad", "\ue000", "\ud800", "\U000e0041", "\ufff9",
]  # fmt: skip


def obeyed(text: str) -> str:
    """The letters of a text that a terminal would obey, hide or reorder."""
    return "".join(letter for letter in text if not letter.isprintable() and letter != "\n")


def test_there_are_forty_payloads_and_each_is_one():
    assert len(PAYLOADS) >= 40
    assert all(map(obeyed, PAYLOADS))


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_no_letter_that_a_terminal_obeys_is_printed(payload, capsys):
    from evosearch.cli.app import print_lines

    table, _ = grid([Column(payload, [payload, "a" + payload + "b"]), Column("formula", [payload * 3, "x"], right=False, flexible=True)], 40)
    print_lines([*table, *prose(f"verdict: {payload} and so on", 30), f"nearest {payload}"])
    out = capsys.readouterr().out
    assert not obeyed(out)
    assert "verdict:" in out


@pytest.mark.parametrize("payload", [p for p in PAYLOADS if p not in ("\x00", "\ud800")], ids=ascii)
def test_errors_print_none_either(payload, tmp_path):
    for arguments in (
        ["explain", f"x * {payload}sin(x)"], ["library", payload + "relu"], ["top", tmp_path / f"no{payload}run"],
        ["run", f"no{payload}.yaml", "--out", tmp_path / "r"], ["run", "smoke.yaml", "--out", tmp_path / "r", "--set", f"budget.{payload}=1"],
        ["evaluate", "x*sin(x)", "--task", payload], ["export", "--nonsense" + payload],
    ):  # fmt: skip
        assert not obeyed(refused(*arguments))


def test_progress_prints_none(capsys):
    from evosearch.delivery.progress import Progress

    progress = Progress(sys.stdout, 80)
    progress.begin([f"run {payload}: 3 functions" for payload in PAYLOADS], [])
    progress._line = lambda study, now: "best +1.00 " + "".join(PAYLOADS)
    progress._paced = (0.0, 0)
    progress(None, SimpleNamespace(in_flight=[]))
    progress.end()
    out = capsys.readouterr().out
    assert not obeyed(out.replace("\r", "", 1))  # its own: the line begins anew
    assert printable("\ra") == "?a"


# -- sockets -------------------------------------------------------------------------------------------------------------

HOOK = """
import os, sys
def hook(event, arguments):
    inet = event == "socket.__new__" and arguments[1] in (2, 10)
    if event in ("socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname") or inet:
        with open(os.environ["SEEN"], "a") as seen:
            seen.write(f"{os.getpid()} {event} {arguments[1:]}\\n")
sys.addaudithook(hook)
"""


def test_no_process_of_a_local_run_touches_the_network(tmp_path):
    """Neither the driver nor a worker nor a candidate's child: the hook is in every Python that the run starts."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "SEEN": str(tmp_path / "seen")}
    subprocess.run([sys.executable, "-c", "import socket; socket.socket().bind(('127.0.0.1', 0))"], check=True, env=environment)
    assert "socket.bind" in (tmp_path / "seen").read_text()  # so it would be seen
    (tmp_path / "seen").unlink()
    command = [sys.executable, "-m", "evosearch.cli", *TINY, "--out", str(tmp_path / "run"), "--executor", "local", "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "seen").exists(), (tmp_path / "seen").read_text()
