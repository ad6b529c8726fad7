"""Measured time relative to ReLU (of a network: to the usual one), of training and of inference, for the final table only: it never selects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

SHAPE = (16, 32, 14, 14)
ROUNDS = 40

Pass = Callable[[nn.Module, tuple[torch.Tensor, ...]], None]


def relative_times(layers: Mapping[str, nn.Module], inputs: int = 1) -> dict[str, float]:
    """The least time of each layer's forward and backward on `SHAPE` over the least of a ReLU that is timed in turn with it.

    A gate takes two `inputs` of that shape, ReLU one.

    Load only ever adds time, and one call is shorter than the turn that the system gives a process: of many calls some are
    undisturbed, and their time is the layer's own. ReLU takes turns with each layer because the clock of the machine drifts.
    """
    return _all_relative(layers, _forward_backward, nn.ReLU(), layer_inputs(inputs))


def inference_times(layers: Mapping[str, nn.Module], inputs: int = 1) -> dict[str, float]:
    """The same of the forward alone, in evaluation mode and without gradients."""
    return _all_relative({name: layer.eval() for name, layer in layers.items()}, _forward, nn.ReLU(), layer_inputs(inputs))


def layer_inputs(count: int) -> tuple[torch.Tensor, ...]:
    """So many inputs of `SHAPE`, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(SHAPE, generator=generator).requires_grad_() for _ in range(count))


def network_times(networks: Mapping[str, nn.Module], usual: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The least time of each network's training step without the optimizer, on the inputs, over that of the usual network."""
    return _all_relative(networks, _step, usual, (x,))


def interleaved_seconds(layers: Mapping[str, nn.Module], inputs: Mapping[str, tuple[torch.Tensor, ...]], rounds: int) -> dict[str, list[float]]:
    """Seconds of forward and backward of each layer on its inputs, `rounds` times in turn, on one thread."""
    with _one_thread():
        turns = [{name: _seconds(layer, inputs[name], _forward_backward) for name, layer in layers.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in layers}


def network_inference_times(networks: Mapping[str, nn.Module], usual: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The same of the forward alone, in evaluation mode and without gradients."""
    return _all_relative({name: network.eval() for name, network in networks.items()}, _forward, usual.eval(), (x,))


def _all_relative(layers: Mapping[str, nn.Module], one_pass: Pass, usual: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, float]:
    with _one_thread():
        return {name: round(_relative(layer, usual, inputs, one_pass), 2) for name, layer in layers.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _relative(layer: nn.Module, usual: nn.Module, inputs: tuple[torch.Tensor, ...], one_pass: Pass) -> float:
    least, reference = float("inf"), float("inf")
    for _ in range(ROUNDS):
        least = min(least, _seconds(layer, inputs, one_pass))
        reference = min(reference, _seconds(usual, inputs[:1], one_pass))
    return least / reference


def _seconds(layer: nn.Module, inputs: tuple[torch.Tensor, ...], one_pass: Pass) -> float:
    """One call after an untimed one: the first after another layer pays for its memory."""
    one_pass(layer, inputs)
    start = time.perf_counter()
    one_pass(layer, inputs)
    return time.perf_counter() - start


def _forward_backward(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    layer(*inputs).backward(inputs[0].detach())
    for x in inputs:
        x.grad = None


def _step(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    network(*inputs).square().mean().backward()
    network.zero_grad(set_to_none=True)


@torch.no_grad()
def _forward(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    layer(*inputs)
