"""A run from its folder to its end: what is refused before anything is written, what resumes, what time buys. Workers are simulated."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from evosearch import run as running
from evosearch.cli import layers
from evosearch.config import ConfigError, load
from evosearch.delivery.summary import read
from evosearch.delivery.table import page
from evosearch.job import Job, Result
from evosearch.judging import evaluate as evaluation
from evosearch.judging.evaluate import evaluate
from evosearch.run import open_study, plan_of, prepare, run, stored
from evosearch.search import clock
from evosearch.search.store import Log, LogError, read_run
from evosearch.search.study import FINAL_INDEX
from evosearch.stopping import heard

ALL_BUT_COS = "[add, mul, max, min, neg, square, tanh, sigmoid, sin, gaussian, softplus]"


def config_of(evaluations=12, *overrides, **options):
    fixed = ["proposers={random: 1}", "window=4", f"budget.evaluations={evaluations}"]
    return load("search_spaces/smoke.yaml", [*fixed, *overrides], options)


def answer(job, bar_passed=True):
    """A worker whose scores are a hash of the candidate's text."""
    number = {"x": 10.0, "relu(x)": 50.0}.get(job.candidate, int(hashlib.sha256(job.candidate.encode()).hexdigest(), 16) % 1000 / 10)
    objectives = {"complexity": float(len(job.candidate)), "saved_per_element": 1.0}
    if job.stage == "final":
        return Result(job.index, job.candidate, "ok", None, "final", {f"final:{p}:{job.seed + s}": number + s for p in job.pairs for s in range(2)})
    scores = {"quick:digits/mlp:0": number, "quality:digits/mlp:0": number}
    if job.bar and not bar_passed:
        return Result(job.index, job.candidate, "rejected", "quality:digits/mlp", "quality", scores, objectives=objectives)
    scores |= {f"full:{pair}:{s}": number + s / 10 for pair in ("digits/mlp", "photo/inr") for s in range(2)}
    return Result(job.index, job.candidate, "ok", None, "full", scores, objectives=objectives)


class Workers:
    """One simulated worker. A job takes `seconds` of a simulated clock; after `stop_after` jobs Ctrl-C is pressed."""

    workers = 1

    def __init__(self, answer=answer, seconds=1.0, stop_after=None):
        self.now, self.seconds, self.answer, self.stop_after = 0.0, seconds, answer, stop_after
        self.done, self._job = [], None

    def free_slots(self):
        return 0 if self._job else 1

    def submit(self, job):
        self._job = job

    def poll(self, timeout):
        job, self._job = self._job, None
        self.now += self.seconds
        self.done.append(job.index)
        if len(self.done) == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return [self.answer(job)]

    @property
    def in_flight(self):
        return [self._job.index] if self._job else []

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        pass


@pytest.fixture
def session(tmp_path, monkeypatch):
    """One session of a run: the jobs its workers did, whether it finished, and what it said."""

    def go(config, directory=tmp_path / "run", **options):
        workers, notices = Workers(**options), []
        monkeypatch.setattr(running, "_executor", lambda config, plugins, directory: workers)
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: workers.now))
        finished = run(prepare(directory, config), directory, None, notices.append)
        return SimpleNamespace(done=workers.done, finished=finished, notices=notices)

    go.directory = tmp_path / "run"
    return go


def searched(directory):
    rows, _ = read_run(directory)
    return [(r["index"], r["candidate"], r["scores"]) for r in rows if r["index"] is not None and r["index"] < FINAL_INDEX]


def finals(directory):
    return [r["index"] for r in read_run(directory)[0] if r["stage"] == "final"]


# -- budgets are totals, and the latest holds --------------------------------------------------------------------------


