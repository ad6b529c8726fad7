"""Baselines by name: known layers, and a*f(b*x) of four of them with a, b tuned once by scripts/tune_baselines.py. Torch-free."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from evosearch.judging.objectives import nearest
from evosearch.language.candidate import inputs_of
from evosearch.language.formula import parse
from evosearch.language.graph import Graph, canonical, depends_on, with_affine
from evosearch.language.library import known

# By slot, the baselines of what no layer gives and of what the usual one gives: the quality bar is half way between.
QUALITY_BAR = {"act": ("identity", "relu"), "norm_act": ("batch_norm", "bn_relu"), "gate": ("x + y", "swiglu"), "attention": ("mean_attention", "softmax")}


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


def check_inputs(name: str, graph: Graph, slot: str) -> None:
    """Raises ValueError for a baseline `name` that is not of the inputs of a layer in the slot: a gate is of `x` and `y`, every other layer of `x`."""
    inputs = inputs_of(slot)
    if depends_on(graph, "y") and "y" not in inputs:
        raise ValueError(f"`{name[:40]}` has a gate y; in the slot {slot} a layer is a function of x alone: leave it out, or take the slot gate")
    missing = [wanted for wanted in inputs if not depends_on(graph, wanted)]
    if missing:
        raise ValueError(f"`{name[:40]}` is no function of {missing[0]}; in the slot {slot} a layer takes {' and '.join(inputs)}: give another, e.g. swiglu")


def check_known(slot: str) -> None:
    """Raises ValueError for a slot that no architecture of ours has, with the nearest name."""
    if slot not in QUALITY_BAR:
        raise ValueError(f"unknown slot `{slot[:40]}`; {nearest(slot, tuple(QUALITY_BAR))}")
