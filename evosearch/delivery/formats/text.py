"""formula.txt: the formula written out for sympy, every operator by its definition. Read back by our own parser and compared."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from evosearch.delivery.formats.format import CannotBeMade, Format, Layer
from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph, number_text, parameters
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.symbolic import written_out

SECONDS = 30.0  # of a machine that may be busy
TOLERANCE = 1e-6
_NAMES = {"Max": "max", "Min": "min", "Abs": "abs", "asinh": "asinh"}
_NUMBERS = {"pi": "3.141592653589793", "E": "2.718281828459045"}
_BESSEL = {"0": "i0", "1": "i1"}


def make(layer: Layer, file: Path) -> None:
    text, reason = written_out(layer.graph, SECONDS)
    if text is None:
        raise CannotBeMade(f"sympy does not write it out: {reason}")
    check(layer.graph, text)
    declared = "".join(f"# {p.name}: one value a {p.kind}, starts at {number_text(p.init)}\n" for p in parameters(layer.graph))
    file.write_text(f"{text}\n{declared}")


def check(graph: Graph, text: str) -> None:
    """Raises CannotBeMade unless the text, read back, gives the values of the graph where the definitions do not overflow."""
    drawn = np.random.default_rng(0)
    inputs = {name: drawn.normal(size=(2, 8, 3, 4)) * 2 for name in ("x", "y")}
    values = {p.name: p.init + drawn.uniform(0.1, 0.5, 8 if p.kind == "channel" else None) for p in parameters(graph)}
    for part, line in zip(graph.args if graph.op == "surrogate" else (graph,), text.splitlines(), strict=False):
        try:
            read = parse(in_our_words(line, text) + _declared(graph), keep_names=True)
        except (FormulaError, SyntaxError, ValueError) as error:
            raise CannotBeMade(f"sympy's text `{line[:60]}` is not read back: {' '.join(str(error).split())[:120]}") from error
        wanted, found = evaluate(part, inputs, values), evaluate(read, inputs, values)
        finite = np.isfinite(wanted)
        gap = np.abs(found - wanted)[finite] / (1 + np.abs(wanted[finite]))
        if not np.all(gap <= TOLERANCE):
            raise CannotBeMade(f"sympy's text `{line[:60]}` gives other values, by {np.nanmax(gap):.2g}")


def _declared(graph: Graph) -> str:
    rows = ", ".join(f"{p.name}: {p.kind} = {number_text(p.init)}" for p in parameters(graph))
    return f" where {rows}" if rows else ""


def in_our_words(line: str, text: str) -> str:
    """A line of the text in the formula language; statistics by the lines that begin with `#`."""
    named = dict(row.removeprefix("# ").split("(e) = ") for row in text.splitlines() if "(e) = " in row)

    def said(node: ast.expr) -> str:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name, given = node.func.id, [said(arg) for arg in node.args]
            if name in named:
                call = ast.parse(named[name], mode="eval").body
                assert isinstance(call, ast.Call)
                return f"{ast.unparse(call.func)}({', '.join([given[0], *(ast.unparse(a) for a in call.args[1:]), *map(ast.unparse, call.keywords)])})"
            if name == "besseli":
                return f"{_BESSEL[given[0]]}({given[1]})"
            if name in ("Max", "Min"):
                folded = given[0]
                for other in given[1:]:
                    folded = f"{_NAMES[name]}({folded}, {other})"
                return folded
            return f"{_NAMES.get(name, name)}({', '.join(given)})"
        if isinstance(node, ast.BinOp):
            symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}[type(node.op)]
            return f"({said(node.left)} {symbol} {said(node.right)})"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return f"(-{said(node.operand)})"
        return _NUMBERS.get(node.id, node.id) if isinstance(node, ast.Name) else ast.unparse(node)

    return said(ast.parse(line, mode="eval").body)


class _Fixed(Format):
    """Called formula.txt whatever the layer's name is."""

    def file(self, name: str) -> str:
        return "formula.txt"


FORMAT = _Fixed(
    "txt", ".txt", make, None, default=True,
    lacks={"a fresh process": "text: read by the formula parser and compared as it is written"},
)  # fmt: skip