def test_a_changed_budget_is_stored_and_logged_and_resume_goes_on_with_it(session):
    assert session(config_of(10)).finished
    assert session(config_of(14), stop_after=2).finished is False
    config, _ = stored(session.directory)
    assert config.budget.evaluations == 14
    with Log(session.directory) as log:
        assert [mark["config"] for mark in log.marks("change")] == [["budget.evaluations: 10 -> 14"]]
    assert session(config).finished  # what `evosearch resume` does
    assert len(searched(session.directory)) == 14
    again = session(config)
    assert (again.finished, again.done) == (True, [])


def test_a_budget_below_what_is_done_is_refused_and_changes_nothing(session):
    session(config_of(14))
    before = (session.directory / "run.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"has dispatched 14 functions; received 12: give at least 14"):
        session(config_of(12))
    assert (session.directory / "run.yaml").read_bytes() == before
    assert session(config_of(14)).done == []


def test_an_interrupted_run_may_be_given_less(session):
    assert not session(config_of(20), stop_after=7).finished
    assert session(config_of(9)).finished
    assert len(searched(session.directory)) == 9


def test_what_must_not_change_is_shown_by_its_leaf(session):
    session(config_of(), stop_after=1)
    with pytest.raises(ConfigError, match=r"^choose another --out: .* only budget and execution may change \(space.max_nodes: 8 -> 9\)$"):
        session(config_of(12, "space.max_nodes=9"))
    with pytest.raises(ConfigError, match=r"\(judging.full.rates: \[3.0\] -> \[2.0\]; space.operators: \['cos'\] -> none\)"):
        session(config_of(12, f"space.operators={ALL_BUT_COS}", "judging.full.rates=[1, 2]"))
    with pytest.raises(ConfigError, match=r"\(judging.full.steps: [^;]*; judging.quality.steps: [^;]*; seed: 0 -> 1 and 2 more\)$"):
        session(config_of(12, "judging.full.steps=7", "judging.quality.steps=7", "seed=1", "space.max_nodes=9", "window=5"))


# -- minutes -----------------------------------------------------------------------------------------------------------


def test_time_that_ends_is_followed_by_the_final_check_and_more_time_goes_on(session, tmp_path):
    first = session(config_of(20, **{"budget.minutes": 10.0}), seconds=60.0)
    assert first.finished
    assert len(searched(session.directory)) == 10
    assert len(finals(session.directory)) > 0
    assert session(config_of(20, **{"budget.minutes": 10.0}), seconds=60.0).done == []
    more = session(config_of(20, **{"budget.minutes": 13.0}), seconds=60.0)
    assert [index for index in more.done if index < FINAL_INDEX] == [10, 11, 12]  # a total, not three minutes more than ten
    assert session(config_of(20)).finished
    whole = tmp_path / "whole"
    session(config_of(20), whole)
    assert searched(session.directory) == searched(whole)


def test_minutes_count_over_restarts_but_a_replay_costs_nothing(session):
    config = config_of(30, **{"budget.minutes": 10.0})
    for stop in (3, 4):
        assert not session(config, seconds=60.0, stop_after=stop).finished
    assert session(config, seconds=60.0).finished
    assert len(searched(session.directory)) == 10


def test_time_that_ends_before_anything_was_fully_trained_says_so_and_can_go_on(session):
    config = config_of(20, **{"budget.minutes": 1.0})
    short = session(config, seconds=50.0, answer=lambda job: answer(job, bar_passed=False))
    assert short.finished
    assert finals(session.directory) == []
    assert "1 minutes ended before any found function was fully trained" in short.notices[0]
    assert len(searched(session.directory)) == 4  # the baselines are always finished: the scale follows from them
    assert session(config_of(20)).finished
    assert len(searched(session.directory)) == 20
    assert len(finals(session.directory)) > 0


def test_a_status_that_does_not_say_the_time_is_said(session):
    session(config_of(), stop_after=1)
    (session.directory / "status.json").write_text("[")
    assert "does not say how much time" in session(config_of(), stop_after=1).notices[0]
    (session.directory / "status.json").unlink()
    assert "status.json is missing, which says how much time was spent; budget.minutes counts from now on" in session(config_of()).notices[0]
    assert session(config_of()).notices == []


def test_a_ctrl_c_after_sigterm_stops_at_once():
    for first in (signal.SIGTERM, signal.SIGINT):
        with heard() as stop:
            assert not stop.asked
            os.kill(os.getpid(), first)
            assert stop.asked
            assert not stop.is_over
            os.kill(os.getpid(), signal.SIGTERM)  # a supervisor's second word is no hurry
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


def test_the_start_is_told_only_once_nothing_refuses(session, monkeypatch):
    session(config_of(14))
    started = []
    with pytest.raises(ValueError, match="give at least 14"):
        run(config_of(12), session.directory, on_start=started.append)
    with Log(session.directory), pytest.raises(LogError, match="in use"):
        run(config_of(14), session.directory, on_start=started.append)
    assert started == []
    run(config_of(14), session.directory, on_start=started.append)
    assert [study.resumed[0] for study in started] == [14]


# -- what is refused, before anything is written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [("space.max_nodes=2", "no formula of at most 2 nodes"), ("space.operators=[add, mul]", "at least one unary"),
     ("execution.device=cuda:99", "is not there")],
)  # fmt: skip
def test_what_cannot_run_writes_nothing(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "never", config_of(12, override))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_cache_that_cannot_be_written_is_refused_with_its_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be kept in `.*/file/evosearch/layers` .*set XDG_CACHE_HOME"):
        prepare(tmp_path / "never", config_of())
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [("file", "a part of that path is a file"), ("file/run", "a part of that path is a file"), ("/proc/nope", "choose a folder that you may write to"),
     ("x" * 300, "choose a shorter name"), ("full", r"run.yaml cannot be written \(No space left on device; \d+ bytes free\); make room")],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_one_line_with_the_fix(tmp_path, monkeypatch, out, message):
    (tmp_path / "file").touch()
    real = os.write
    with monkeypatch.context() as patch:
        if out == "full":

            def write(handle, data):
                if b"environment" in bytes(data):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(handle, data)

            patch.setattr(os, "write", write)
        with pytest.raises(LogError, match=message) as caught:
            prepare(tmp_path / out, config_of())
    assert len(str(caught.value)) < 400
    if out == "full":
        (tmp_path / out / "_tmp.run.yaml.1").touch()  # of a driver that was killed there
        prepare(tmp_path / out, config_of())


