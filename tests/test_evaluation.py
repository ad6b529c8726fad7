"""One formula against known ones: everyone the same chance, paired differences, a word."""

from __future__ import annotations

import os

import pytest

from evosearch import evaluation
from evosearch.evaluation import evaluate_formula, formula_of, names_of, pairs_of, table_of
from evosearch.execution.serial import SerialExecutor


@pytest.fixture(scope="module")
def found():
    return evaluate_formula("sin(x)", ["relu", "identity"], ["digits/mlp.16", "photo/inr.24"], seeds=3, steps=60, executor="serial")


def test_every_contestant_is_measured_on_every_pair_and_seed(found):
    assert {(m.name, m.pair) for m in found.measured} == {(n, p) for n in ("sin(x)", "relu", "identity") for p in ("digits/mlp.16", "photo/inr.24")}
    assert all(len(m.scores) == 3 and m.half > 0 for m in found.measured)
    assert not found.failed


def test_the_verdict_is_about_paired_differences(found):
    by_name = {c.against: c for c in found.comparisons}
    assert set(by_name) == {"relu", "identity"}
    relu = by_name["relu"]
    scores = {(m.name, m.pair): m.scores for m in found.measured}
    gap = [a - b for a, b in zip(scores["sin(x)", "photo/inr.24"], scores["relu", "photo/inr.24"], strict=True)]
    assert relu.per_pair["photo/inr.24"] == pytest.approx(sum(gap) / 3)
    assert relu.samples == 6
    assert relu.level == pytest.approx(0.975)
    assert relu.verdict in ("better", "not better", "worse")


def test_workers_and_repeats_change_nothing(found):
    again = evaluate_formula("sine", ["relu", "identity"], ["digits/mlp.16", "photo/inr.24"], seeds=3, steps=60, executor="local", workers=2)
    assert [m.scores for m in again.measured] == [m.scores for m in found.measured]


def test_the_table_says_units_and_words(found):
    text = "\n".join(table_of(found))
    assert "dB" in text
    assert "%" in text
    assert any(line.split(" than ")[0] in ("better", "not better", "worse") for line in text.splitlines() if " than " in line)
    assert found.to_data()["measured"][0]["unit"] == "%"


def test_objectives_are_measured_beside_the_score_of_their_split():
    found = evaluate_formula("sin(x)", ["relu"], ["digits/mlp.16", "photo/inr.24"], seeds=2, steps=20, executor="serial", objectives=["noise", "calibration"])
    values = {(m.objective, m.name, m.pair): m for m in found.objectives}
    assert set(values) == {(o, n, p) for o in ("score", "noise") for n in ("sin(x)", "relu") for p in ("digits/mlp.16", "photo/inr.24")} | {
        ("calibration", n, "digits/mlp.16") for n in ("sin(x)", "relu")
    }
    noise, score = values["noise", "sin(x)", "photo/inr.24"], values["score", "sin(x)", "photo/inr.24"]
    assert noise.mean < score.mean
    assert len(noise.scores) == 2
    assert noise.half > 0
    text = "\n".join(table_of(found))
    assert "noise dB" in text
    assert "calibration %" in text
    assert {m["objective"] for m in found.to_data()["objectives"]} == {"score", "noise", "calibration"}


def test_without_objectives_none_is_measured(found):
    assert found.objectives == ()
    assert "validation" not in "\n".join(table_of(found))


def test_a_function_that_breaks_is_named():
    broken = evaluate_formula("exp(exp(x))", ["relu"], ["digits/mlp.16"], seeds=2, steps=5, executor="serial")
    assert list(broken.failed) == ["exp(exp(x)) on digits/mlp.16"]
    assert not broken.comparisons
    assert broken.why_nothing == broken.failed["exp(exp(x)) on digits/mlp.16"]


def test_nothing_is_said_to_have_failed_where_something_was_measured(found):
    assert found.why_nothing is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"seeds": 1}, "at least 2 seeds"), ({"against": ["silu"]}, "not the formula itself"), ({"text": "foo(x)"}, "unknown operator"),
     ({"text": "relux"}, "did you mean"), ({"against": ["rleu"]}, "did you mean `relu`"),
     ({"text": "x * sigmoid(y)"}, r"`x \* sigmoid\(y\)` has a gate y"), ({"against": ["relu", "swiglu"]}, "`swiglu` has a gate y"),
     ({"steps": 0}, "at least 1 step; received 0"), ({"workers": -1}, "received -1"), ({"device": "gpu"}, "`gpu` is not there .*use cpu"),
     ({"device": "cuda:99"}, "is not there"), ({"pairs": []}, "at least one task"), ({"pairs": ["digits/mlp", "digits/mlp"]}, "stands here twice"),
     ({"pairs": ["digits/mpl"]}, "mlp"), ({"executor": "locl"}, "unknown executor"),
     ({"text": "swiglu", "against": ["swiglu"], "pairs": ["textures/vit"], "slot": "gate"}, r"not the formula itself, e.g. --against 'x \+ y'"),
     ({"objectives": ["nois"]}, "did you mean `noise`"), ({"objectives": ["inference_time"]}, "is not of trained networks"),
     ({"objectives": ["noise", "noise"]}, "stands here twice"), ({"objectives": ["calibration"], "pairs": ["photo/inr"]}, "whose targets are classes")],
)  # fmt: skip
def test_mistakes_are_said_before_anything_runs(arguments, message, monkeypatch):
    given = {"text": "x * sigmoid(x)", "against": ["relu"], "pairs": ["digits/mlp"], "seeds": 2, "executor": "serial", **arguments}
    monkeypatch.setattr(SerialExecutor, "poll", lambda *args: pytest.fail("trained"))
    if given["against"] == ["silu"]:
        given["text"] = "silu"
    with pytest.raises(ValueError, match=message):
        evaluate_formula(given.pop("text"), given.pop("against"), given.pop("pairs"), **given)


def test_no_workers_are_one_a_core(monkeypatch):
    given = []

    def record(*args, **options):
        given.append((options["workers"], options["memory_limit_gb"]))
        raise ValueError("enough")

    monkeypatch.setattr(evaluation, "make_executor", record)
    for workers in (0, None, 3):
        with pytest.raises(ValueError, match="enough"):
            evaluate_formula("sin(x)", ["relu", "gelu"], ["digits/mlp"], workers=workers)
    assert given == [(min(os.cpu_count(), 3), 8.0), (min(os.cpu_count(), 3), 8.0), (3, 8.0)]


def test_names_and_pairs():
    assert formula_of("silu") == "silu(x)"
    assert formula_of("x*sigmoid(x)") == "x * sigmoid(x)"
    assert pairs_of(["photo", "digits"]) == ("photo/inr", "digits/mlp")
    assert pairs_of(["digits"], "deep-mlp") == ("digits/deep-mlp",)
    with pytest.raises(ValueError, match="unknown task"):
        pairs_of(["fotos"])
    with pytest.raises(ValueError, match="`photo/inr` stands here twice; leave one out"):
        pairs_of(["photo", "digits", "photo/inr"])


def test_commas_separate_outside_of_formulas():
    assert names_of(["relu, max(x, 0),gelu", "a * x + b where a = 1, b = 2"]) == ["relu", "max(x, 0)", "gelu", "a * x + b where a = 1, b = 2"]
