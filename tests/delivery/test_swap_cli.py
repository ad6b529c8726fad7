"""evosearch slots and evosearch swap."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest
import torch.nn.functional as F
from torch import nn

from evosearch.cli import main
from evosearch.delivery.swap.listing import rules_of
from tests.delivery.swapmodels import ResNet

MODELS = """
    import torch.nn.functional as F
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
            self.again = self.act

        def forward(self, x):
            x = self.act(self.norm(self.conv(x)))
            return F.gelu(x)

    def net():
        print("making it")
        return Net()

    def broken():
        raise KeyError("weights")

    def nothing():
        return 3
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    (tmp_path / "swap_cli_models.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evosearch", *arguments, "--plugin", str(tmp_path / "swap_cli_models.py")])
        with pytest.raises(SystemExit) as done:
            main()
        printed = capsys.readouterr()
        return done.value.code, printed.out, printed.err

    return run


def test_slots_lists_places_channels_shared_modules_and_lines(call):
    code, out, err = call("slots", "swap_cli_models:net")
    assert not code
    assert "making it" in err
    assert "making it" not in out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert re.search(r"norm +nn.BatchNorm2d +norm +6", lines["norm"])
    assert re.search(r"act, again +nn.ReLU +activation +6 .*one module at 2 places", out)
    assert re.search(r"gelu_0 +F.gelu +activation +6 +1 +swap_cli_models.py:13", out)
    assert "1 functional calls: swapped with --functional fx" in out


def test_swap_shows_the_table_and_changes_nothing(call):
    code, out, _ = call("swap", "swap_cli_models:net", "--rule", "nn.ReLU=x * sigmoid(1.5 * x)", "--rule", "F.gelu=silu", "--functional", "fx", "--match")
    assert not code
    assert "act, again" in out
    assert "2 places would be replaced, 0 left" in out
    assert "%" in out


@pytest.mark.parametrize(("arguments", "words"), [
    (["slots", "swap_cli_models"], "named module:factory"), (["slots", "swap_cli_models:broken"], r"raised KeyError: 'weights'"),
    (["slots", "swap_cli_models:nothing"], "must return a torch.nn.Module; it returned int"),
    (["slots", "swap_cli_models:nett"], "did you mean `net`"),
    (["swap", "swap_cli_models:net", "--rule", "nn.ReLU"], "reads WHAT=FORMULA"),
    (["swap", "swap_cli_models:net", "--rule", "nn.Rulu=gelu"], "torch.nn has no such module"),
    (["swap", "swap_cli_models:net", "--rule", "/(/=gelu"], "no regular expression"),
    (["swap", "swap_cli_models:net", "--rule", "nn.GELU=silu"], "matches nothing|functional call"),
])  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(call, arguments, words):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert re.search(words, err)
    assert "Traceback" not in err


def test_rules_as_text():
    model = ResNet()
    texts = ["nn.ReLU=gelu", "F.relu = silu", "layer1.0.relu=x / std(x, layer, eps=1e-3)", "/^layer1/=tanh"]
    a, b, c, d, e, f = rules_of([*texts, "nn.BatchNorm2d+nn.ReLU=evonorm_s0", "BasicBlock=gelu"], model)
    assert a == (nn.ReLU, "gelu")
    assert b == (F.relu, "silu")
    assert c == ("layer1.0.relu", "x / std(x, layer, eps=1e-3)")
    assert d == (re.compile("^layer1"), "tanh")
    assert e == ((nn.BatchNorm2d, nn.ReLU), "evonorm_s0")
    assert f[0] is type(model.layer1[0])