def test_a_run_that_cannot_be_written_is_to_be_made_writable_or_copied(session, monkeypatch):
    session(config_of(), stop_after=1)
    real = os.open

    def refusing(path, flags, *rest, **more):
        if flags & os.O_ACCMODE != os.O_RDONLY and str(path).startswith(str(session.directory)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(LogError, match=r"lock cannot be written \(Permission denied\); make it writable, or copy the run$"):
        session(config_of())


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for held in ("notes.txt", "results/mine.csv"):
        directory = tmp_path / held.replace("/", "-")
        (directory / held).parent.mkdir(parents=True)
        (directory / held).touch()
        with pytest.raises(ConfigError, match=r"is not a run of evosearch \(it holds (notes.txt|results)\)"):
            prepare(directory, config_of())
        assert not (directory / "lock").exists()
    with pytest.raises(ConfigError, match="a folder of its own"):
        prepare(Path(""), config_of())


def test_a_journal_without_its_run_yaml_is_not_begun_again(session):
    session(config_of(), stop_after=1)
    (session.directory / "run.yaml").unlink()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"run.yaml is gone; restore it"):
            session(config_of())


def test_of_two_drivers_that_begin_at_once_one_writes(tmp_path):
    with Log(tmp_path / "run"), pytest.raises(LogError, match="in use by process"):
        prepare(tmp_path / "run", config_of())
    assert not (tmp_path / "run" / "run.yaml").exists()
    prepare(tmp_path / "run", config_of())
    with pytest.raises(ConfigError, match=r"seed: 0 -> 1"):  # the other one wrote run.yaml in between
        run(config_of(12, "seed=1"), tmp_path / "run")


