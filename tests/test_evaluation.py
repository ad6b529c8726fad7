"""One formula against known ones: everyone the same chance, paired differences, a word."""

from __future__ import annotations

import pytest

from evosearch.evaluation import evaluate_formula, formula_of, names_of, pairs_of, table_of


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


def test_a_function_that_breaks_is_named():
    broken = evaluate_formula("exp(exp(x))", ["relu"], ["digits/mlp.16"], seeds=2, steps=5, executor="serial")
    assert list(broken.failed) == ["exp(exp(x)) on digits/mlp.16"]
    assert not broken.comparisons


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"seeds": 1}, "at least 2 seeds"), ({"against": ["silu"]}, "not the formula itself"), ({"text": "foo(x)"}, "unknown operator"),
     ({"text": "relux"}, "did you mean"), ({"against": ["rleu"]}, "did you mean `relu`")],
)  # fmt: skip
def test_mistakes_are_said_before_anything_runs(arguments, message):
    given = {"text": "x * sigmoid(x)", "against": ["relu"], "seeds": 2, **arguments}
    if given["against"] == ["silu"]:
        given["text"] = "silu"
    with pytest.raises(ValueError, match=message):
        evaluate_formula(given["text"], given["against"], ["digits/mlp"], seeds=given["seeds"], executor="serial")


def test_names_and_pairs():
    assert formula_of("silu") == "silu(x)"
    assert formula_of("x*sigmoid(x)") == "x * sigmoid(x)"
    assert pairs_of(["photo", "digits"]) == ("photo/inr", "digits/mlp")
    assert pairs_of(["digits"], "deep-mlp") == ("digits/deep-mlp",)
    with pytest.raises(ValueError, match="unknown task"):
        pairs_of(["fotos"])


def test_commas_separate_outside_of_formulas():
    assert names_of(["relu, max(x, 0),gelu", "a * x + b where a = 1, b = 2"]) == ["relu", "max(x, 0)", "gelu", "a * x + b where a = 1, b = 2"]
