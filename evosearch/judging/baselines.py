"""Baselines by name: known layers, and a*f(b*x) of four of them with a, b tuned once by scripts/tune_baselines.py. Torch-free."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from evosearch.language.library import known


@cache
def tuned() -> dict[str, str]:
    """The tuned baselines' formulas by name."""
    formulas: dict[str, str] = json.loads(files("evosearch.judging").joinpath("tuned_baselines.json").read_text())["formulas"]
    return formulas


def baseline(name: str) -> str:
    """The formula of a baseline. Raises ValueError with the nearest name."""
    return tuned()[name] if name in tuned() else known(name).formula
