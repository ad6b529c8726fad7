"""benchmark.json: time and memory of a layer's training step beside those of the usual ones, measured in turn in one run."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.judging.timing import SHAPE, interleaved_seconds, layer_inputs
from evosearch.language.graph import Graph, depends_on
from evosearch.meaning.derive import has_statistics

ROUNDS = 41
_COVERED = 0.95  # the interval of a median


class _Gated(nn.Module):
    """`x * sigmoid(y)`, the gated linear unit as a user writes it."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * torch.sigmoid(y)


def benchmark(graph: Graph, name: str, make: Callable[[int], nn.Module]) -> dict[str, Any]:
    """The record of the file: each layer's median with its interval, in ms, over ReLU, and in bytes kept an input byte.

    `make` gives the exported layer for so many channels.
    """
    layers = {name: make(SHAPE[1]), **_usual(graph)}
    inputs = layer_inputs(2 if depends_on(graph, "y") else 1)
    given = {who: inputs if who in (name, "GLU") else inputs[:1] for who in layers}
    memory = {who: round(kept_per_byte(layer, given[who]), 3) for who, layer in layers.items()}
    seconds = interleaved_seconds(layers, given, ROUNDS)
    measured = {who: {**_times(seconds[who], seconds["ReLU"]), "kept_per_input_byte": memory[who]} for who in layers}
    return {
        "what": "forward and backward of one layer in float32, median of the rounds, low and high its 95 % interval; kept_per_input_byte: what autograd keeps "
        "from the forward for the backward, parameters apart, over the bytes of the input",
        "shape": list(SHAPE), "rounds": ROUNDS, "threads": 1, "device": "cpu", "layers": measured, "machine": machine(),
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """What a time depends on besides the layer."""
    return {
        "cpu": _cpu(), "capability": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip


def kept_per_byte(layer: nn.Module | Callable[..., Tensor], inputs: Sequence[Tensor]) -> float:
    """Bytes that autograd keeps from forward to backward, each tensor once and parameters apart, over those of the inputs."""
    own = {t.data_ptr() for t in (*layer.parameters(), *layer.buffers())} if isinstance(layer, nn.Module) else set()
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(*inputs)
    return sum(kept.values()) / sum(t.untyped_storage().nbytes() for t in inputs)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, low and high: the order statistics that hold the true median with at least 95 % (binomial)."""
    ordered, count = sorted(values), len(values)
    tail, rank, probability = 0.0, 0, 0.5**count
    while tail + probability <= (1 - _COVERED) / 2:
        tail += probability
        probability *= (count - rank) / (rank + 1)
        rank += 1
    return statistics.median(ordered), ordered[max(rank - 1, 0)], ordered[count - max(rank, 1)]


def _times(own: Sequence[float], relu: Sequence[float]) -> dict[str, Any]:
    milliseconds = median_interval([1e3 * s for s in own])
    ratio = median_interval([a / b for a, b in zip(own, relu, strict=True)])
    return {
        "milliseconds": dict(zip(("median", "low", "high"), (float(f"{v:.4g}") for v in milliseconds), strict=True)),
        "over_relu": dict(zip(("median", "low", "high"), (round(v, 2) for v in ratio), strict=True)),
    }


def _usual(graph: Graph) -> dict[str, nn.Module]:
    """Activations beside ReLU and GELU, gates beside those and the gated linear unit, layers with statistics beside BN + ReLU or a softmax too."""
    usual: dict[str, nn.Module] = {"ReLU": nn.ReLU(), "GELU": nn.GELU()}
    if depends_on(graph, "y"):
        usual["GLU"] = _Gated()
    if has_statistics(graph, "row"):
        usual["softmax"] = nn.Softmax(-1)
    elif has_statistics(graph):
        usual["BN+ReLU"] = nn.Sequential(nn.BatchNorm2d(SHAPE[1]), nn.ReLU())
    return usual


def _cpu() -> str:
    """The processor's name as the system says it."""
    if sys.platform.startswith("linux"):
        with open("/proc/cpuinfo") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return platform.processor() or platform.machine()


def shown(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """`(layer, time, memory)` of the record as the card shows them."""
    rows = []
    for who, found in record["layers"].items():
        ratio = found["over_relu"]
        time = f"{ratio['median']:.2f} x ReLU [{ratio['low']:.2f}, {ratio['high']:.2f}]" if who != "ReLU" else f"{found['milliseconds']['median']:g} ms"
        rows.append((who, time, f"{found['kept_per_input_byte']:.2f} x the input"))
    return rows
