"""Exported files: names, folders, channels, two inputs. Every export is verified in a fresh process by `export` itself."""

from __future__ import annotations

import json

import pytest
import torch

from evosearch.delivery import export as module
from evosearch.delivery.export import ExportError, class_name, export
from evosearch.language.formula import parse


def test_class_names():
    assert class_name("my_layer") == "MyLayer"
    assert class_name("relu") == "Relu"


TAKEN = ["None", "True", "class", "lambda", "Tensor", "tensor", "value_error", "F", "BLOCK", "torch", "evosearch", "random", "print"]


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
    assert len(export(parse("sin(x)"), tmp_path / "layer", "layer")) == 3


def test_two_inputs(tmp_path):
    export(parse("x * sigmoid(y)"), tmp_path / "gate", "gate")
    assert json.loads((tmp_path / "gate" / "formula.json").read_text())["inputs"] == ["x", "y"]
    layer = torch.jit.load(str(tmp_path / "gate" / "gate.ts.pt"))
    assert layer(torch.ones(2, 3), torch.zeros(2, 3)).eq(0.5).all()


def test_torchscript_of_a_layer_with_channels_has_the_number_that_was_asked(tmp_path):
    graph, folder = parse("x * sigmoid(v * x) where v: channel = 1"), tmp_path / "layer"
    assert [p.name for p in export(graph, folder, "layer")] == ["formula.json", "layer.py"]
    assert [p.name for p in export(graph, folder, "layer", features=6)] == ["formula.json", "layer.py", "layer.ts.pt"]
    assert json.loads((folder / "formula.json").read_text())["num_features"] == 6
    assert torch.jit.load(str(folder / "layer.ts.pt"))(torch.ones(2, 6)).shape == (2, 6)
    export(graph, folder, "layer")
    assert not (folder / "layer.ts.pt").exists()  # one of six channels would be stale
    with pytest.raises(ExportError, match="1 to"):
        export(graph, folder, "layer", features=0)
    with pytest.raises(ExportError, match="any number of channels"):
        export(parse("sin(x)"), tmp_path / "other", "other", features=6)


def test_another_formula_is_kept_unless_told(tmp_path):
    folder = tmp_path / "layer"
    export(parse("sin(x)"), folder, "layer")
    with pytest.raises(ExportError, match=r"another formula, `sin\(x\)`"):
        export(parse("cos(x)"), folder, "layer")
    assert "sin" in (folder / "layer.py").read_text()
    export(parse("cos(x)"), folder, "layer", overwrite=True)
    assert "cos" in (folder / "layer.py").read_text()
    (folder / "formula.json").write_text("{")
    with pytest.raises(ExportError, match="no readable formula"):
        export(parse("cos(x)"), folder, "layer")
