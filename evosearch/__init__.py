"""evosearch: a search engine for activation functions and normalization(-activation) layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evosearch import benchmarks
    from evosearch.compiler.module import compile, differentiable_twice
    from evosearch.delivery.swap.swap import swap
    from evosearch.judging.tasks.plugin import data, task
    from evosearch.language.formula import parse

__version__ = "0.1.0"
__all__ = ["__version__", "benchmarks", "compile", "data", "differentiable_twice", "parse", "swap", "task"]


def __dir__() -> list[str]:
    return __all__


_LAZY = {
    "compile": "evosearch.compiler.module", "differentiable_twice": "evosearch.compiler.module", "parse": "evosearch.language.formula",
    "swap": "evosearch.delivery.swap.swap", "data": "evosearch.judging.tasks.plugin", "task": "evosearch.judging.tasks.plugin",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """`evosearch.compile` and the others, imported when first used, so that `evosearch --help` stays instant."""
    import importlib

    if name == "benchmarks":
        return importlib.import_module("evosearch.benchmarks")
    if name not in _LAZY:
        raise AttributeError(f"module `evosearch` has no attribute `{name}`")
    return getattr(importlib.import_module(_LAZY[name]), name)