@pytest.mark.parametrize("text", ["config: 3", "config: {}\nenvironment: 3", "3", "", "{", "config: [", "\x00", "config: " + "[" * 3000, "a: 1" + "0" * 5000])
def test_a_damaged_run_yaml_is_one_line(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml") as caught:
        stored(tmp_path)
    assert len(str(caught.value)) < 400


def test_a_run_yaml_that_does_not_validate_says_to_restore_it(session):
    session(config_of(), stop_after=1)
    file = session.directory / "run.yaml"
    file.write_text(file.read_text().replace("max_nodes: 8", "max_nodes: 800"))
    with pytest.raises(ConfigError, match=r"max_nodes.*restore it from a copy"):
        stored(session.directory)


@pytest.mark.parametrize(("old", "new"), [("max_nodes: 8", "max_nodes: 9"), ("seed: 0", "seed: 1"), ("\n  window: 4\n", "\n")])
@pytest.mark.parametrize("length", [6, 14])  # interrupted, and finished: its segment closed
def test_a_run_yaml_that_was_edited_is_refused(session, old, new, length):
    session(config_of(14), stop_after=None if length == 14 else length)
    file = session.directory / "run.yaml"
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1))
    for act in (lambda: stored(session.directory), lambda: session(config_of(14)), lambda: run(config_of(14), session.directory)):
        with pytest.raises(ConfigError, match=r"run\.yaml is damaged or was edited: .*restore it from a copy"):
            act()
    file.write_text(before.replace("evaluations: 14", "evaluations: 15"))  # what may change may
    assert stored(session.directory)[0].budget.evaluations == 15
    file.write_text(before)
    assert session(config_of(14)).finished


def test_a_beginning_that_was_killed_before_its_run_yaml_may_begin_otherwise(session):
    prepare(session.directory, config_of())
    (session.directory / "run.yaml").unlink()
    assert session(config_of(12, "seed=1")).finished
    assert stored(session.directory)[0].seed == 1


@pytest.mark.parametrize(
    ("name", "fix"),
    [("run.yaml", "restore"), ("journal.jsonl", "restore"), ("results/part-000000.parquet", "restore"), ("status.json", "anew"), ("summary.json", "anew"),
     ("lock", "anew")],
)  # fmt: skip
def test_a_folder_in_place_of_a_file_is_named_with_the_fix(session, name, fix):
    session(config_of())
    path = session.directory / name
    path.unlink(missing_ok=True)
    path.mkdir()
    for act in (lambda: stored(session.directory), lambda: session(config_of())):
        with pytest.raises(LogError, match=rf"{name} is a folder where a file belongs; move it away.*{fix}"):
            act()


# -- how far a reader says it is ---------------------------------------------------------------------------------------


def none_passes(job):
    return answer(job, bar_passed=False)


def test_a_run_without_a_pick_is_finished_only_when_all_is_told(session):
    def reading():
        return read(session.directory, stored(session.directory)[0])

    session(config_of(), answer=none_passes, stop_after=7)
    text = "\n".join(page(reading(), None, "", None))
    assert not reading().finished
    assert f"none yet, the run is unfinished (7 functions told, no final check; `evosearch resume {session.directory}` goes on)" in text
    with pytest.raises(ValueError, match=r"no fully trained function; let it run on with `evosearch resume"):
        layers._found(session.directory, None, ())  # what `export --best` does
    session(config_of(), answer=none_passes)
    assert reading().finished
    with pytest.raises(ValueError, match="no fully trained function; search longer or wider"):
        layers._found(session.directory, None, ())
    assert "nothing to recommend" in "\n".join(page(reading(), None, "", None))


