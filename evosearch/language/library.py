"""Known layers by name, from the data file `library.toml`."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from evosearch.language.formula import parse
from evosearch.language.graph import Graph


@dataclass(frozen=True)
class KnownLayer:
    """A published layer: its name, formula, and where it comes from."""

    name: str
    kind: str  # "activation" | "normalization"
    formula: str
    source: str

    @property
    def graph(self) -> Graph:
        return parse(self.formula)


@cache
def library() -> dict[str, KnownLayer]:
    """Every known layer by name."""
    data = tomllib.loads(files("evosearch.language").joinpath("library.toml").read_text())
    return {
        name: KnownLayer(name, kind, entry["formula"], entry["source"])
        for kind, entries in data.items()
        for name, entry in entries.items()
    }


def known(name: str) -> KnownLayer:
    """The layer of that name. Raises ValueError with the nearest name."""
    layers = library()
    if name not in layers:
        close = difflib.get_close_matches(name, layers, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "`evosearch library` lists them"
        raise ValueError(f"unknown layer `{name[:60]}`; {hint}")
    return layers[name]
