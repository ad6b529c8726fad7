"""What a resumed study refuses, and what does not count when the log refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evosearch.search import study as study_module
from evosearch.search.scale import freeze
from evosearch.search.store import Log, LogError
from tests.search.test_study import answer, drive, study_over


def test_code_that_makes_another_scale_of_the_same_baselines_is_refused(tmp_path, monkeypatch):
    drive(tmp_path, stop_after=10)
    monkeypatch.setattr(study_module, "freeze", lambda *args: replace(freeze(*args), quality={"a": 1.0}))
    with pytest.raises(LogError, match="another scale"):
        drive(tmp_path)
    monkeypatch.undo()
    assert drive(tmp_path) > 0


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
