"""Measured forward+backward time relative to ReLU, for the final table only: wall-clock time never selects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

import torch
from torch import nn

SHAPE = (16, 32, 14, 14)
REPEATS = 9
CALLS = 10  # timed together


def relative_times(layers: Mapping[str, nn.Module]) -> dict[str, float]:
    """Median time of each layer on `SHAPE` over ReLU's, repeats interleaved so that a slow moment hits all alike.

    Every measurement follows an untimed run of the same layer: the first one after another layer pays for its memory.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
        everyone = {"": nn.ReLU(), **layers}
        seconds: dict[str, list[float]] = {name: [] for name in everyone}
        for _ in range(REPEATS):
            for name, layer in everyone.items():
                _forward_backward(layer, x)
                start = time.perf_counter()
                for _ in range(CALLS):
                    _forward_backward(layer, x)
                seconds[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    reference = median(seconds.pop(""))
    return {name: round(median(values) / reference, 2) for name, values in seconds.items()}


def _forward_backward(layer: nn.Module, x: torch.Tensor) -> None:
    layer(x).backward(x.detach())  # type: ignore[no-untyped-call]
    x.grad = None
