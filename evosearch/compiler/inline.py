"""Several emitted layers in one module: what is the same in all of them once, everything else under names of its own."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass

from evosearch.compiler.emit import emit
from evosearch.language.graph import Graph


@dataclass(frozen=True)
class _Part:
    """A definition of an emitted module, and which others of the module it uses."""

    text: str
    uses: frozenset[str]


def inlined(graphs: Mapping[str, Graph]) -> str:
    """The definitions of a class a graph, by the names given, without `imports`. Raises ValueError like `emit`."""
    layers = {kind: _parts(emit(graph, kind), kind) for kind, graph in graphs.items()}
    common = _common(list(layers.values())) if len(layers) > 1 else {name for parts in layers.values() for name in parts}
    written: dict[str, str] = {}
    for kind, parts in layers.items():
        names = {name: name if name in common or name == kind else _own(name, kind) for name in parts}
        for name, part in parts.items():
            written.setdefault(names[name], _renamed(part.text, names))
    return "\n\n\n".join(written.values())


def imports(body: str, *others: str) -> str:
    """The lines that import what the definitions use, with those of the standard library that the caller needs."""
    standard = [*others, *(["from collections.abc import Callable"] if "Callable[" in body else [])]
    functional = ["import torch.nn.functional as F"] if "F." in body else []
    return "\n".join([*sorted(standard, key=lambda line: (line.startswith("from"), line)), "", "import torch", *functional, "from torch import Tensor, nn"])


def _parts(source: str, kind: str) -> dict[str, _Part]:
    """The definitions that the class needs, by name, in order."""
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = node.name
        else:
            continue  # the docstring and the imports
        uses = frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name)) - {name}
        found[name] = _Part("\n".join(lines[node.lineno - 1 : node.end_lineno]), uses)
    needed, waiting = {kind}, [kind]
    while waiting:
        new = (found[waiting.pop()].uses & found.keys()) - needed
        needed |= new
        waiting += new
    return {name: part for name, part in found.items() if name in needed}


def _common(layers: list[dict[str, _Part]]) -> set[str]:
    """The names that mean the same wherever they are defined, in at least two layers, down to all that they use."""
    texts: dict[str, list[_Part]] = {}
    for parts in layers:
        for name, part in parts.items():
            texts.setdefault(name, []).append(part)
    common = {name for name, parts in texts.items() if len(parts) > 1 and len({part.text for part in parts}) == 1}
    while True:
        kept = {name for name in common if (texts[name][0].uses & texts.keys()) <= common}
        if kept == common:
            return common
        common = kept


def _own(name: str, kind: str) -> str:
    """`_value` of Act0 as `_value_act0`, `_Lean` as `_LeanAct0`, FORMULA as `FORMULA_ACT0`."""
    if name.isupper():
        return f"{name}_{kind.upper()}"
    return f"{name}{kind}" if name.lstrip("_")[:1].isupper() else f"{name}_{kind.lower()}"


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with every name that is not an attribute replaced. Strings and comments stay as they are."""
    lines = text.splitlines(keepends=True)
    before = ""
    places: list[tuple[int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and before != "." and names.get(token.string, token.string) != token.string:
            places.append((*token.start, token.string))
        before = token.string
    for row, column, name in reversed(places):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + names[name] + line[column + len(name) :]
    return "".join(lines)
