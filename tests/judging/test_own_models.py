"""Models of the user's, `module:function` in a pair: found, tried before training, trained; never imported because a folder says so."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from evosearch.compiler.module import compile as compile_layer
from evosearch.config import load
from evosearch.judging.architectures import build, factory
from evosearch.judging.architectures.factory import ModelError
from evosearch.judging.objectives import check_models_given, own_models, parse_pair
from evosearch.judging.preflight import check_models, check_networks, introduction
from evosearch.judging.train import train, untrained
from evosearch.language.candidate import parse_candidate
from evosearch.run import prepare

NETS = """
import math
from torch import nn

def net(make_layer, inputs, outputs, width=16, depth=1):
    layers = [m for _ in range(depth - 1) for m in (nn.Linear(width, width), make_layer(width))]
    head = [nn.Dropout(0.2), nn.Linear(width, outputs)]
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), width), make_layer(width), *layers, *head)

def normed(make_layer, inputs, outputs, slot="act"):
    norm_act = [make_layer(8)] if slot == "norm_act" else [nn.BatchNorm2d(8), make_layer(8)]
    return nn.Sequential(nn.Conv2d(inputs[0], 8, 3, 2), *norm_act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))

class Whole(nn.Module):
    def __init__(self, make_layer, inputs, outputs):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(math.prod(inputs), 16), make_layer(), nn.Linear(16, outputs)

    def forward(self, x):
        return self.last(self.act(self.first(x.flatten(1))))

def slow(make_layer, inputs, outputs):
    return net(make_layer, inputs, outputs)

slow.rate = 1e-4

def ignores(make_layer, inputs, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), outputs))

class Unused(Whole):
    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())

class Hidden(Whole):
    def __init__(self, make_layer, inputs, outputs):
        super().__init__(nn.Identity, inputs, outputs)
        self.held = [make_layer(16)]

    def forward(self, x):
        return self.last(self.held[0](self.first(x.flatten(1))))

class Pair(Whole):
    def forward(self, x):
        return super().forward(x), x

def no_module(make_layer, inputs, outputs):
    return "resnet"

def wrong_shape(make_layer, inputs, outputs):
    return net(make_layer, inputs, outputs + 1)

def old(model, num_classes):
    return None

def breaks(make_layer, inputs, outputs):
    raise RuntimeError("no GPU today")

def wrong_channels(make_layer, inputs, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), 16), make_layer(12), nn.Linear(16, outputs))

def bad_rate(make_layer, inputs, outputs):
    return net(make_layer, inputs, outputs)

