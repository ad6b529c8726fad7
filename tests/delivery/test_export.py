"""Exported files: names, folders, channels, two inputs. Every export is verified in a fresh process by `export` itself."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tomllib

import pytest
import torch

from evosearch.compiler.emit import emit
from evosearch.delivery import export as module
from evosearch.delivery.export import ExportError, class_name, export
from evosearch.delivery.papers.write import PAPERS
from evosearch.delivery.source import whole
from evosearch.language.formula import parse
from evosearch.source import import_file


def test_class_names():
    assert class_name("my_layer") == "MyLayer"
    assert class_name("relu") == "Relu"


TAKEN = ["init_", "self_test", "LATEX", "None", "class", "lambda", "Tensor", "tensor", "value_error", "F", "BLOCK", "torch", "evosearch", "random", "print"]


@pytest.mark.parametrize("name", [*TAKEN, "a-b", "", "_x", "x" * 65])
def test_a_name_that_hides_something_is_refused_and_no_folder_is_left(tmp_path, name):
    with pytest.raises(ExportError, match="name"):
        export(parse("sin(x) * x"), tmp_path / "new" / "folder", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["/proc/x/lay", "file/lay", "file/deep/lay", "dangling/lay", "loop/lay", "x" * 300, "a/" + "x" * 300])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, to):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "file" / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(module, "emit", lambda *args: pytest.fail("worked"))
    with pytest.raises(ExportError, match=r"cannot be written \(.*\); pass another --to") as caught:
        export(parse("sin(x)"), tmp_path / to, "layer")
    assert len(str(caught.value)) < 400
    if not to.startswith("x"):
        assert str(tmp_path / to)[:100] in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("formula", ["x / 0", "log(-exp(x))", "x + 1 / (v * 0) where v: channel = 1"])
def test_a_formula_that_is_finite_nowhere_is_refused_with_a_reason(tmp_path, formula):
    with pytest.raises(ExportError, match="is finite nowhere"):
        export(parse(formula), tmp_path / "layer", "layer")
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_an_export_that_was_killed_is_no_other_thing(tmp_path):
    (tmp_path / "layer" / "_tmp.export.abc").mkdir(parents=True)
    assert len(export(parse("sin(x)"), tmp_path / "layer", "layer", formats=["ts"]).files) == 6 + len(PAPERS)


def test_two_inputs(tmp_path):
    export(parse("x * sigmoid(y)"), tmp_path / "gate", "gate", formats=["ts"])
    assert json.loads((tmp_path / "gate" / "formula.json").read_text())["inputs"] == ["x", "y"]
    layer = torch.jit.load(str(tmp_path / "gate" / "gate.ts.pt"))
    assert layer(torch.ones(2, 3), torch.zeros(2, 3)).eq(0.5).all()


def test_torchscript_of_a_layer_with_channels_has_the_number_that_was_asked(tmp_path):
    graph, folder = parse("x * sigmoid(v * x) where v: channel = 1"), tmp_path / "layer"
    beside = {"formula.json", "formula.tex", "layer.py", "pyproject.toml", "verify.json", *PAPERS}
    found = export(graph, folder, "layer")
    assert {p.name for p in found.files} == {*beside, "formula.txt"}
    assert set(found.absent) == {"ts", "pt2", "onnx"}
    assert {p.name for p in export(graph, folder, "layer", features=6, formats=["ts"]).files} == {*beside, "layer.ts.pt"}
    assert not (folder / "formula.txt").exists()  # what was not asked for is not left from before
    assert json.loads((folder / "formula.json").read_text())["num_features"] == 6
    assert torch.jit.load(str(folder / "layer.ts.pt"))(torch.ones(2, 6)).shape == (2, 6)
    export(graph, folder, "layer", formats=["py"])
    assert not (folder / "layer.ts.pt").exists()  # one of six channels would be stale
    with pytest.raises(ExportError, match="1 to"):
        export(graph, folder, "layer", features=0)
    with pytest.raises(ExportError, match="any number of channels"):
        export(parse("sin(x)"), tmp_path / "other", "other", features=6, formats=["py"])


def test_another_formula_is_kept_unless_told(tmp_path):
    folder = tmp_path / "layer"
    export(parse("sin(x)"), folder, "layer", formats=["py"])
    with pytest.raises(ExportError, match=r"another formula, `sin\(x\)`"):
        export(parse("cos(x)"), folder, "layer", formats=["py"])
    assert "sin" in (folder / "layer.py").read_text()
    export(parse("cos(x)"), folder, "layer", formats=["py"], overwrite=True)
    assert "cos" in (folder / "layer.py").read_text()
    (folder / "formula.json").write_text("{")
    with pytest.raises(ExportError, match="no readable formula"):
        export(parse("cos(x)"), folder, "layer", formats=["py"])


FORMULAS = {
    "activation": "sin(x) * x", "gate": "x * sigmoid(y)", "surrogate": "relu(x) ~ relu(x + 0.1)", "parameter": "x * sigmoid(v * x) where v: layer = 2",
    "nan": "x ** 0.5", "inf": "1 / relu(x)", "evonorm": "x * sigmoid(v * x) / std(x, group) where v: channel = 1",
    "batch": "relu(x / std(x, batch))", "row": "exp(x) / sum(exp(x), row)",
}  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_the_file_tests_itself_and_holds_what_was_judged(tmp_path, formula):
    graph = parse(formula)
    text = whole(graph, "MyLayer", "my_layer", "unbiased")
    assert text.startswith(emit(graph, "MyLayer").rstrip())
    (tmp_path / "my_layer.py").write_text(text)
    run = [sys.executable, "-I", str(tmp_path / "my_layer.py")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == f"MyLayer computes {graph}\n"
    broken = re.sub(r"(wanted = \[\n        \[)[^,]+", r"\g<1>0.123", text)
    assert broken != text
    (tmp_path / "my_layer.py").write_text(broken)
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr


def test_the_gain_keeps_the_signal_through_a_deep_network(tmp_path):
    assert "INIT_GAIN = 1.67653" in whole(parse("x * sigmoid(x)"), "MyLayer", "my_layer", "unbiased")
    (tmp_path / "layer.py").write_text(whole(parse("tanh(x)"), "MyLayer", "my_layer", "unbiased"))  # whose signal stays where the gain puts it
    module = import_file(tmp_path / "layer.py", "exported_for_gain")
    assert math.isclose(module.INIT_GAIN, 1.5925, abs_tol=1e-3)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        layers = [layer for _ in range(20) for layer in (torch.nn.Linear(400, 400), module.MyLayer())]
        net = module.init_(torch.nn.Sequential(*layers))
        x = torch.randn(500, 400)
    assert 0.7 < net[:-1](x).square().mean().item() < 1.4
    assert torch.equal(module.my_layer(x), module.MyLayer(inplace=True)(x))


def test_a_gain_that_is_not_finite_is_that_of_the_identity_and_says_so():
    assert "INIT_GAIN = 1  # E f(z)^2 of z ~ N(0, 1) is not finite" in whole(parse("1 / x"), "A", "a", "unbiased")


def test_the_folder_is_a_package(tmp_path):
    export(parse("sin(x) * x"), tmp_path / "my_layer", "my_layer", formats=["py"])
    project = tomllib.loads((tmp_path / "my_layer" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-layer"
    assert project["project"]["dependencies"] == ["torch>=2.4"]
    assert project["tool"]["setuptools"]["py-modules"] == ["my_layer"]
    assert (tmp_path / "my_layer" / "formula.tex").read_text().splitlines()[1].startswith("f'(x) = ")
