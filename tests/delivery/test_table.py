"""The page of a run: verdicts in words, a summary that does not fit, what an unfinished run says."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from evosearch.config import load
from evosearch.delivery.progress import Progress
from evosearch.delivery.summary import Form, Reading, Summary, conclusion, judge, stored_summary, verdict_line
from evosearch.delivery.table import page
from evosearch.language.formula import parse
from evosearch.meaning.facts import novelty
from evosearch.search.pick import pick
from evosearch.search.scale import Scale
from evosearch.search.study import FINAL_INDEX
from evosearch.search.verdict import Comparison

CONFIG = load("smoke.yaml")
SCALE = Scale({"full:digits/mlp": 0.0, "full:photo/inr": 0.0}, {"full:digits/mlp": 1.0, "full:photo/inr": 1.0}, {})
FOUND = "sin(x) * tanh(x)"


def row(index, text, mean, proposer="baseline", stage="full", scores=None):
    pairs = {f"full:{pair}:{seed}": mean for pair in CONFIG.judging.full.pairs for seed in (0, 1)}
    return {
        "index": index, "ask": index, "attempt": 0, "candidate": text, "canonical_id": parse(text).canonical_id,
        "proposer": proposer, "status": "ok", "stage": stage,
        "reason": None, "scores": pairs if scores is None else scores, "seconds": {"full": 2.0},
        "objectives": {"mean": mean, "worst": mean, "complexity": 5.0, "saved_per_element": 1.0},
    }  # fmt: skip


def reading(directory=Path("run"), finals=True, gain=0.0):
    searched = [row(0, "x", -1.0), row(1, "relu(x)", 0.0), row(2, "tanh(x)", 0.1), row(3, "sin(x)", 0.2), row(4, FOUND, 1.0, "random")]
    checked = []
    for text in (FOUND, "sin(x)", "tanh(x)", "relu(x)"):
        for k, pair in enumerate(CONFIG.judging.final.pairs):
            scores = {f"final:{pair}:{1000 + s}": 90.0 + s + k + gain * (text == FOUND) for s in range(2)}
            checked.append(row(FINAL_INDEX + 5000 + len(checked), text, 0.0, "final", "final", scores))
    return Reading(directory, CONFIG, [*searched, *checked], SCALE, searched, pick(searched, SCALE), checked if finals else [])


def summary_of(run, **changes):
    text = FOUND
    fields = {
        "search_end": 5, "pick": run.pick, "verdict": judge(run, {text: 7.0}), "novelty": {text: novelty(parse(text))},
        "simplified": {text: Form("cos(x)", True, "simplified by sympy")}, "relative_time": {text: 7.0}, "counts": {},
    }  # fmt: skip
    return Summary(**(fields | changes))


def compared(*words):
    return [Comparison(f"b{i}", 0.0, -1.0, 1.0, word, {}, 4, 0.99) for i, word in enumerate(words)]


def test_a_verdict_is_one_line():
    assert conclusion(compared("not better", "worse"), 19.28) == (
        "NOT better than any of 2 baselines on unseen pairs (b0, b1), WORSE than b1; takes 19.3 times as long as ReLU"
    )
    assert conclusion(compared("better", "better"), None) == "better than all 2 baselines on unseen pairs (b0, b1)"
    assert conclusion(compared("better", "not better"), None) == "better than 1 of 2 baselines on unseen pairs (b0), NOT than b1; a candidate only"
    assert conclusion([], None).startswith("none, the final check has no scores")


def test_the_page_shows_what_was_judged_and_its_verdict():
    run = reading()
    text = "\n".join(page(run, summary_of(run), "", None))
    assert f"*>>>>  {FOUND}" in text
    assert f"equal and smaller, by sympy: {FOUND} = cos(x)" in text
    assert "verdict: NOT better than any of 3 baselines on unseen pairs (sine, tanh, relu); takes 7.0 times as long as ReLU" in text
    assert "functions: 1 found + 4 baselines" in text
    assert "hypervolume of the front over that of the baselines alone: with the finds 2.47" in text
    assert parse(FOUND).canonical_id[:6] in text
    assert "measured on the machine that ended the run, when it did" in text
    better = reading(gain=5.0)
    assert "verdict: better than all 3 baselines on unseen pairs" in "\n".join(page(better, summary_of(better), "", None))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_page_fits(width):
    run = reading()
    lines = page(run, summary_of(run), "", width)
    assert max(map(len, lines)) <= width
    assert any(line.startswith("*>>>>") for line in lines)


ASKED = ["noise", "kurtosis", "calibration", "flops", "inference_time"]


def measured():
    """The run, with what was asked for: kurtosis is not finite for one function on one pair."""
    run = reading()
    judging = run.config.judging.model_copy(update={"objectives": ASKED})
    for r in run.searched:
        r["objectives"]["flops"] = 7.0
        for pair, base in (("digits/mlp", 90.0), ("photo/inr", 20.0)):
            r["objectives"] |= {f"noise:{pair}:{seed}": base + seed for seed in (0, 1)} | {f"kurtosis:{pair}:0": 3.14159}
        r["objectives"] |= {"calibration:digits/mlp:0": 2.5}
    del run.searched[-1]["objectives"]["kurtosis:photo/inr:0"]
    return dataclasses.replace(run, config=run.config.model_copy(update={"judging": judging}))


def test_what_was_asked_for_has_its_columns():
    run = measured()
    lines = page(run, summary_of(run, inference_time={FOUND: 5.5}), "", None)
    at = next(i for i, line in enumerate(lines) if "noise[1]" in line)
    assert lines[at].split() == ["formula", "noise[1]", "noise[2]", "kurtosis[1]", "kurtosis[2]", "calibration[1]", "flops", "inference_time"]
    found = next(line for line in lines[at:] if line.startswith(FOUND))
    assert found.removeprefix(FOUND).split() == ["90.5", "20.5", "3.14", "-", "2.5", "7", "5.5"]
    text = "\n".join(lines)
    assert "calibration: expected calibration error, 15 bins [%, less is better]" in text
    assert "noise: score with Gaussian noise" in text
    assert not any("noise[" in line for line in page(reading(), summary_of(run), "", None))


def test_the_front_is_that_of_the_goals():
    run = measured()
    for r in run.searched:
        r["objectives"]["noise"] = 2.0 if r["candidate"] == "x" else 1.0
    goals = run.config.judging.model_copy(update={"goals": ["noise"]})
    lines = page(dataclasses.replace(run, config=run.config.model_copy(update={"judging": goals})), None, "", None)
    assert "*: on the Pareto front of mean, noise" in "\n".join(lines)
    assert {line.split()[1] for line in lines if line.startswith("* ")} == {"x"}
    assert [line.split()[1] for line in page(run, None, "", None) if line.startswith("* ")] == []


@pytest.mark.parametrize("width", [40, 80, 120])
def test_measured_columns_fit_or_are_said_to_be_left_out(width):
    run = measured()
    lines = page(run, summary_of(run, inference_time={FOUND: 5.5}), "", width)
    assert max(map(len, lines)) <= width
    text = " ".join(line.strip() for line in lines)
    assert all(f"{title}[1]" in text for title in ("noise", "kurtosis", "calibration"))


def test_an_unfinished_run_says_so():
    run = reading(finals=False)
    assert not run.finished
    assert "the run is unfinished" in verdict_line(run, None, FOUND)
    assert "only the pick" in verdict_line(reading(), None, "sin(x)")
    assert "NOT better" in verdict_line(reading(), None, FOUND)
    nothing = dataclasses.replace(run, searched=run.searched[:4], pick=None)
    assert not any("pick:" in line for line in page(nothing, None, "", None))


def test_a_summary_that_does_not_fit_is_not_used(tmp_path):
    run = reading(tmp_path)
    assert stored_summary(run) == (None, "")

    def stored(text):
        (tmp_path / "summary.json").write_text(text)
        return stored_summary(run)

    fits = summary_of(run)
    assert stored(json.dumps(dataclasses.asdict(fits))) == (fits, "")
    earlier = dataclasses.replace(fits, search_end=3)
    assert "of the first 3 of 5 functions" in stored(json.dumps(dataclasses.asdict(earlier)))[1]
    other = dataclasses.replace(fits, pick=dataclasses.replace(run.pick, index=2))
    assert "another pick" in stored(json.dumps(dataclasses.asdict(other)))[1]
    for damaged in ("", "{", "[]", "{}", '{"pick": null}', "\x00"):
        summary, note = stored(damaged)
        assert summary is None
        assert "summary.json is not what" in note


def test_no_time_is_promised_before_the_baselines_are_done():
    counts = {"told": 3, "asked": 4, "evaluations": 30, "final": 0, "final_told": 0}
    study = SimpleNamespace(scale=None, replayed=0, rows=list, progress=lambda: counts)
    stream = io.StringIO()
    progress = Progress(stream, 80)
    progress(study, SimpleNamespace(in_flight=[]))
    assert "baselines first" in stream.getvalue()
    assert " min " not in stream.getvalue()
    study.scale = SCALE
    progress._printed = 0.0
    progress(study, SimpleNamespace(in_flight=[]))
    counts["told"] = 5
    progress._printed = 0.0
    progress(study, SimpleNamespace(in_flight=[]))
    assert "min + final check left" in stream.getvalue()


def test_the_page_says_how_many_proposals_pass_the_filters_before_training():
    """A duplicate passed them; what came after a proposer's first 200 is said apart."""
    reasons = {k: ("static:size" if k % 2 else "duplicate" if k % 10 == 0 else None) for k in range(5, 205)} | dict.fromkeys(
        range(205, 255), "quality:digits/mlp"
    )
    rows = [
        row(k, FOUND, 0.0, f"islands:{k % 4}") | {"reason": reason, "status": "duplicate" if reason == "duplicate" else "ok"} for k, reason in reasons.items()
    ]
    run = reading()
    text = "\n".join(page(dataclasses.replace(run, rows=[*reversed(rows), *run.rows]), None, "", None))
    assert "pass the static and numeric filters: random 100% of 1, 0 duplicates; islands 60% of 250, 100% after the first 200, 20 duplicates" in text
