"""evosearch: a search engine for activation functions and normalization(-activation) layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evosearch.compiler.module import compile
    from evosearch.judging.tasks.plugin import data, task
    from evosearch.language.formula import parse

__version__ = "0.1.0"
__all__ = ["__version__", "compile", "data", "parse", "task"]

def __dir__() -> list[str]:
    return __all__


_LAZY = {
    "compile": "evosearch.compiler.module", "data": "evosearch.judging.tasks.plugin", "parse": "evosearch.language.formula",
    "task": "evosearch.judging.tasks.plugin",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """`evosearch.compile` and the others, imported when first used, so that `evosearch --help` stays instant."""
    if name not in _LAZY:
        raise AttributeError(f"module `evosearch` has no attribute `{name}`")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
