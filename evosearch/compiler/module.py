"""Emitted text as a live module: a content-addressed file in the user's cache, imported. The one place where generated code runs."""

from __future__ import annotations

import copyreg
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from evosearch.compiler.emit import emit
from evosearch.language.formula import parse
from evosearch.language.graph import Graph, variable, with_affine, without_affine
from evosearch.language.library import library
from evosearch.source import import_file, keep


def compile_graph(
    graph: Graph,
    num_features: int | None = None,
    channel_dim: int = 1,
    *,
    affine: bool = False,
    apply_act: bool = True,
    momentum: float = 0.1,
    tracked_variance: str = "unbiased",
) -> nn.Module:
    """A fresh `nn.Module` for a graph; the arguments are those of `compile`."""
    if num_features is not None and (type(num_features) is not int or num_features < 1):
        raise ValueError(f"num_features is the number of channels, a whole number >= 1; received {num_features!r}")
    if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the weight of the new value, 0 to 1; received {momentum!r}")
    if not apply_act:
        graph = without_activation(graph)
    source = emit(with_affine(graph) if affine else graph, "Layer", tracked_variance)
    layer: nn.Module = load(source).Layer(num_features, channel_dim, momentum)
    return layer


def compile(
    formula: str | Graph,
    num_features: int | None = None,
    channel_dim: int = 1,
    *,
    affine: bool = False,
    apply_act: bool = True,
    momentum: float = 0.1,
    tracked_variance: str = "unbiased",
) -> nn.Module:
    """A fresh `nn.Module` for a formula, e.g. `compile("x * sigmoid(v * x) / std(x, group) where v: channel = 1", 64)`.

    The layer takes `x` of shape `(N, C, *S)`, any rank from 2 to 5 (any shape at all for an elementwise formula), and `y`
    of the same shape if the formula has it; it returns the shape and dtype of `x`.

    - `num_features`: the number of channels C; needed when the formula has per-channel parameters or batch statistics.
    - `channel_dim`: where the channels are: 1, or -1 for `(N, *S, C)`.
    - `affine`: ends with `weight * . + bias`, one value a channel, as normalization layers do.
    - `apply_act=False`: the layer without its activation, as timm's norm-activation layers have it, for the end of a residual
      block. A known layer's own form (`without_activation` in the library); else the input, so with `affine` an affine map.
    - `momentum`: the weight of the new value in running statistics (torch's convention).
    - `tracked_variance`: `unbiased` (torch, timm) or `biased` (Keras, the official EvoNorms) running variance.

    Raises FormulaError for text that is not a formula, ValueError for an argument that does not fit.
    """
    graph = formula if isinstance(formula, Graph) else parse(formula)
    return compile_graph(graph, num_features, channel_dim, affine=affine, apply_act=apply_act, momentum=momentum, tracked_variance=tracked_variance)


def without_activation(graph: Graph) -> Graph:
    """The form for `apply_act=False`: what the library says of a known layer, else the input as it is."""
    for layer in library().values():
        if layer.without_activation and layer.graph is graph:
            return parse(layer.without_activation)
    inner = without_affine(graph)
    return variable("x") if inner is None else with_affine(without_activation(inner))


def differentiable_twice(model: nn.Module) -> nn.Module:
    """Lets every compiled layer in `model` be differentiated again (`create_graph`, gradient penalties, equations of second order).

    A layer without parameters and statistics saves its slope in float32, which is faster, and can be differentiated once;
    from now on it saves its input, as all layers do in float64. Returns the model.
    """
    for module in model.modules():
        if hasattr(module, "differentiable_twice"):
            module.differentiable_twice = True  # type: ignore[assignment]
    return model


def load(source: str) -> ModuleType:
    """The module of an emitted text; the same text is written and imported once a process."""
    name = f"evosearch_layer_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    if name in sys.modules:
        return sys.modules[name]
    path = cache_directory() / f"{name}.py"
    keep(path, source)
    module = import_file(path, name)
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == name:
            copyreg.pickle(kind, _reduce)
    return module


def _reduce(layer: nn.Module) -> tuple[Callable[..., nn.Module], tuple[str, str, str], dict[str, Any]]:
    """A layer in a user's pickle (torch.save, multiprocessing) carries its formula, since no file of it is on another machine's path."""
    module = sys.modules[type(layer).__module__]
    return _rebuild, (module.FORMULA, module.TRACKED_VARIANCE, type(layer).__name__), layer.__dict__


def _rebuild(formula: str, tracked_variance: str, name: str) -> nn.Module:
    kind = getattr(load(emit(parse(formula, keep_names=True), name, tracked_variance)), name)
    layer: nn.Module = kind.__new__(kind)
    return layer


def cache_directory() -> Path:
    """Where emitted modules are kept, private to the user: code in it is imported."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(root) / "evosearch" / "layers"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def check_layer_cache() -> None:
    """Raises ValueError with the folder and the fix where the modules that are trained cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=cache_directory(), prefix="_tmp.") as file:
            file.write(bytes(1 << 16))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        raise ValueError(
            f"the compiled layers cannot be kept in `{root}/evosearch/layers` ({error}); make room, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
