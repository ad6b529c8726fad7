"""A run that is told to stop, or to whom nobody listens any more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import typer

from evosearch import run as running
from evosearch import stopping
from evosearch.cli import search, upkeep
from evosearch.cli.app import sturdy_output
from evosearch.search.store import read_run
from tests.search.test_faults import finish, flip
from tests.test_run import Workers, config_of


class Stuck(Workers):
    """Answers five jobs, then is sent a signal and answers no more."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def poll(self, timeout):
        if len(self.done) < 5:
            return super().poll(timeout)
        if self.number:
            os.kill(os.getpid(), self.number)
            self.number = 0
        time.sleep(0.01)
        return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_in_flight_has_its_notice_and_no_more(tmp_path, monkeypatch, number):
    monkeypatch.setattr(stopping, "NOTICE", 0.3)
    config = config_of()
    with monkeypatch.context() as patch:
        patch.setattr(running, "_executor", lambda *_: Stuck(number))
        prepared = running.prepare(tmp_path / "run", config)
        begun = time.monotonic()
        assert not running.run(prepared, tmp_path / "run", None, lambda _: None)
        assert 0.3 <= time.monotonic() - begun < 20
    assert len(read_run(tmp_path / "run")[0]) >= 5
    finish(tmp_path / "run", 12)
    finish(tmp_path / "whole", 12)
    assert [r["candidate"] for r in read_run(tmp_path / "run")[0]] == [r["candidate"] for r in read_run(tmp_path / "whole")[0]]


def test_under_nohup_a_closed_terminal_is_not_heard():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.heard() as stop, stopping.raised():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_takes_the_signals_meanwhile_is_taken_them_back():
    with stopping.heard() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        stop.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked


class Finishing(Stuck):
    """Answers what is in flight once it has its signal."""

    def poll(self, timeout):
        return super().poll(timeout) or Workers.poll(self, timeout)


@pytest.mark.parametrize(
    ("workers", "results", "said"),
    [
        (Stuck, 5, "what had not finished will run again; all other results are kept"),
        (Finishing, 6, "what was in flight has finished, and all results are kept"),
    ],
)
def test_a_stop_says_what_became_of_what_was_in_flight_and_a_start_that_it_resumes(tmp_path, monkeypatch, capsys, workers, results, said):
    directory = tmp_path / "run"

    def searched():
        monkeypatch.setattr(running, "_executor", lambda *_: workers(signal.SIGTERM))
        with pytest.raises(typer.Exit):
            search._search(config_of(), directory, False, ())
        return capsys.readouterr().out

    monkeypatch.setattr(stopping, "NOTICE", 0.3)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/evosearch", "run", "my space.yaml", "--out", "run"])
    out = searched()
    assert out.startswith(f"run {directory}: 12 functions (")
    assert out.endswith(f"stopped by SIGTERM; {said} in {directory}. Go on with: evosearch run 'my space.yaml' --out run\n")
    monkeypatch.setenv("EVOSEARCH_SUBMITTED", "evosearch submit s.yaml --address http://h:8265")
    out = searched()
    assert out.startswith(f"resuming {directory}: {results} of 12 functions are there; executor ")
    assert out.endswith(" Go on with: evosearch submit s.yaml --address http://h:8265\n")


def test_of_a_finished_run_it_is_said_what_is_there(tmp_path, monkeypatch, capsys):
    finish(tmp_path / "run", 12)
    monkeypatch.setattr(running, "_executor", lambda *_: Workers())
    search._search(config_of(), tmp_path / "run", False, ())
    out = capsys.readouterr().out
    assert re.match(rf"resuming {tmp_path}/run: 12 of 12 functions are there, and [1-9]\d* results of the final check; executor ", out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_stop_says_what_is_safe_and_how_to_go_on(tmp_path, monkeypatch, capsys, number):
    """While nothing is in flight too, as at the start and when the end is measured."""

    def searched(*_):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(search, "_searched", searched)
    with pytest.raises(typer.Exit) as stopped:
        search._search(config_of(), tmp_path / "run", False, (SimpleNamespace(name="my_ops.py"),))
    assert stopped.value.exit_code == 128 + number
    said = capsys.readouterr().err
    name = "stopped at once" if number == signal.SIGINT else f"stopped by {number.name}"
    assert f"{name}; all results are kept in {tmp_path / 'run'}. Go on with: " in said
    assert f"Go on with: evosearch resume {tmp_path / 'run'} --plugin my_ops.py" in said


def test_output_that_nobody_reads_ends_nothing():
    code = "import sys\nfrom evosearch.cli.app import sturdy_output\nwith sturdy_output():\n    for n in range(9):\n        print(n, flush=True)\nsys.exit(7)"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (7, "")


def test_output_is_otherwise_as_it_is(capsys):
    with sturdy_output():
        print("heard", flush=True)
        assert not sys.stdout.isatty()
    assert capsys.readouterr().out == "heard\n"


def test_check_and_repair_say_what_they_found_by_their_exit_code(tmp_path, capsys):
    directory = tmp_path / "run"
    finish(directory)
    upkeep.check(directory)
    assert capsys.readouterr().out.splitlines()[-1] == "sound"
    flip(directory / "results" / "part-000000.parquet", 4000)
    with pytest.raises(typer.Exit) as found:
        upkeep.check(directory)
    assert found.value.exit_code == 1
    said = capsys.readouterr().out
    assert re.search(r"\n1 of \d not sound. What can be done: evosearch repair", said)
    upkeep.repair(directory, dry_run=True)
    assert "would be: " in capsys.readouterr().out
    upkeep.repair(directory)
    assert f"what was there before is kept in {directory}/damaged" in capsys.readouterr().out
    upkeep.check(directory)
    upkeep.repair(directory)
    assert "nothing to repair" in capsys.readouterr().out
    (directory / "results" / "\x1b[2J").symlink_to("/dev/zero")
    (directory / "results" / "part-000001.parquet").unlink()
    for act in (upkeep.check, upkeep.repair):
        with pytest.raises(typer.Exit):
            act(directory)
    assert "\x1b" not in (said := capsys.readouterr().out)
    assert "?[2J" in said
    assert "cannot be repaired: " in said
