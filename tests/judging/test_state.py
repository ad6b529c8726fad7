"""Long trainings are kept: what was interrupted goes on where it was, and ends in the same bits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from evosearch.job import Job
from evosearch.judging import train as training
from evosearch.judging.evaluate import Plan, Stage, _state_name, evaluate
from evosearch.judging.state import Saved, SavedState
from evosearch.judging.train import train


class Counting(nn.Module):
    """A tanh that is switched off after so many training steps, as a lost worker is."""

    steps = 0
    last = math.inf

    def forward(self, x):
        if self.training:
            if Counting.steps >= Counting.last:
                raise KeyboardInterrupt
            Counting.steps += 1
        return torch.tanh(x)


def trained(state=None, last=math.inf, optimizer="adam", steps=20):
    Counting.steps, Counting.last = 0, last
    found = train("digits/mlp", lambda features: Counting(), 3, 1.0, steps, optimizer=optimizer, state=state)
    return found.validation, found.test(), found.curve


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_what_was_interrupted_goes_on_and_ends_in_the_same_bits(tmp_path, optimizer):
    whole = trained(optimizer=optimizer)
    layers = Counting.steps // 20
    with pytest.raises(KeyboardInterrupt):
        trained(SavedState(tmp_path, 0), last=13 * layers, optimizer=optimizer)
    assert trained(SavedState(tmp_path, 0), optimizer=optimizer) == whole
    assert Counting.steps == 7 * layers
    assert trained(SavedState(tmp_path, 0), optimizer=optimizer) == whole  # a finished one is only scored
    assert Counting.steps == 0


def test_another_training_starts_from_the_beginning(tmp_path):
    trained(SavedState(tmp_path, 0))
    steps = Counting.steps
    trained(SavedState(tmp_path, 0), steps=21)
    assert Counting.steps == steps * 21 / 20


def test_nothing_is_written_in_the_first_minutes(tmp_path):
    trained(SavedState(tmp_path, 300))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path):
    trained(SavedState(tmp_path, 0))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(OSError, match="is damaged"):
        trained(SavedState(tmp_path, 0))


def test_an_evaluation_asked_again_does_the_rest(tmp_path, monkeypatch):
    stage = Stage(("digits/mlp",), 10, (1.0, 3.0), 2)
    plan = Plan(stage, stage, stage)
    kept = replace(plan, states=str(tmp_path / "states"), states_after=0.0)
    job = Job(5, "tanh(x) + x", 0, "final", ("digits/mlp",))
    whole = evaluate([job], plan)[0]
    losses, calls, last = training._loss, [0], [25]

    def counted(*arguments):
        calls[0] += 1
        if calls[0] > last[0]:
            raise KeyboardInterrupt
        return losses(*arguments)

    monkeypatch.setattr(training, "_loss", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate([job], kept)
    assert len(list((tmp_path / "states").glob("*/*.safetensors"))) == 3
    calls[0], last[0] = 0, 1000
    again = evaluate([job], kept)[0]
    assert (again.scores, again.rates) == (whole.scores, whole.rates)
    assert calls[0] == 30 - 25
    assert list((tmp_path / "states").iterdir()) == []


def test_weights_behind_the_first_layer_have_the_gain():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Conv1d(3, 3, 1), nn.Linear(3, 1))
    before = [p.detach().clone() for p in model.parameters()]
    training._scale(model, 2.0)
    factors = [1, 1, 2, 1, 2, 1]  # biases stay
    assert all(torch.equal(p.detach(), b * f) for p, b, f in zip(model.parameters(), before, factors, strict=True))


def test_initialization_by_the_functions_own_gain():
    stage = Stage(("digits/mlp",), 10, (1.0,))
    plan = Plan(stage, stage, stage, initialization="gain")
    relu, plain = evaluate([Job(0, "relu(x)", 0)], plan)[0], evaluate([Job(0, "relu(x)", 0)], replace(plan, initialization="lecun"))[0]
    assert relu.objectives["gain"] == pytest.approx(math.sqrt(2))
    assert relu.scores != plain.scores
    assert "gain" not in plain.objectives
    assert evaluate([Job(0, "exp(square(x))", 0)], plan)[0].reason == "numeric:gain"
    assert evaluate([Job(0, "0.5 * x", 0)], plan)[0].objectives["gain"] == pytest.approx(2.0)


class Tied(nn.Module):
    """Two layers that share a weight, in channels_last, with a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.second.weight = self.first.weight
        self.norm, self.head = nn.BatchNorm2d(2), nn.Linear(128, 10)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x = torch.cat([x, x]).reshape(x.shape[0], 2, 8, 8)
        return self.head(self.norm(self.second(torch.tanh(self.first(x)))).flatten(1))


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_shared_weights_in_any_memory_format_go_on_in_the_same_bits(tmp_path, optimizer):
    data = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10

    def fitted(folder, stop):
        torch.manual_seed(0)
        model, losses = Tied(), training._loss
        calls = [0]

        def counted(*arguments):
            calls[0] += 1
            if calls[0] > stop:
                raise KeyboardInterrupt
            return losses(*arguments)

        fit = training._Fit(model, training.task("digits"), training.OPTIMIZERS[optimizer](model, 1e-2), 12, "cpu", 16)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "_loss", counted)
            return fit.run(data, 0, Saved(SavedState(folder, 0), "t"))

    whole = fitted(tmp_path / "whole", 99)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", 5)
    assert fitted(tmp_path / "cut", 99) == whole


def test_states_are_named_by_all_that_a_training_is_a_function_of(tmp_path, monkeypatch):
    stage = Stage(("digits/mlp",), 10, (1.0,))
    plan = Plan(stage, stage, stage, states=str(tmp_path))
    job = Job(0, "relu(x)", 0)
    assert _state_name(job, plan) == _state_name(job, plan)
    assert _state_name(job, plan) != _state_name(job, replace(plan, initialization="gain"))
    monkeypatch.setattr(torch, "__version__", "0")
    assert _state_name(job, plan) != _state_name(job, replace(plan, slot="norm_act"))
