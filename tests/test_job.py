"""What travels: one line of text each way, finite numbers only, nothing that is not a job or a result."""

from __future__ import annotations

import json

import pytest

from evosearch.job import STATUSES, Job, Result

JOB = Job(3, "x * sigmoid(x)", 7, "final", ("textures/resnet",), {"promote": 0.5})
RESULT = Result(3, "sin(x)", "ok", None, "full", {"full:photo/inr:0": 20.5}, {"full:photo/inr": 3.0}, {"complexity": 2.0}, {"full": 1.5}, "cpu", "w0")


@pytest.mark.parametrize("thing", [JOB, RESULT, Job(0, "x", 0), Result(0, "x", "timeout", "wall", error="12 s\nof 10 s")])
def test_text_and_back(thing):
    text = thing.to_text()
    assert "\n" not in text
    assert type(thing).from_text(text) == thing
    assert type(thing).from_text(text).to_text() == text


def test_keys_are_sorted_so_that_equal_jobs_are_equal_texts():
    assert Job(0, "x", 0, bar={"b": 1.0, "a": 2.0}).to_text() == Job(0, "x", 0, bar={"a": 2.0, "b": 1.0}).to_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("table", ["scores", "rates", "objectives", "seconds"])
def test_what_is_not_finite_neither_leaves_nor_enters(table, value):
    with pytest.raises(ValueError, match="JSON"):
        Result(0, "x", "ok", **{table: {"k": value}}).to_text()
    text = json.dumps(json.loads(RESULT.to_text()) | {table: {"k": value}})
    with pytest.raises(ValueError, match="finite"):
        Result.from_text(text)


@pytest.mark.parametrize("value", [True, "1", None])
def test_a_score_is_a_number(value):
    with pytest.raises(ValueError, match="`k` of a result must be a finite number"):
        Result.from_text(json.dumps(json.loads(RESULT.to_text()) | {"scores": {"k": value}}))


@pytest.mark.parametrize("kind", [Job, Result])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"index": 1}'])
def test_other_text_is_refused(kind, text):
    with pytest.raises(ValueError):  # noqa: PT011
        kind.from_text(text)


def test_a_field_more_or_less_is_refused():
    data = json.loads(RESULT.to_text())
    with pytest.raises(ValueError, match="has the fields"):
        Result.from_text(json.dumps(data | {"code": "x"}))
    del data["worker"]
    with pytest.raises(ValueError, match="has the fields"):
        Result.from_text(json.dumps(data))


def test_statuses_are_a_closed_list():
    for status in STATUSES:
        assert Result.from_text(Result(0, "x", status).to_text()).status == status
    with pytest.raises(ValueError, match="a status is one of"):
        Result.from_text(Result(0, "x", "fine").to_text())