def test_a_run_without_a_pick_whose_time_is_over_is_finished_and_unfinished_again_with_more(session):
    for minutes, stop, finished in ((5.0, None, True), (9.0, 2, False), (9.0, None, True)):
        config = config_of(30, **{"budget.minutes": minutes})
        session(config, answer=none_passes, seconds=60.0, stop_after=stop)
        found = read(session.directory, config)
        assert (found.finished, found.pick) == (finished, None)
    (session.directory / "status.json").unlink()
    assert not read(session.directory, config).finished


def test_a_torn_last_line_is_said_by_readers_too(session):
    session(config_of(), stop_after=7)
    with open(session.directory / "journal.jsonl", "ab") as journal:
        journal.write(b"0123")
    found = read(session.directory, stored(session.directory)[0])
    assert "journal.jsonl is not whole" in found.notices[0]
    assert any("is not whole" in line for line in page(found, None, "", None))
    assert len(found.searched) == 7


# -- faults that are not the candidate's -------------------------------------------------------------------------------


def test_an_error_of_the_system_is_not_a_verdict_and_the_run_goes_on_when_it_is_mended(session, monkeypatch):
    def full(job):
        with monkeypatch.context() as patch:
            patch.setattr(evaluation, "compile_graph", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device", "layers")))
            return evaluate([job], plan_of(config_of()))[0]

    with pytest.raises(ValueError, match=r"a worker cannot do its work .*No space left on device: 'layers'"):
        session(config_of(), answer=full)
    assert searched(session.directory) == []
    assert session(config_of()).finished


def test_a_candidate_for_which_there_is_no_memory_is_a_status(monkeypatch):
    monkeypatch.setattr(evaluation, "compile_graph", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")))
    (result,) = evaluate([Job(0, "x", 0)], plan_of(config_of()))
    assert (result.status, result.reason) == ("memory", "memory:numeric")


def test_the_old_summary_goes_when_the_run_grows_past_it(session):
    session(config_of(10))
    summary = session.directory / "summary.json"
    summary.write_text("{}")
    session(config_of(10))
    assert summary.exists()
    session(config_of(12), stop_after=1)
    assert not summary.exists()


@pytest.mark.chaos
def test_a_server_killed_during_a_baseline_leaves_no_trace_in_the_log(tmp_path):
    command = [sys.executable, "-m", "evosearch.cli", "run", "search_spaces/smoke.yaml", "--set", "budget.evaluations=12", "--workers", "2", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    driver = subprocess.Popen([*command, str(tmp_path / "hit")], stdout=subprocess.DEVNULL)
    killed = 0
    while driver.poll() is None and killed < 3:
        busy = [server for server in psutil.Process(driver.pid).children() if "evosearch.execution.server" in server.cmdline() and server.children()]
        for server in busy[:1]:
            server.kill()
            killed += 1
            time.sleep(1.5)
        time.sleep(0.02)
    assert driver.wait() == 0
    assert killed > 0
    assert searched(tmp_path / "hit") == searched(tmp_path / "whole")


def test_goals_reach_the_workers_the_proposer_and_the_front(tmp_path):
    asked = ("judging.objectives=[noise, flops, inference_time]", "judging.goals=[noise, flops]", "proposers={genetic: 1}")
    for overrides, measured, told, ranked in (
        (asked, ("noise", "flops"), ("mean", "noise", "flops"), ["noise", "flops"]),
        (asked[2:], (), ("mean", "worst", "complexity"), ["worst", "complexity", "saved_per_element"]),
    ):
        config = config_of(12, *overrides)
        plan = plan_of(config)
        assert (plan.quality.objectives, plan.full.objectives, plan.final.objectives) == (measured, tuple(config.judging.objectives), ())
        with Log(tmp_path / str(len(measured))) as log:
            study = open_study(config, log)
            assert study.proposer.proposer.members[0].objectives == told
            assert [goal.name for goal in study.settings.goals] == ranked