bad_rate.rate = "fast"
number = 3
"""
SINE = partial(compile_layer, "sin(x)")


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """An importable package whose module `nets` holds the models; its name as a pair writes it."""
    package = f"pkg_{abs(hash(str(tmp_path))) % 10**9}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield f"{package}.nets"
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def test_a_pair_names_a_model():
    named = parse_pair("photo.coffee/my.models:net_2.24x3@16")
    assert (named.task, named.variant, named.architecture, named.width, named.depth, named.batch) == ("photo", "coffee", "my.models:net_2", 24, 3, 16)
    assert named.is_own_model
    assert not parse_pair("photo/inr.24").is_own_model
    assert own_models(["digits/a:b.8", "digits/mlp", "textures/a:b"]) == ("a:b",)


@pytest.mark.parametrize("model", [":net", "a:", "a..b:net", "a/b:net", "a:b:c", "a-b:net", "../a:net", "a:net()", "a :net", "os;x:net"])
def test_a_model_that_is_not_written_so(model):
    with pytest.raises(ValueError, match="module:function"):
        parse_pair(f"digits/{model}")
    with pytest.raises(ValueError, match="width is a whole number"):
        parse_pair("digits/a:net.mean")


FAULTS = {
    "nett": r"has no function `nett`; did you mean `net`\?",
    "number": "has no function `number`",
    "old": r"called with \(make_layer, inputs, outputs\), which it does not take: too many positional",
    "no_module": "must return a torch.nn.Module; it returned str",
    "ignores": "never calls make_layer, so no candidate is in it",
    "Unused": "never uses the layer, so no candidate is in it",
    "Hidden": "not a submodule, so it would not be trained",
    "wrong_shape": r"with a tensor of shape \(4, 10\) for inputs of \(4, 64\); it gave shape \(4, 11\)",
    "Pair": r"a tensor of shape \(4, 10\) .* it gave tuple",
    "breaks": r"fails on digits/\S+:breaks \(nets.py:\d+\): RuntimeError: no GPU today",
    "bad_rate": "`rate`, is a number above 0; received 'fast'",
    "ignores.8": r"\(make_layer, inputs, outputs, width=8\), which it does not take: got an unexpected keyword argument 'width'",
}


@pytest.mark.parametrize(("function", "message"), FAULTS.items())
def test_a_model_that_cannot_be_judged_is_refused_before_training(nets, function, message):
    with pytest.raises(ModelError, match=message) as caught:
        check_models([f"digits/{nets}:{function}"])
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there_or_breaks(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"no module `nowhere` for the model `nowhere.nets:net`; install it, or give its file: --plugin"):
        check_models(["digits/nowhere.nets:net"])
    (tmp_path / "broken_nets_7.py").write_text("import nowhere_either\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=r"`broken_nets_7`, .* does not import: ModuleNotFoundError: No module named 'nowhere_either'"):
        check_models(["digits/broken_nets_7:net"])


def test_the_number_of_channels_matters_where_candidates_have_a_value_a_channel(nets):
    check_models([f"digits/{nets}:wrong_channels", f"digits/{nets}:Whole"])
    for function in ("wrong_channels", "Whole"):
        with pytest.raises(ModelError, match="fails on digits"):
            check_models([f"digits/{nets}:{function}"], per_channel=True)


def test_sound_models_pass_and_leave_the_generator_alone(nets):
    before = torch.get_rng_state()
    check_models([f"digits/{nets}:net.24x2", f"digits/{nets}:Whole", f"textures/{nets}:normed", "digits/mlp"], per_channel=False)
    check_models([f"textures/{nets}:normed"], slot="norm_act")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ModelError, match=r"slot='norm_act'\), which it does not take"):
        check_models([f"digits/{nets}:net"], slot="norm_act")


def test_the_slot_says_what_stands_in_it(nets):
    layer = {"act": SINE, "norm_act": partial(compile_layer, "x / std(x, batch)")}
    for slot, norms in (("act", 1), ("norm_act", 0)):
        model = build(f"{nets}:normed", layer[slot], None, torch.zeros(2, 1, 16, 16), 3, slot)
        assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()) == norms


def test_training_repeats_with_dropout_and_leaves_the_generator_alone(nets):
    def score(pair):
        return train(pair, SINE, 0, 1.0, 20).validation, torch.get_rng_state()

    torch.manual_seed(1)
    first, state = score(f"digits/{nets}:net")
    torch.manual_seed(2)
    again, _ = score(f"digits/{nets}:net")
    assert first == again
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert score(f"digits/{nets}:net.8")[0] != first


def test_the_rate_is_the_default_or_the_functions_own(nets):
    assert (factory.base_rate(f"{nets}:net"), factory.base_rate(f"{nets}:slow")) == (factory.RATE, 1e-4)
    fast, slow = (train(f"digits/{nets}:{function}", SINE, 0, rate, 10).curve for function, rate in (("net", 1e-4 / factory.RATE), ("slow", 1.0)))
    assert fast == pytest.approx(slow)
    lines = introduction([f"digits/{nets}:net", f"digits/{nets}:slow.8", "textures/resnet"])
    assert [line.partition(":")[0] for line in lines] == ["task digits", "task textures", f"model {nets}", f"model {nets}"]
    assert "base learning rate 0.003 (the default; set another as net.rate)" in lines[2]
    assert "base learning rate 0.0001 (its own)" in lines[3]


def test_a_configuration_is_read_without_importing(tmp_path):
    config = load("search_spaces/smoke.yaml", ["judging.quality.pairs=[digits/nowhere_9:net]"])
    assert "nowhere_9" not in sys.modules
    with pytest.raises(ModelError, match="no module `nowhere_9`"):
        prepare(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_folder_does_not_say_what_is_imported(tmp_path):
    pairs = ["digits/a.b:net", "digits/mlp", "digits/mine:net.8"]
    with pytest.raises(ValueError, match=r"trains the model a.b:net, .* say so: --model a.b:net"):
        check_models_given(pairs, (), ["mine"], tmp_path)
    with pytest.raises(ValueError, match="--model mine:net"):
        check_models_given(pairs, ["a.b:net"], (), tmp_path)
    with pytest.raises(ValueError, match=r"trains no model `a.b:nett`; did you mean `a.b:net`\?"):
        check_models_given(pairs, ["a.b:net", "a.b:nett"], ["mine"], tmp_path)
    check_models_given(pairs, ["a.b:net"], ["mine"], tmp_path)
    check_models_given(["digits/mlp"], (), (), tmp_path)


PAIRS = "judging.{}.pairs=[digits/{}]"


def evosearch(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(folder / "site")])}
    command = [sys.executable, "-m", "evosearch.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_search_on_a_plug_in_files_model_and_on_an_installed_ones(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "installed_nets.py").write_text(NETS)
    (tmp_path / "my_models.py").write_text(NETS)
    models = {"quality": "my_models:net.8", "full": "installed_nets:net", "final": "my_models:Whole"}
    own = [part for stage, model in models.items() for part in ("--set", PAIRS.format(stage, model))]
    steps = [f"judging.{stage}.steps={count}" for stage, count in (("quality", 8), ("full", 5), ("final", 5))]
    short = ["budget.evaluations=4", "baselines=[identity, relu]", "proposers={random: 1}", *steps]
    tiny = [part for key in short for part in ("--set", key)] + ["--workers", 2]
    done = evosearch(tmp_path, "run", "smoke.yaml", "--out", "run", "--plugin", "my_models.py", *own, *tiny)
    assert done.returncode == 0, done.stderr
    assert "digits/installed_nets:net" in done.stdout
    assert done.stderr.splitlines() == [
        "task digits: 8x8 handwritten digits (scikit-learn); license: UCI optical digits, by way of scikit-learn: CC BY 4.0",
        *(f"model {m.partition('.')[0]}: base learning rate 0.003 (the default; set another as {m.partition(':')[2].partition('.')[0]}.rate)"
          for m in sorted(models.values(), key=lambda m: f"digits/{m}")),
    ]  # fmt: skip
    for command in (["resume", "run"], ["verify", "run"]):
        refused = evosearch(tmp_path, *command, "--plugin", "my_models.py")
        assert refused.returncode == 2
        assert refused.stderr.endswith("whose module would be imported; if you trust it, say so: --model installed_nets:net\n")
    with open(tmp_path / "site" / "installed_nets.py", "a") as file:
        file.write("# changed\n")
    changed = evosearch(tmp_path, "resume", "run", "--plugin", "my_models.py", "--model", "installed_nets:net")
    assert changed.returncode == 2
    assert "made in another environment (models: {'installed_nets:net': " in changed.stderr


def test_a_model_without_a_width_on_a_file_of_ones_own(tmp_path):
    """The first pair is trained one step before any job, with a layer that is made in every way that make_layer may be called."""
    (tmp_path / "my_models.py").write_text(NETS)
    rows = "\n".join(f"{i % 7},{i % 5},{i % 2}" for i in range(1, 61))
    (tmp_path / "mine.csv").write_text(f"a,b,y\n{rows}\n")
    short = ["--against", "relu", "--seeds", 2, "--steps", 2, "--executor", "serial"]
    done = evosearch(tmp_path, "evaluate", "sin(x)", "--data", "mine.csv", "--task", "mine/my_models:Whole", "--plugin", "my_models.py", *short)
    assert done.returncode == 0, done.stderr
    assert "data mine: 60 rows" in done.stdout
    assert "mine/my_models:Whole" in done.stdout.splitlines()[-2]


def test_a_model_of_ones_own_takes_choices_as_keyword_arguments(tmp_path, monkeypatch):
    (tmp_path / "choosing_4.py").write_text(
        "from torch import nn\n"
        "def net(make_layer, inputs, outputs, width=8, heads=1):\n"
        "    if heads == 3:\n"
        "        raise ValueError('no three heads')\n"
        "    parts = [part for _ in range(heads) for part in (nn.Linear(64, 64), make_layer(64))]\n"
        "    return nn.Sequential(*parts, make_layer(64), nn.Linear(64, outputs))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pair = "digits/choosing_4:net"
    check_networks([pair], ["act0", "act1"], {"heads": (1,)})
    with pytest.raises(ValueError, match=r"choosing_4:net makes 3 activations, so its slots are act0 to act2; received act0, act1; give"):
        check_networks([pair], ["act0", "act1"], {"heads": (1, 2)})  # another value, other slots
    check_networks([pair], ["act"], {"heads": (1, 2)})
    with pytest.raises(ModelError, match="no three heads"):
        check_networks([pair], ["act"], {"heads": (1, 3)})
    with pytest.raises(ModelError, match="which it does not take: got an unexpected keyword argument 'norm'"):
        check_networks([pair], ["act"], {"norm": ("batch",)})
    with pytest.raises(ModelError, match="given its width by the pair, and the network chooses it too"):
        check_networks(["digits/choosing_4:net.16"], ["act"], {"width": (8, 16)})
    assert sum(p.numel() for p in untrained(pair, parse_candidate("act := relu(x); heads := 2")).parameters()) == 2 * (64 * 64 + 64) + 64 * 10 + 10
