"""A user's plug-in file: Python with `OPERATORS`, rows for the operator table, with tasks, or with models. Probed before it is believed.

The file is the user's own code, given by name on the command line; its text travels to the workers with the plan. Nothing
of it is kept in a run's folder but its name and digest: whoever resumes gives the file again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from evosearch.language.operators import Operator, register
from evosearch.source import import_file, keep

MAX_BYTES = 1_000_000
_MODULE = "evosearch_plugin_"  # a plug-in's module is not called as its file: `random.py` must not stand for the library's


class PluginError(ValueError):
    """A plug-in file cannot be used; says the file, the operator, the rule and what was found."""


@dataclass(frozen=True)
class PlugIn:
    """A plug-in as it travels: its file's name and text."""

    name: str
    text: str

    @property
    def stem(self) -> str:
        """The file's name without `.py`: the module that a pair names."""
        return self.name.removesuffix(".py")

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load(paths: Sequence[Path]) -> tuple[PlugIn, ...]:
    """Runs each file, probes its operators and adds them to the table; its folder joins `sys.path`, for what it imports.

    Raises PluginError for the first operator that breaks a rule, see `compiler.probe`.
    """
    plugins: list[PlugIn] = []
    for path in paths:
        if path.name in {plugin.name for plugin in plugins}:
            raise PluginError(f"two plug-ins are called {path.name}, and a run knows them by that name; give it once, or rename one")
        plugins.append(_read(path))
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        rows = _rows(_run(path, path))
        try:
            register(rows)
        except ValueError as error:
            raise PluginError(f"{path}: {error}") from None
        if rows:
            _probe(path, rows)
    return tuple(plugins)


def install(plugins: Iterable[PlugIn], folder: Path) -> None:
    """The same in a worker: the texts are written under `folder`, run, and their operators, probed by the driver, added."""
    for plugin in plugins:
        path = folder / plugin.digest[:32] / plugin.name
        keep(path, plugin.text)
        register(_rows(_run(path, Path(plugin.name))))


def loaded(name: str) -> ModuleType | None:
    """The module of the plug-in NAME.py, if it was loaded here."""
    return sys.modules.get(_MODULE + name)


def has_functions(module: ModuleType) -> bool:
    """Whether the module defines a function or a class, which a pair may name as its model."""
    return any(callable(value) and getattr(value, "__module__", None) == module.__name__ for value in vars(module).values())


def check_given(recorded: Mapping[str, str], plugins: Sequence[PlugIn], where: Path) -> None:
    """Raises PluginError unless `plugins` are those of the run at `where`, of which it `recorded` name and digest; ValueError where it did not."""
    if not isinstance(recorded, Mapping) or not all(isinstance(digest, str) for digest in recorded.values()):
        raise ValueError(f"{where / 'run.yaml'} is damaged: its plug-ins are {str(recorded)[:60]!r}, no names with digests; restore it from a copy")
    given = {plugin.name: plugin.digest for plugin in plugins}
    for name, digest in recorded.items():
        if name not in given:
            raise PluginError(f"{where} was made with the plug-in {name}; give the file again: --plugin {name}")
        if given[name] != digest:
            raise PluginError(f"{where} was made with another {name} (SHA-256 {digest[:12]}, now {given[name][:12]}); use that one, or another --out")
    extra = sorted(set(given) - set(recorded))
    if extra:
        raise PluginError(f"{where} was made without the plug-in {extra[0]}; leave it out, or use another --out")


def _probe(path: Path, rows: Sequence[Operator]) -> None:
    from evosearch.compiler.probe import probe  # torch and sympy: only for those who have operators of their own

    for row in rows:
        fault = probe(row)
        if fault:
            raise PluginError(f"{path}: operator `{row.name}`: {fault}")


def _read(path: Path) -> PlugIn:
    if not path.is_file():
        raise PluginError(f"--plugin names a Python file; `{path}` is not there")
    if path.suffix != ".py" or path.stat().st_size > MAX_BYTES:
        raise PluginError(f"--plugin names a Python file, NAME.py of at most {MAX_BYTES} bytes; received `{path}` of {path.stat().st_size}")
    try:
        return PlugIn(path.name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise PluginError(f"{path} is not UTF-8 text; a plug-in is a Python file") from None


def _run(path: Path, shown: Path) -> ModuleType:
    try:
        return import_file(path, _MODULE + path.stem)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        raise PluginError(f"{shown} does not run: {type(error).__name__}: {error}") from error


def _rows(module: ModuleType) -> list[Operator]:
    rows = getattr(module, "OPERATORS", [])
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Operator) for row in rows):
        raise PluginError(f"{module.__file__}: OPERATORS must be a list of evosearch.language.operators.Operator; received {rows!r:.80}")
    return list(rows)
