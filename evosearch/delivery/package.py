"""The files that make an exported folder a package and a citable formula."""

from __future__ import annotations

import json

from evosearch.language.graph import Graph, canonical, depends_on
from evosearch.meaning.derive import derivative, has_statistics
from evosearch.meaning.symbolic import latex

OLDEST_TORCH = "2.4"


def pyproject(name: str, formula: str) -> str:
    """`pip install FOLDER` installs the module NAME; it depends on torch alone."""
    return f"""[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "{name.replace("_", "-").strip("-")}"
version = "1.0.0"
description = {json.dumps(formula[:400])}
requires-python = ">=3.10"
dependencies = ["torch>={OLDEST_TORCH}"]

[tool.setuptools]
py-modules = ["{name}"]

[tool.ruff]
line-length = 160
"""


def tex(graph: Graph) -> str:
    """The formula and, of a function of `x` alone, its derivative: a line of LaTeX each."""
    if has_statistics(graph) or depends_on(graph, "y") or graph.op == "surrogate":
        return f"f({'x, y' if depends_on(graph, 'y') else 'x'}) = {latex(canonical(graph))}\n"
    return f"f(x) = {latex(canonical(graph))}\nf'(x) = {latex(canonical(derivative(graph)))}\n"
