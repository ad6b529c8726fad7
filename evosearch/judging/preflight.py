"""Before anything is trained: models of the user's are tried once, and every task says what it is and under which license."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.compiler.module import compile_graph
from evosearch.judging.architectures import Layers, build, factory
from evosearch.judging.architectures.factory import ModelError
from evosearch.judging.architectures.slots import SlotsError
from evosearch.judging.baselines import baseline
from evosearch.judging.networks import check_choices
from evosearch.judging.objectives import TASKS, own_models, parse_pair
from evosearch.judging.tasks import task
from evosearch.judging.train import network
from evosearch.language.candidate import Choice
from evosearch.language.formula import parse

# What stands in the slot while a model is tried; with a value per channel, where candidates may have one.
_LAYERS = {"act": "silu", "norm_act": "bn_relu", "gate": "swiglu", "attention": "softmax"}
_PER_CHANNEL = "x * sigmoid(v * x) where v: channel = 1"
_BATCH = 4


def introduction(pairs: Iterable[str]) -> list[str]:
    """A line a task: what it is and its license; and a line a model of the user's: its base learning rate."""
    pairs = list(pairs)
    tasks = [task(name) for name in dict.fromkeys(parse_pair(pair).task for pair in pairs)]
    lines = [f"task {t.name}: {t.what}; license: {t.license}" for t in tasks]
    for name in own_models(pairs):
        rate = factory.base_rate(name)
        whose = "its own" if hasattr(factory.find(name), "rate") else f"the default; set another as {name.partition(':')[2]}.rate"
        lines.append(f"model {name}: base learning rate {rate:g} ({whose})")
    return lines


def check_models(pairs: Iterable[str], slot: str = "act", per_channel: bool = False) -> None:
    """Tries every pair whose model is the user's. Raises ModelError for the first that cannot be judged, and says why.

    `per_channel`: candidates may have learnable values per channel, so `make_layer` has to be told the right number.
    """
    for pair in pairs:
        named = parse_pair(pair)
        if named.is_own_model:
            factory.base_rate(named.architecture)
            with torch.random.fork_rng(devices=[]):
                _try(pair, _PER_CHANNEL if per_channel and slot == "act" else _LAYERS[slot], slot)


def check_networks(pairs: Iterable[str], slots: Sequence[str], choices: Mapping[str, Sequence[Choice]]) -> None:
    """Whether every pair's network has so many slots, and every choice with each of its values. Raises ValueError for the first that has not.

    A user's own model is tried with each value of each choice, the first ones elsewhere.
    """
    for pair in pairs:
        for name, values in choices.items():
            for value in values:
                check_choices(pair, {name: value})
        check_choices(pair, {})
        first = {name: values[0] for name, values in choices.items()}
        others = [first | {name: value} for name, values in choices.items() for value in values[1:]] if parse_pair(pair).is_own_model else []
        with torch.random.fork_rng(devices=[]):
            for chosen in (first, *others):
                _check_slots(pair, slots, chosen)


def _check_slots(pair: str, slots: Sequence[str], choices: Mapping[str, Choice]) -> None:
    try:
        if parse_pair(pair).is_own_model:
            _try(pair, _LAYERS["act"], "act", slots, choices)
        else:
            network(pair, Layers([lambda *features, **options: nn.ReLU()] * len(slots), choices))
    except SlotsError as error:
        raise ValueError(f"{pair}: {error}; give as many slots as it has, or take other pairs") from None


def _try(pair: str, layer: str, slot: str, slots: Sequence[str] = (), choices: Mapping[str, Choice] = MappingProxyType({})) -> None:
    """One forward pass of a batch of the pair's data, in which layers of `make_layer` must be called and be part of the model."""
    named = parse_pair(pair)
    data = task(named.task).load(named.variant)
    graph, inputs = parse(baseline(layer)), data.train[0][:_BATCH]
    made: list[nn.Module] = []
    called: set[nn.Module] = set()

    def make_layer(*arguments: Any, **options: Any) -> nn.Module:
        made.append(compile_graph(graph, *arguments, **options))
        made[-1].register_forward_hook(lambda module, given, output: called.add(module))
        return made[-1]

    layers = Layers([make_layer] * len(slots), choices) if slots else make_layer
    try:
        model = build(named.architecture, layers, named.width, inputs[:2], data.outputs, slot, named.depth)
        output = model(inputs)
    except (ModelError, SlotsError):
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code may raise
        raise ModelError(f"the model `{named.architecture}` fails on {pair}{_place(named.architecture, error)}: {type(error).__name__}: {error}") from error
    start = f"the model `{named.architecture}`"
    if not made:
        raise ModelError(f"{start} never calls make_layer, so no candidate is in it: put make_layer(num_features) where its activation stands")
    if not called:
        raise ModelError(f"{start} calls make_layer and never uses the layer, so no candidate is in it: call the layer in its forward")
    if not called <= set(model.modules()):
        raise ModelError(f"{start} uses a layer of make_layer that is not a submodule, so it would not be trained: keep it as an attribute or in nn.ModuleList")
    expected = tuple(_usual(named.task, inputs, data.outputs).shape)
    found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    if not isinstance(output, Tensor) or tuple(output.shape) != expected:
        raise ModelError(f"{start} must answer {named.task} with a tensor of shape {expected} for inputs of {tuple(inputs.shape)}; it gave {found}")


def _usual(name: str, inputs: Tensor, outputs: int) -> Tensor:
    """What the task's first architecture answers."""
    answer: Tensor = build(TASKS[name].architectures[0], lambda features: nn.ReLU(), None, inputs[:2], outputs)(inputs)
    return answer


def _place(name: str, error: BaseException) -> str:
    """The last line of the user's module on the way to the error."""
    file = getattr(sys.modules.get(factory.find(name).__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({os.path.basename(str(file))}:{lines[-1]})" if lines else ""
