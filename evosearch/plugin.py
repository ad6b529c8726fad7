"""A user's plug-in file: a Python file with `OPERATORS`, a list of rows for the operator table. Probed before it is believed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from evosearch.language.operators import Operator, register


class PluginError(ValueError):
    """A plug-in file cannot be used; says the file, the operator, the rule and what was found."""


def load(paths: Sequence[Path]) -> tuple[Operator, ...]:
    """Runs each file, probes its operators and adds them to the table. The file is the user's own code and runs as such.

    Raises PluginError for the first operator that breaks a rule, see `compiler.probe`.
    """
    loaded: list[Operator] = []
    for path in paths:
        rows = _rows(path)
        try:
            register(rows)
        except ValueError as error:
            raise PluginError(f"{path}: {error}") from None
        from evosearch.compiler.probe import probe  # torch and sympy: only for those who have a plug-in

        for row in rows:
            fault = probe(row)
            if fault:
                raise PluginError(f"{path}: operator `{row.name}`: {fault}")
        loaded += rows
    return tuple(loaded)


def _rows(path: Path) -> list[Operator]:
    if not path.is_file():
        raise PluginError(f"--plugin names a Python file; `{path}` is not there")
    spec = importlib.util.spec_from_file_location(f"evosearch_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin names a Python file; `{path}` does not end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file may raise
        raise PluginError(f"{path} does not run: {type(error).__name__}: {error}") from error
    rows = getattr(module, "OPERATORS", None)
    if not isinstance(rows, (list, tuple)) or not rows or not all(isinstance(row, Operator) for row in rows):
        raise PluginError(f"{path} must define OPERATORS, a list of evosearch.language.operators.Operator; received {rows!r:.80}")
    return list(rows)
