"""Known layers by name, and what the language cannot say, from the data file `library.toml`."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from evosearch.language.formula import parse
from evosearch.language.graph import Graph


@dataclass(frozen=True)
class KnownLayer:
    """A published layer: its formula on `(N, C, *S)`, where it comes from, and what a formula does not say.

    `kind` is `activation` (elementwise), `normalization`, `norm_activation`, `gated` (of `x` and the gate `y`, both `(N, C, *S)`) or
    `attention` (over the last axis). `without_activation` is the formula with the activation switched off, `x` for the affine part
    only, empty where nothing is published. `affine` says that a weight and a bias of `(C,)` follow the formula; `tracked_variance`,
    whether running variances are `unbiased` or `biased`: the arguments of `evosearch.compile`.
    """

    name: str
    kind: str
    formula: str
    source: str
    aliases: tuple[str, ...] = ()
    without_activation: str = ""
    affine: bool = False
    tracked_variance: str = "unbiased"
    note: str = ""

    @property
    def graph(self) -> Graph:
        """The formula, parsed; parameters are at their published start."""
        return parse(self.formula)


@cache
def _data() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("evosearch.language").joinpath("library.toml").read_text())


@cache
def library() -> dict[str, KnownLayer]:
    """Every known layer by name, aliases left out."""
    return {
        name: KnownLayer(name, kind, **{**fields, "aliases": tuple(fields.get("aliases", ()))})
        for kind, entries in _data().items()
        if kind != "unsayable"
        for name, fields in entries.items()
    }


@cache
def _aliases() -> dict[str, str]:
    return {alias: layer.name for layer in library().values() for alias in layer.aliases}


def unsayable() -> dict[str, str]:
    """Published layers that are no formula of the language, each with the reason in one line."""
    return dict(_data()["unsayable"])


def known(name: str) -> KnownLayer:
    """The layer of that name or alias. Raises ValueError with the nearest name, or with the reason when the language cannot say it."""
    layers, aliases = library(), _aliases()
    found = layers.get(aliases.get(name, name))
    if found is not None:
        return found
    if name in unsayable():
        raise ValueError(f"the language cannot say `{name}`: {unsayable()[name]}")
    close = difflib.get_close_matches(name, [*layers, *aliases], n=1)
    hint = f"did you mean `{close[0]}`?" if close else "`evosearch library` lists them"
    raise ValueError(f"unknown layer `{name[:60]}`; {hint}")
