"""Emitted text as a live module: a content-addressed file in the user's cache, imported. The one place where generated code runs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from torch import nn

from evosearch.compiler.emit import emit, with_affine
from evosearch.language.formula import parse
from evosearch.language.graph import Graph


def compile_graph(
    graph: Graph,
    num_features: int | None = None,
    channel_dim: int = 1,
    *,
    affine: bool = False,
    momentum: float = 0.1,
    tracked_variance: str = "unbiased",
) -> nn.Module:
    """A fresh `nn.Module` that computes `graph` on inputs of shape `(N, C, *S)`, channels at `channel_dim`.

    Raises ValueError when the graph keeps a value per channel and `num_features` is missing.
    """
    source = emit(with_affine(graph) if affine else graph, "Layer", tracked_variance)
    layer: nn.Module = load(source).Layer(num_features, channel_dim, momentum)
    return layer


def compile(
    formula: str,
    num_features: int | None = None,
    channel_dim: int = 1,
    *,
    affine: bool = False,
    momentum: float = 0.1,
    tracked_variance: str = "unbiased",
) -> nn.Module:
    """A fresh `nn.Module` for a formula's text, e.g. `compile("x * sigmoid(v * x) / std(x, group) where v: channel = 1", 64)`.

    Raises FormulaError for text that is not a formula, ValueError as `compile_graph`.
    """
    return compile_graph(
        parse(formula), num_features, channel_dim, affine=affine, momentum=momentum, tracked_variance=tracked_variance
    )


def load(source: str) -> ModuleType:
    """The module of an emitted text; the same text is written and imported once a process."""
    name = f"evosearch_layer_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    if name in sys.modules:
        return sys.modules[name]
    path = _cache_directory() / f"{name}.py"
    if not path.is_file() or path.read_text() != source:
        _write(path, source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _cache_directory() -> Path:
    """Private to the user: code in it is imported."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(root) / "evosearch" / "layers"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _write(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="_tmp.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(temporary, path)
