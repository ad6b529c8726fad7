"""Baselines by name: known layers, and a*f(b*x) of four of them with a, b tuned once by scripts/tune_baselines.py. Torch-free."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from evosearch.language.formula import parse
from evosearch.language.graph import canonical, with_affine
from evosearch.language.library import known

# By slot, the baselines of what no layer gives and of what the usual one gives: the quality bar is half way between.
QUALITY_BAR = {"act": ("identity", "relu"), "norm_act": ("batch_norm", "bn_relu")}


@cache
def tuned() -> dict[str, str]:
    """The tuned baselines' formulas by name."""
    formulas: dict[str, str] = json.loads(files("evosearch.judging").joinpath("tuned_baselines.json").read_text())["formulas"]
    return formulas


def baseline(name: str) -> str:
    """The formula of a baseline: a tuned one, a known layer, or a formula as it is. Raises ValueError with the nearest name."""
    if name in tuned():
        return tuned()[name]
    if not name.isidentifier():
        return str(canonical(parse(name)))
    layer = known(name)
    return str(canonical(with_affine(layer.graph))) if layer.affine else layer.formula
