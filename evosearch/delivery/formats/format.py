"""What a format is: the name that --formats takes, how its file is made, and how a process that has no evosearch reads it again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.compiler.module import load
from evosearch.language.graph import Axes, Graph, depends_on, parameters, walk
from evosearch.meaning.derive import has_statistics

PROBE_FEATURES = 8  # channels of what is compared, where the layer takes any number
Run = Callable[[bool, Mapping[str, Tensor], list[Tensor], Tensor], dict[str, Tensor]]  # training, state, inputs, upstream: what was computed


class CannotBeMade(Exception):
    """A format cannot say this layer, or what makes it is not installed; the text is the reason and, where there is one, the fix."""


@dataclass(frozen=True)
class Layer:
    """What is exported: the graph, the names of file and class, the number of channels where it is fixed, and the text of NAME.py."""

    graph: Graph
    name: str
    kind: str
    function: str
    features: int | None
    source: str

    @property
    def inputs(self) -> list[str]:
        return [name for name in ("x", "y") if depends_on(self.graph, name)]

    @property
    def channels(self) -> int:
        """The number of channels that the comparison uses."""
        return self.features or PROBE_FEATURES

    @property
    def operators(self) -> frozenset[str]:
        return frozenset(node.op for node in walk(self.graph))

    @cached_property
    def module(self) -> ModuleType:
        return load(self.source)

    def fresh(self) -> nn.Module:
        """The layer as it was judged, at its initial state."""
        layer: nn.Module = getattr(self.module, self.kind)(self.channels)
        return layer

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The layer in evaluation mode as one graph of torch operators, every size dynamic but that of channels that are kept."""
        dynamic, fixed = torch.export.Dim.DYNAMIC, torch.export.Dim.STATIC
        shape = {0: dynamic, 1: fixed if self.features else dynamic, 2: dynamic, 3: dynamic}
        generator = torch.Generator().manual_seed(0)
        example = tuple(torch.randn(4, self.channels, 3, 5, generator=generator) for _ in self.inputs)
        return traced(self.fresh().eval(), example, tuple(shape for _ in self.inputs))


def traced(module: nn.Module, example: tuple[Tensor, ...], shapes: tuple[dict[int, Any], ...]) -> torch.export.ExportedProgram:
    """The module as one graph. Raises CannotBeMade for one that torch cannot follow."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of what it calls of its own
            return torch.export.export(module, example, dynamic_shapes=shapes)
    except Exception as error:  # whatever torch's tracer raises of a layer that it cannot follow
        raise CannotBeMade(f"torch.export cannot follow it: {first_line(error)}") from error


@dataclass(frozen=True)
class Format:
    """One format. `make` writes the file or raises CannotBeMade; `read` is run in a fresh process, as text: it sees the names of
    `comparison` and what it imports itself. `offers` are the results that are compared, `lacks` says why another is not there."""

    name: str
    suffix: str
    make: Callable[[Layer, Path], None]
    read: Callable[[Path, str, str, int], Run] | None
    offers: frozenset[str] = frozenset()
    types: tuple[str, ...] = ("float32",)
    lacks: Mapping[str, str] = field(default_factory=dict)
    default: bool = False

    def file(self, name: str) -> str:
        """The file of the layer `name`."""
        return f"{name}{self.suffix}"


VALUES = frozenset({"eval value"})
EVALUATION = VALUES | {"eval gradient"}
TRAINING = EVALUATION | {"train value", "train gradient", "train state"}


def needs_features(graph: Graph) -> bool:
    """Whether the layer keeps a value per channel (and the files that hold its state a fixed number of them)."""
    return any(p.kind == "channel" for p in parameters(graph)) or has_statistics(graph, "batch")


def counts_channels(graph: Graph) -> bool:
    """Whether the number of channels decides what is computed: that of the groups follows from it."""
    return any(isinstance(value, Axes) and value.axes == "group" for value in graph.holds)


def check_channels(layer: Layer, what: str) -> None:
    """Raises CannotBeMade where the file would hold a number of channels that nobody has named."""
    if layer.features is None and needs_features(layer.graph):
        raise CannotBeMade(f"the layer keeps a value per channel, and {what} holds a fixed number of them: pass --features N")


def first_line(error: BaseException) -> str:
    """The message of an error, short and on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
