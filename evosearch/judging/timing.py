"""Measured time relative to ReLU (of a network: to the usual one), of training and of inference, for the final table only: it never selects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

SHAPE = (16, 32, 14, 14)
ROUNDS = 40

Pass = Callable[[nn.Module, torch.Tensor], None]


def relative_times(layers: Mapping[str, nn.Module]) -> dict[str, float]:
    """The least time of each layer's forward and backward on `SHAPE` over the least of a ReLU that is timed in turn with it.

    Load only ever adds time, and one call is shorter than the turn that the system gives a process: of many calls some are
    undisturbed, and their time is the layer's own. ReLU takes turns with each layer because the clock of the machine drifts.
    """
    return _all_relative(layers, _forward_backward)


def inference_times(layers: Mapping[str, nn.Module]) -> dict[str, float]:
    """The same of the forward alone, in evaluation mode and without gradients."""
    return _all_relative({name: layer.eval() for name, layer in layers.items()}, _forward)


def network_times(networks: Mapping[str, nn.Module], usual: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The least time of each network's training step without the optimizer, on the inputs, over that of the usual network."""
    return _all_relative(networks, _step, usual, x)


def network_inference_times(networks: Mapping[str, nn.Module], usual: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The same of the forward alone, in evaluation mode and without gradients."""
    return _all_relative({name: network.eval() for name, network in networks.items()}, _forward, usual.eval(), x)


def _all_relative(layers: Mapping[str, nn.Module], one_pass: Pass, usual: nn.Module | None = None, x: torch.Tensor | None = None) -> dict[str, float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if x is None:
            x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
        return {name: round(_relative(layer, usual or nn.ReLU(), x, one_pass), 2) for name, layer in layers.items()}
    finally:
        torch.set_num_threads(threads)


def _relative(layer: nn.Module, usual: nn.Module, x: torch.Tensor, one_pass: Pass) -> float:
    least, reference = float("inf"), float("inf")
    for _ in range(ROUNDS):
        least = min(least, _seconds(layer, x, one_pass))
        reference = min(reference, _seconds(usual, x, one_pass))
    return least / reference


def _seconds(layer: nn.Module, x: torch.Tensor, one_pass: Pass) -> float:
    """One call after an untimed one: the first after another layer pays for its memory."""
    one_pass(layer, x)
    start = time.perf_counter()
    one_pass(layer, x)
    return time.perf_counter() - start


def _forward_backward(layer: nn.Module, x: torch.Tensor) -> None:
    layer(x).backward(x.detach())  # type: ignore[no-untyped-call]
    x.grad = None


def _step(network: nn.Module, x: torch.Tensor) -> None:
    network(x).square().mean().backward()
    network.zero_grad(set_to_none=True)


@torch.no_grad()
def _forward(layer: nn.Module, x: torch.Tensor) -> None:
    layer(x)
