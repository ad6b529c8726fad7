"""The time relative to ReLU: of the layer, not of what else the machine does."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from evosearch.compiler.module import compile_graph
from evosearch.judging.timing import inference_times, relative_times
from evosearch.language.formula import parse


def test_load_does_not_change_the_ratio():
    layers = {"relu": nn.ReLU(), "silu": compile_graph(parse("x * sigmoid(x)"), 64)}
    quiet = relative_times(layers)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        busy = relative_times(layers)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    for found in (quiet, busy):
        assert 0.5 < found["relu"] < 2
    assert 0.5 < busy["silu"] / quiet["silu"] < 2  # of the median over many calls, this was 0.5 to 20


def test_inference_is_timed_without_gradients():
    class Watched(nn.Module):
        def forward(self, x):
            assert not torch.is_grad_enabled()
            assert not self.training
            return x.sin().cos().sin().cos().tanh()

    found = inference_times({"relu": nn.ReLU(), "dear": Watched()})
    assert 0.4 < found["relu"] < 2.5
    assert found["dear"] > 3
