"""Formats: each says what was judged, what one cannot say has a reason, and what differs is refused or on the one list."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evosearch.delivery.export import ExportError, export, make_formats
from evosearch.delivery.formats import FORMATS, chosen, text, torchscript, verification
from evosearch.delivery.formats import numpy as numpy_format
from evosearch.delivery.formats.cases import cases, expected
from evosearch.delivery.formats.format import PROBE_FEATURES, CannotBeMade, Layer, counts_channels, needs_features
from evosearch.delivery.formats.verification import exceptions, judge, verify
from evosearch.delivery.source import whole
from evosearch.language.formula import parse
from evosearch.language.graph import make, variable
from evosearch.language.library import library
from evosearch.language.operators import OPERATORS, Operator
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.symbolic import _written
from evosearch.source import import_file

LAYERS = [
    "x * sigmoid(v * x) / std(x, group) where v: channel = 1",
    "relu(w * (x - mean(x, batch)) / std(x, batch) + b) + 0.1 * rms(x, layer) where w: channel = 1, b: channel = 0",
    "relu(x) ~ relu(x + 0.1)",
    "max(x, tanh(y)) * v where v: layer = 2",
    "exp(x - max(x, row)) / sum(exp(x - max(x, row)), row)",
]


def layer(formula, number=0):
    graph = parse(formula) if isinstance(formula, str) else formula
    features = PROBE_FEATURES if needs_features(graph) or counts_channels(graph) else None
    name = f"layer{number}"
    return Layer(graph, name, name.title(), name, features, whole(graph, name.title(), name, "unbiased"))


def verified(folder, layers, names):
    made = [make_formats(one, folder, [FORMATS[name] for name in ("py", *names)], by_name=True)[0] for one in layers]
    return verify([(one, folder) for one in layers], made)


def test_every_format_of_every_kind_of_layer_agrees_in_one_fresh_process(tmp_path):
    pytest.importorskip("onnxruntime")
    names = [name for name in FORMATS if name != "jax" or importlib.util.find_spec("jax")]
    layers = [layer(formula, i) for i, formula in enumerate(LAYERS)]
    for one, found in zip(layers, verified(tmp_path, layers, names), strict=True):
        assert set(found) == {name for name in names if FORMATS[name].read}
        for name, verdict in found.items():
            assert not verdict.failures, (str(one.graph), name, verdict.failures)
            types = FORMATS[name].types
            assert set(verdict.cases) == {case.name for case in cases(one) if str(case.inputs[0].dtype).removeprefix("torch.") in types}
            assert verdict.largest < 1e-2


def test_the_cases_hold_what_is_promised():
    found = {case.name: case.inputs[0] for case in cases(layer("x * sigmoid(x)"))}
    everything = torch.cat([t.flatten().float() for t in found.values()])
    assert everything.isnan().any()
    assert everything.isposinf().any()
    assert everything.isneginf().any()
    assert (everything == 0).any()
    assert (everything.abs() > 1e30).any()
    assert ((everything.abs() < 1e-30) & (everything != 0)).any()
    assert {t.dtype for t in found.values()} == {torch.float32, torch.float16, torch.bfloat16}
    assert found["batch of one"].shape[0] == 1
    assert found["one place"].shape[2:] == (1, 1)
    assert found["empty batch"].shape[0] == 0
    assert found["channels last"].is_contiguous(memory_format=torch.channels_last)
    assert not found["not contiguous"].is_contiguous()
    results = expected(layer(LAYERS[1]))["cases"]["ordinary"]["expected"]
    assert {key.split()[0] + " " + key.split()[1] for key in results} == {"eval value", "eval gradient", "train value", "train gradient", "train state"}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_the_numpy_reference_has_every_operator(name, tmp_path):
    graph = make(name, *(variable("x"), make("sin", variable("x")))[: OPERATORS[name].arity])
    one = Layer(graph, "layer", "Layer", "layer", None, "")
    (tmp_path / "layer_numpy.py").write_text(numpy_format.source(one))
    function = import_file(tmp_path / "layer_numpy.py", f"numpy_{name}").layer
    x = np.concatenate([np.linspace(-6, 6, 97), [0.0, 1e-8, 40.0, -40.0, 1500.0, np.inf, -np.inf, np.nan]])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(function(x), evaluate(graph, {"x": x}), rtol=1e-12, atol=1e-15)
    assert function(x.astype(np.float16)).dtype == np.float16


BREAKS = [
    ("numpy", numpy_format._SPECIAL, "expit", "def _expit(x):\n    return np.tanh(x)", r"layer_numpy.py does not reproduce .*eval value of the case"),
    ("numpy", numpy_format._SPECIAL, "expit", "def _expit(x):\n    return 1 / (1 + np.exp(-x)) + 1e-5", "eval value of the case"),
    ("numpy", numpy_format._SPECIAL, "expit", "def _expit(x):\n    return np.where(np.isnan(x), 0, 1 / (1 + np.exp(-x)))", "not a number"),
]


@pytest.mark.parametrize(("name", "table", "key", "broken", "message"), BREAKS)
def test_a_file_that_computes_something_else_is_refused(name, table, key, broken, message, tmp_path, monkeypatch):
    monkeypatch.setitem(table, key, broken)
    with pytest.raises(ExportError, match=message):
        export(parse("x * sigmoid(x)"), tmp_path / "layer", "layer", formats=[name])
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_the_list_explains_no_more_than_it_says():
    row = replace(exceptions()[0], format="ts", results=("eval value",), inputs=("nan",), cases=("not a number",), operators=("sign",), within=None)
    found = {"error": None, "wrong": "0 for nan", "places": ["nan"]}
    arguments = ("ts", "not a number", "eval value", found, frozenset({"sign"}))
    assert row.covers(*arguments)
    for i, other in enumerate(("onnx", "huge", "train value", {**found, "places": ["nan", "ordinary"]}, frozenset({"sin"}))):
        assert not row.covers(*arguments[:i], other, *arguments[i + 1 :])
    assert not replace(row, within=1.0).covers(*arguments)
    assert replace(row, within=1.0).covers(*arguments[:3], {**found, "error": 0.5}, arguments[4])


def test_what_no_row_explains_is_a_failure():
    wrong = {"ordinary": {"eval value": {"error": 0.5, "wrong": "1 for 2", "places": ["ordinary"]}}}
    assert judge({"ts": wrong}, frozenset(), {})["ts"].failures == ["eval value of the case `ordinary`: 1 for 2 (inputs: ordinary)"]
    assert judge({"ts": {}}, frozenset(), {})["ts"].failures == ["no case was compared"]


@pytest.mark.slow
def test_every_row_of_the_list_is_needed(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    rows = exceptions()
    examples = list(dict.fromkeys(row.example for row in rows))
    names = sorted({row.format for row in rows})
    monkeypatch.setattr(verification, "exceptions", lambda: ())
    found = verified(tmp_path, [layer(text, i) for i, text in enumerate(examples)], names)
    monkeypatch.setattr(verification, "exceptions", lambda: rows)
    explained = verified(tmp_path, [layer(text, i) for i, text in enumerate(examples)], names)
    for row in rows:
        at = examples.index(row.example)
        assert found[at][row.format].failures, f"nothing differs: {row}"
        assert row.reason in {one["reason"] for one in explained[at][row.format].exceptions}, row


def test_a_format_that_cannot_be_made_has_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torchscript, "unable", lambda: "this torch scripts no more")
    done = export(parse("x * v where v: channel = 1"), tmp_path / "layer", "layer")
    assert done.absent == {
        "ts": "this torch scripts no more", "onnx": "onnx, onnxscript, onnxruntime not installed: pip install 'evosearch[onnx]'",
        "pt2": "the layer keeps a value per channel, and a .pt2 file holds a fixed number of them: pass --features N",
    }  # fmt: skip
    said = json.loads((tmp_path / "layer" / "verify.json").read_text())
    assert said["absent"] == done.absent
    assert said["not asked for"] == ["numpy", "jax"]
    assert {"py", "txt"} == set(said["formats"])
    assert said["formats"]["py"]["cases"]["not a number"] == 0.0
    for name, reason in {"onnx": "not installed", "pt2": "pass --features N", "jax": "pip install jax"}.items():
        with pytest.raises(ExportError, match=f"--formats {name} cannot be made: .*{reason}.*nothing was written"):
            export(parse("x * v where v: channel = 1"), tmp_path / "other", "other", formats=[name])
    assert not (tmp_path / "other").exists()
    with pytest.raises(ExportError, match="--formats takes py,ts,pt2,onnx,txt,numpy,jax; received `tflite`"):
        export(parse("sin(x)"), tmp_path / "other", "other", formats=["py", "tflite"])


def test_a_torch_that_no_longer_scripts(monkeypatch):
    assert torchscript.unable() is None
    monkeypatch.delattr(torch.jit, "script")
    assert "has no torch.jit.script" in str(torchscript.unable())


def test_groups_need_the_number_of_channels(tmp_path):
    one = Layer(parse("x / std(x, group)"), "layer", "Layer", "layer", None, "")
    for name in ("pt2", "onnx"):
        with pytest.raises(CannotBeMade, match="the number of groups follows from that of the channels"):
            FORMATS[name].make(one, tmp_path / "file")


def test_onnx_says_by_name_what_it_lacks(tmp_path):
    pytest.importorskip("onnxscript")
    with pytest.raises(CannotBeMade, match="bessel_i0"):
        FORMATS["onnx"].make(layer("i0(x)"), tmp_path / "layer.onnx")


def test_an_operator_of_scipy_alone_has_a_reason_in_numpy(tmp_path, monkeypatch):
    monkeypatch.setitem(OPERATORS, "dawson", Operator("dawson", 1, "torch.exp({a})", "special.dawsn", "exp", ("1 - 2 * a * f",), 9))
    for name in ("numpy", "jax"):
        with pytest.raises(CannotBeMade, match=r"`dawson` is special.dawsn of scipy, which .* does not have"):
            FORMATS[name].make(Layer(make("dawson", variable("x")), "layer", "Layer", "layer", None, ""), tmp_path / "file.py")


def test_onnx_keeps_weights_under_their_names_and_has_standard_operators(tmp_path):
    onnx = pytest.importorskip("onnx")
    FORMATS["onnx"].make(layer("(x - mean(x, batch)) / std(x, batch) * w + b * elish(x) where w: channel = 1, b: channel = 0"), tmp_path / "layer.onnx")
    model = onnx.load(tmp_path / "layer.onnx")
    kept = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert {name: float(kept[name][0]) for name in ("running_mean", "running_var")} == {"running_mean": 0.0, "running_var": 1.0}
    assert sum(values.shape == (PROBE_FEATURES,) for values in kept.values()) == 4
    assert {node.domain for node in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert not model.functions
    sizes = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes[1] == PROBE_FEATURES
    assert all(isinstance(size, str) for size in (sizes[0], *sizes[2:]))


@pytest.mark.parametrize("name", library())
def test_sympy_text_of_the_library_is_read_back(name):
    graph = library()[name].graph
    text.check(graph, _written(graph))


def test_sympy_text_that_says_something_else_is_refused():
    with pytest.raises(CannotBeMade, match="gives other values"):
        text.check(parse("x * sigmoid(x)"), "x/(1 + exp(x))")
    with pytest.raises(CannotBeMade, match="is not read back"):
        text.check(parse("x"), "Piecewise((x, True))")


def test_py_is_always_there():
    assert [one.name for one in chosen(["onnx"])] == ["py", "onnx"]
    assert [one.name for one in chosen(None)] == ["py", "ts", "pt2", "onnx", "txt"]
