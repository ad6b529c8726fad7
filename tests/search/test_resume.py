"""What a resumed study refuses, and what does not count when the log refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evosearch.search import study as study_module
from evosearch.search.scale import freeze
from evosearch.search.store import Log, LogError
from tests.search.test_study import answer, drive, study_over, table


def test_code_that_makes_another_scale_of_the_same_baselines_is_refused(tmp_path, monkeypatch):
    drive(tmp_path, stop_after=10)
    monkeypatch.setattr(study_module, "freeze", lambda *args: replace(freeze(*args), quality={"a": 1.0}))
    with pytest.raises(LogError, match="another scale"):
        drive(tmp_path)
    monkeypatch.undo()
    assert drive(tmp_path) > 0


@pytest.mark.parametrize(
    ("index", "fault", "message"),
    [(1, {"status": "timeout", "reason": "timeout", "error": "killed after 1 s"}, r"relu did not finish: timeout \(killed after 1 s\).*larger execution"),
     (3, {"status": "crash", "reason": "crash:server", "error": "the worker died"}, r"sine did not finish.*outside: `evosearch resume .*hit` asks"),
     (2, {"status": "crash", "reason": "crash:SIGKILL", "error": "ended by SIGKILL"}, r"baseline tanh did not finish: crash:SIGKILL .*`evosearch resume"),
     (2, {"status": "crash", "reason": "crash:SIGSEGV", "error": "ended by SIGSEGV"}, r"baseline tanh did not finish: crash:SIGSEGV .*in a new --out"),
     (9, {"status": "error", "reason": "error:environment", "error": "disk full"}, r"cannot do its work \(disk full\); nothing is logged for job 9")],
)  # fmt: skip
def test_a_fault_that_is_not_the_candidates_stops_the_run_and_is_asked_again(tmp_path, index, fault, message):
    with Log(tmp_path / "hit") as log:
        study = study_over(log)
        while (job := study.ask(1)[0]).index != index:
            study.tell([answer(job)])
        faulty = replace(answer(job), scores={}, **fault)
        with pytest.raises(ValueError, match=message):
            study.tell([faulty])
        assert index not in [row["index"] for row in log.rows()]
    drive(tmp_path / "hit")
    drive(tmp_path / "whole")
    assert table(tmp_path / "hit") == table(tmp_path / "whole")


def test_a_candidate_that_is_not_finished_is_a_row(tmp_path):
    with Log(tmp_path) as log:
        study = study_over(log)
        for _ in range(5):
            (job,) = study.ask(1)
            study.tell([replace(answer(job), status="timeout", reason="timeout") if job.index == 4 else answer(job)])
        assert [row["status"] for row in log.rows()] == ["ok"] * 4 + ["timeout"]


def test_a_baseline_without_which_there_is_no_bar_is_named_with_its_reason(tmp_path):
    with Log(tmp_path) as log:
        study = study_over(log)
        jobs = study.ask(4)
        broken = replace(answer(jobs[1]), status="nonfinite", reason="nonfinite:quality", error="the loss is nan", scores={})
        with pytest.raises(ValueError, match=r"`relu` has no score: nonfinite:quality \(the loss is nan\); change judging"):
            study.tell([answer(jobs[0]), broken, answer(jobs[2]), answer(jobs[3])])


def test_a_result_that_the_log_refused_was_not_told(tmp_path, monkeypatch):
    with Log(tmp_path) as log:
        study = study_over(log)
        first, second = study.ask(2)
        with monkeypatch.context() as patch:
            patch.setattr(log, "append", lambda _: (_ for _ in ()).throw(LogError("disk full")))
            with pytest.raises(LogError, match="disk full"):
                study.tell([answer(first)])
        assert study.progress()["told"] == 0
        with pytest.raises(ValueError, match="not asked"):  # one bad result of a batch: none of the batch is half told
            study.tell([answer(first), replace(answer(second), candidate="cos(x)")])
        assert study.progress()["told"] == 0
        study.tell([answer(first), answer(first), answer(second)])
        assert study.progress()["told"] == 2
    with Log(tmp_path) as log:
        assert [r["index"] for r in log.rows()] == [0, 1]
