"""A network as files: a straight line of what was chosen, weights that torch alone reads, and nothing written that does not compute the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from evosearch.compiler.module import compile as compile_layer
from evosearch.delivery import network as leaving
from evosearch.delivery.formats import networks
from evosearch.delivery.network import FILES, Training, export_network
from evosearch.delivery.place import ExportError
from evosearch.delivery.straightline import straight
from evosearch.judging.architectures import Layers
from evosearch.judging.objectives import OWN, TASKS
from evosearch.judging.train import network
from evosearch.language.candidate import parse_candidate

PAIRS = {a: f"{name}/{a}" for name, measure in TASKS.items() for a in measure.architectures if a != OWN}
CHOSEN = (
    "act0 := x * sigmoid(v * x) where v: channel = 1; act1 := max(x, 0.1 * x); "
    "block := 'inverted'; depth := 2; norm := 'group'; placement := 'pre'; residual := 'scaled'"
)
CASES = {
    CHOSEN: "textures/stages", "act0 := sin(x); act1 := tanh(x); act2 := relu(x)": "textures/plain-cnn",
    "act := x / std(x, group, groups=4); block := 'bottleneck'; residual := 'none'": "textures/stages",
}  # fmt: skip
ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from model import load
network = load()
assert not network.training and not {"evosearch", "safetensors"} & set(sys.modules)
print(network(torch.zeros(2, 1, 16, 16)).tolist())
"""


def training(pair="textures/stages", steps=4):
    return Training(pair, 0, 1.0, steps)


@pytest.mark.parametrize("text", CASES)
def test_a_network_leaves_and_is_loaded_with_torch_alone(text, tmp_path):
    found = export_network(parse_candidate(text), tmp_path / "found", training(CASES[text]), verdict="not better", formats=None if text == CHOSEN else ["ts"])
    others = ["model.ts.pt", "model.pt2", "model.onnx"] if text == CHOSEN else ["model.ts.pt"]
    assert [file.name for file in found.files] == [*FILES, *others]
    said = json.loads((tmp_path / "found/verify.json").read_text())["formats"]
    assert {one["file"] for one in said.values()} == set(others)
    assert all(set(one["cases"]) == {case.name for case in networks.cases(leaving._inputs(CASES[text]))} for one in said.values())
    assert all(one["largest error"] < 1e-3 for one in said.values())
    out = subprocess.run([sys.executable, "-I", "-c", ALONE, str(tmp_path / "found")], capture_output=True, text=True, check=True)
    assert torch.isfinite(torch.tensor(json.loads(out.stdout))).all()
    record = json.loads((tmp_path / "found/network.json").read_text())
    assert record["scores"]["validation"] == found.validation
    assert record["verdict"] == "not better"
    assert record["parameters"] == sum(t.numel() for name, t in load_file(found.files[1]).items() if "running" not in name and "tracked" not in name)


def test_the_text_holds_what_was_chosen_and_no_switch(tmp_path):
    text = export_network(parse_candidate(CHOSEN), tmp_path / "found", training(), formats=["py"]).files[0].read_text()
    body = text[text.index("class Network") : text.index("TYPES =")]
    assert "nn.GroupNorm(8, 64)" in body
    assert "groups=64" in body
    assert "BatchNorm" not in body
    assert not any(word in body for word in (" if ", " for ", "inverted :=", "Sequential"))
    assert body.count("self.stage2_block2_scale = nn.Parameter(torch.empty((32, 1, 1)))") == 1
    assert "Act1(" in body
    assert "import evosearch" not in text


