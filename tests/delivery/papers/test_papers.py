"""The papers of an export say what was found, measured and tried, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from evosearch.compiler.module import compile_graph
from evosearch.delivery.export import export
from evosearch.delivery.formats.format import Layer
from evosearch.delivery.papers import benchmark as bench
from evosearch.delivery.papers.card import card, verdict
from evosearch.delivery.papers.citation import citation
from evosearch.delivery.papers.curves import drawing, extent, response
from evosearch.delivery.papers.origin import Origin, origin_of
from evosearch.delivery.papers.plot import svg
from evosearch.delivery.papers.provenance import provenance
from evosearch.delivery.papers.write import PAPERS
from evosearch.delivery.source import whole
from evosearch.delivery.summary import read
from evosearch.language.formula import parse
from evosearch.language.graph import with_affine
from evosearch.language.library import known, library
from evosearch.meaning.facts import Novelty, describe, novelty
from evosearch.run import stored
from evosearch.search.verdict import Comparison
from tests.delivery.papers.cff import faults

RUN = Path(__file__).parents[2] / "data" / "runs" / "format-2"
MEASURED = {
    "shape": [16, 32, 14, 14], "machine": {"cpu": "A CPU", "torch": "2.13"},
    "layers": {"ReLU": {"milliseconds": {"median": 0.2}, "over_relu": {"median": 1, "low": 1, "high": 1}, "kept_per_input_byte": 1.0},
               "Mine": {"milliseconds": {"median": 0.6}, "over_relu": {"median": 3.0, "low": 2.9, "high": 3.1}, "kept_per_input_byte": 1.0}},
}  # fmt: skip


@pytest.fixture(scope="module")
def origin() -> Origin:
    config, environment = stored(RUN)
    reading = read(RUN, config)
    return origin_of(reading, environment, reading.pick.candidate)


def layer_of(graph, name="my_layer", features=None):
    return Layer(graph, name, "MyLayer", name, features, whole(graph, "MyLayer", name, "unbiased"))


def text_of(graph, origin, verified=None):
    return card(layer_of(graph), describe(graph), "A caption.", MEASURED, verified or {}, origin, ["my_layer.py", "verify.json"])


def loaded(text):
    return YAML(typ="safe").load(text)


def test_an_export_of_a_run_says_what_the_run_says(tmp_path, origin):
    graph = parse("-x + sin(x)")
    files = export(graph, tmp_path / "layer", "my_layer", origin=origin, formats=["py"]).files
    assert {*PAPERS} <= {path.name for path in files}
    page = (tmp_path / "layer" / "MODEL_CARD.md").read_text()
    summary = json.loads((RUN / "summary.json").read_text())
    assert [c["verdict"] for c in summary["verdict"]["comparisons"]] == ["not better"] * 3
    assert "**Not better than sine, relu or tanh here.**" in page
    assert "Better than" not in page
    counts = summary["counts"]
    assert f"Candidates tried: {counts['proposed']}, of which {counts['trained']} were trained, {counts['full']} in full" in page
    for one in summary["verdict"]["comparisons"]:
        assert f"| {one['against']} | {one['difference']:+.2f} | {one['low']:+.2f} to {one['high']:+.2f} | {one['verdict']} |" in page
    record = json.loads((tmp_path / "layer" / "provenance.json").read_text())
    assert record["run"]["tried"] == counts
    assert record["run"]["proposer"] == "random"
    assert record["canonical_id"] == graph.canonical_id
    assert re.fullmatch(r"[0-9a-f]{64}", record["run"]["config_sha256"])
    assert record["verdict"] == json.loads((tmp_path / "layer" / "formula.json").read_text())["verdict"]
    listed = set(re.findall(r"^- `([^`]+)`", page, flags=re.MULTILINE))
    assert listed == {path.name for path in files} - {"MODEL_CARD.md"}


def test_only_the_pick_has_a_final_check(origin):
    config, environment = stored(RUN)
    reading = read(RUN, config)
    other = next(row["candidate"] for row in reading.rows if row["proposer"] == "random" and row["candidate"] != reading.pick.candidate)
    found = origin_of(reading, environment, other)
    assert found.comparisons == ()
    assert text_of(parse(other), found).count("Not known. None, only the pick of a run is checked") == 1
    with pytest.raises(ValueError, match="no candidate `sinh"):
        origin_of(reading, environment, "sinh(x)")


@pytest.mark.parametrize(("words", "said"), [
    (["better", "better"], "**Better than a and b here.**"), (["worse", "better"], "**Worse than a here.** **Better than b here.**"),
    (["not better", "not better"], "**Not better than a or b here.**"), (["not better", "worse"], "**Worse than b here.** **Not better than a here.**"),
])  # fmt: skip
def test_the_verdict_is_that_of_the_comparisons(origin, words, said):
    comparisons = tuple(Comparison(name, 0.1, -1.0, 1.0, word, {}, 4, 0.95) for name, word in zip("ab", words, strict=True))
    found = dataclasses.replace(origin, comparisons=comparisons)
    assert verdict(describe(parse("sin(x) * x")), found)[0] == said


def test_a_given_formula_claims_nothing():
    page = text_of(parse("sin(x) * exp(-abs(x))"), None)
    assert "Not judged here. The formula was given, no run found it, and nothing is claimed of it." in page
    assert "No candidates were tried." in page
    assert "etter than" not in page
    record = provenance(parse("sin(x)"), novelty(parse("sin(x)")), None)
    assert record["run"] is None
    assert "no run found it" in record["found"]
    assert "Misra 2019, arXiv 1908.08681" in text_of(parse("x * tanh(softplus(x))"), None)


def test_the_card_says_what_became_of_the_formats():
    refused = {"simplified": {"accepted": False, "note": "differs at x = 100"}, "absent": {"onnx": "not installed"}}
    page = text_of(parse("sin(x)"), None, refused)
    assert "A simplified form was asked for: differs at x = 100, and the formula was exported as it was." in page
    assert "Not there: onnx (not installed)." in page
    assert "simplified" not in text_of(parse("sin(x)"), None)


def test_how_to_use_it_runs_as_it_is_written(tmp_path, monkeypatch):
    for number, (formula, features) in enumerate([("x * sigmoid(x)", None), ("relu(x / std(x, batch))", 6), ("x * sigmoid(y)", None)]):
        name, graph = f"papers_usage_{number}", parse(formula)
        layer = layer_of(graph, name, features)
        (tmp_path / f"{name}.py").write_text(layer.source)
        monkeypatch.syspath_prepend(str(tmp_path))
        page = card(layer, describe(graph), "", MEASURED, {}, None, [])
        lines = re.search(r"```python\n(.*?)\n```", page, flags=re.DOTALL)[1]
        assert len(lines.splitlines()) == 4
        scope: dict[str, object] = {}
        exec(lines, scope)
        assert scope["out"].shape == (8, features or 64, 16, 16)


def test_a_stranger_s_names_stay_text(origin):
    evil = dataclasses.replace(origin, verdict="<script>alert(1)</script> | `x` \x1b[31m", comparisons=())
    page = text_of(parse("sin(x)"), evil)
    assert "<script>" not in page.replace("\\<script\\>", "")
    assert "\x1b" not in page


def test_the_plot_has_the_curves_and_is_the_same_twice(monkeypatch):
    drawn = drawing(parse("x * sigmoid(x)"), "Mine")
    first = svg(drawn)
    monkeypatch.setitem(mpl.rcParams, "font.size", 30.0)
    assert svg(drawn) == first
    assert mpl.rcParams["font.size"] == 30.0
    assert not re.search(r"20\d\d-\d\d-\d\d", first)
    assert all(f">{word}</text>" in first for word in ("Mine", "ReLU", "GELU", "f(x)"))
    f, slope, curvature = (panel.lines[0] for panel in drawn.panels)
    x = torch.tensor(f.x, requires_grad=True)
    out = torch.nn.functional.silu(x)
    (first_slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first_slope.sum(), x)
    for line, wanted in ((f, out), (slope, first_slope), (curvature, second)):
        np.testing.assert_allclose(line.y, wanted.detach().numpy(), atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "helu", "swiglu", "softmax", "evonorm_s0", "bn_relu", "prelu", "poly_norm", "binary_step", "identity"])
def test_any_kind_of_layer_has_a_drawing(name):
    drawn = drawing(known(name).graph, name)
    assert all(np.shape(line.x) == np.shape(line.y) for panel in drawn.panels for line in panel.lines)
    assert all(np.isfinite(extent(panel.lines)).all() for panel in drawn.panels)
    assert len(svg(drawn)) < 200_000
    assert np.isfinite(response(known(name).graph).y).any()


def test_the_response_of_a_norm_is_that_of_its_layer():
    line = drawing(known("evonorm_s0").graph, "evonorm_s0").panels[0].lines[0]
    x = torch.tensor(0.5 + 2 * np.random.default_rng(0).standard_normal((4, 64, 9, 9)), dtype=torch.float64)
    wanted = compile_graph(known("evonorm_s0").graph, 64).double()(x).detach()[0, 0].flatten().numpy()
    np.testing.assert_allclose(line.y, wanted[np.argsort(x[0, 0].flatten().numpy())], rtol=1e-6)


def test_the_benchmark_measures():
    graph = parse("sin(x) * x")
    slow_for = 0.002

    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(slow_for)
            return x * x.sin()  # eager: keeps x and sin(x)

    record = bench.benchmark(graph, "Mine", lambda features: Slow())
    mine, relu = record["layers"]["Mine"], record["layers"]["ReLU"]
    assert mine["milliseconds"]["low"] > 1e3 * slow_for
    assert mine["milliseconds"]["low"] <= mine["milliseconds"]["median"] <= mine["milliseconds"]["high"]
    assert mine["over_relu"]["median"] > 1.5
    assert 0 < relu["milliseconds"]["median"] < 50
    assert mine["kept_per_input_byte"] == 2.0
    assert relu["kept_per_input_byte"] == 1.0
    assert record["machine"]["torch"] == torch.__version__
    lean = bench.kept_per_byte(compile_graph(graph), (torch.randn(4, 8, 3, 3, requires_grad=True),))
    assert lean == 1.0


@pytest.mark.parametrize(("formula", "beside"), [
    ("sin(x)", {"ReLU", "GELU"}), ("x * sigmoid(y)", {"ReLU", "GELU", "GLU"}), ("x / rms(x, group)", {"ReLU", "GELU", "BN+ReLU"}),
    ("exp(x) / sum(exp(x), row)", {"ReLU", "GELU", "softmax"}),
])  # fmt: skip
def test_each_kind_is_measured_beside_the_usual_ones(monkeypatch, formula, beside):
    monkeypatch.setattr(bench, "ROUNDS", 3)
    graph = parse(formula)
    assert bench.benchmark(graph, "Mine", lambda features: compile_graph(graph, features))["layers"].keys() == {"Mine", *beside}


def test_the_interval_of_a_median_holds_it_as_often_as_it_says():
    draws = np.random.default_rng(0).exponential(size=(4000, 41))
    held = [low <= np.log(2) <= high for _, low, high in map(bench.median_interval, draws.tolist())]
    assert 0.95 <= np.mean(held) < 0.975
    assert bench.median_interval([1.0, 2.0, 3.0]) == (2.0, 1.0, 3.0)


def test_every_citation_of_the_library_is_valid_and_names_its_source():
    for name, layer in library().items():
        record = loaded(citation(layer.graph, name, Novelty("known", name, 0.0, 1.0, 1.0), False))
        assert faults(record) == [], name
        assert [r["notes"] for r in record["references"][:-1]] == [part.strip() for part in layer.source.split(";")]
    record = loaded(citation(known("silu").graph, "silu", novelty(known("silu").graph), False))
    assert record["references"][0]["identifiers"][0]["value"] == "10.48550/arXiv.1702.03118"
    s0 = with_affine(known("evonorm_s0").graph)
    assert loaded(citation(s0, "s0", novelty(s0), False))["references"][0]["year"] == 2020


def test_the_citation_of_a_find_refers_to_no_publication():
    graph = parse("sin(x) * exp(-abs(x))")
    record = loaded(citation(graph, "mine", novelty(graph), True))
    assert faults(record) == []
    assert [r["title"] for r in record["references"]] == ["evosearch"]
    assert graph.canonical_id in record["identifiers"][0]["value"]