@pytest.mark.parametrize("architecture", PAIRS)
def test_every_architecture_is_a_straight_line(architecture):
    made = {}

    def make(features=None):
        layer = compile_layer("a * tanh(x) where a: layer = 1", features)
        made[layer] = f"Act0({features})"
        return layer

    model = network(PAIRS[architecture], Layers([make]))
    found = straight(model, "Network", made, "it")
    assert set(found.state) == set(model.state_dict())
    assert len(set(found.state.values())) == len(found.state)
    assert found.text.count(" = Act0(") == len(made)


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Holds(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.TransformerEncoderLayer(8, 2)

    def forward(self, x):
        return self.part(x)


class Calls(nn.Module):
    def forward(self, x):
        return torch.linalg.norm(x)


class Twice(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ("model", "message"), [(Branches(), "no straight line"), (Holds(), "holds a TransformerEncoderLayer"), (Calls(), "calls `torch"), (Twice(), "one input")]
)
def test_what_is_no_straight_line_is_refused(model, message):
    with pytest.raises(ExportError, match=message):
        straight(model, "Network", {}, "it")


@pytest.mark.parametrize(("old", "new"), [("torch.tanh(", "torch.sin("), ("stride=(2, 2)", "stride=(1, 1)"), ("import json", "import evosearch, json")])
def test_files_that_compute_something_else_are_not_kept(old, new, tmp_path, monkeypatch):
    written = leaving._source

    def tampered(*arguments):
        state, text = written(*arguments)
        assert old in text
        return state, text.replace(old, new)

    monkeypatch.setattr(leaving, "_source", tampered)
    with pytest.raises(ExportError, match="nothing was written"):
        export_network(parse_candidate("act0 := tanh(x); act1 := relu(x)"), tmp_path / "found", training(), formats=["py"])
    assert list(tmp_path.iterdir()) == []


def test_other_weights_are_not_kept(tmp_path, monkeypatch):
    written = leaving._source

    def tampered(*arguments):
        state, text = written(*arguments)
        return {name: t + 0.01 if t.is_floating_point() else t for name, t in state.items()}, text

    monkeypatch.setattr(leaving, "_source", tampered)
    with pytest.raises(ExportError, match=r"differs in .* by"):
        export_network(parse_candidate("act0 := tanh(x); act1 := relu(x)"), tmp_path / "found", training(), formats=["py"])


def test_a_folder_with_another_network_is_kept(tmp_path):
    one, other = (parse_candidate(f"act0 := tanh(x); act1 := relu(x); depth := {depth}") for depth in (1, 2))
    export_network(one, tmp_path / "found", training(steps=2), formats=["py"])
    export_network(one, tmp_path / "found", training(steps=2), formats=["py"])
    with pytest.raises(ExportError, match="another network"):
        export_network(other, tmp_path / "found", training(steps=2), formats=["py"])
    export_network(other, tmp_path / "found", training(steps=2), formats=["py"], overwrite=True)
    (tmp_path / "found/notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="other things"):
        export_network(other, tmp_path / "found", training(steps=2), formats=["py"], overwrite=True)


def test_a_model_of_ones_own_with_dropout_leaves_too(tmp_path, monkeypatch):
    (tmp_path / "dropping_7.py").write_text(
        "from torch import nn\n"
        "def net(make_layer, inputs, outputs, wide=16):\n"
        "    return nn.Sequential(nn.Linear(64, wide), make_layer(wide), nn.Dropout(0.3), nn.Linear(wide, wide), make_layer(wide), nn.Linear(wide, outputs))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = "act0 := tanh(x); act1 := relu(x); wide := 24"
    found = export_network(parse_candidate(text), tmp_path / "found", training("digits/dropping_7:net"), formats=["ts"])
    source = found.files[0].read_text()
    assert "nn.Dropout(p=0.3)" in source
    assert "nn.Linear(in_features=64, out_features=24)" in source


def test_a_network_that_a_format_changes_is_refused(tmp_path, monkeypatch):
    made = networks._make

    def tampered(name, network, inputs, file, programs):
        network.load_state_dict({key: t * 1.01 for key, t in network.state_dict().items()})
        made(name, network, inputs, file, programs)
        network.load_state_dict({key: t / 1.01 for key, t in network.state_dict().items()})

    monkeypatch.setattr(networks, "_make", tampered)
    monkeypatch.setattr(networks, "ROUNDING", (1e-5, 1e-6))
    with pytest.raises(ExportError, match=r"model.ts.pt does not reproduce the network: .* of the case"):
        export_network(parse_candidate("act0 := tanh(x); act1 := relu(x)"), tmp_path / "found", training(), formats=["ts"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExportError, match="--formats of a network takes ts,pt2,onnx"):
        export_network(parse_candidate("act0 := tanh(x); act1 := relu(x)"), tmp_path / "found", training(), formats=["jax"])
