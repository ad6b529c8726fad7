"""What a row of the operator table must keep: one function, the same in torch, numpy and sympy, with a true derivative."""

from __future__ import annotations

import string
import sys
from typing import Any

import numpy as np
import torch

from evosearch.compiler.module import compile_graph
from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph, make, variable
from evosearch.language.operators import OPERATORS, Operator
from evosearch.meaning.derive import derivative
from evosearch.meaning.numeric import evaluate, function
from evosearch.meaning.symbolic import exact

_GRID = np.linspace(-5.0, 5.0, 201)
_POINTS = (-4.37, -1.91, -0.63, 0.29, 0.81, 1.57, 3.33)


def probe(row: Operator) -> str | None:
    """What is wrong with a registered row, in one sentence; None for a sound one."""
    fault = _types(row) or _texts(row)
    if fault:
        return fault
    graph = make(row.name, *(variable("x"), make("sin", variable("x")))[: row.arity])
    for check in (_shape_and_dtype, _finite, _numpy, _derivative, _sympy, _commutative):
        try:
            fault = check(graph)
        except Exception as error:  # a template may break in any way that Python, torch or sympy can
            fault = f"{check.__name__.strip('_').replace('_', ' ')} cannot be checked: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if fault:
            return fault
    return None


def _types(row: Operator) -> str | None:
    """Python checks no annotation of a user's row."""
    if type(row.arity) is not int or row.arity not in (1, 2):
        return f"an operator takes 1 or 2 inputs; received arity {row.arity!r}"
    for column in ("torch", "numpy", "sympy", "latex"):
        if not isinstance(getattr(row, column), str):
            return f"the {column} column is text; received {getattr(row, column)!r:.60}"
    for column in ("derivative", "kinks"):
        texts = getattr(row, column)
        if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
            return f'the {column} column is a tuple of texts, as ("cos(a)",); received {texts!r:.60}'
    for column in ("commutative", "searchable"):
        if type(getattr(row, column)) is not bool:
            return f"{column} is True or False; received {getattr(row, column)!r:.60}"
    return None


def _texts(row: Operator) -> str | None:
    inputs = ("a", "b")[: row.arity]
    for column, text in (("torch", row.torch), ("latex", row.latex)):
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
        except ValueError as error:
            return f"the {column} column has braces that do not match ({error}); received `{text[:60]}`"
        if fields - set(inputs) or (column == "torch" and fields != set(inputs)):
            return f"the {column} column must use {' and '.join(f'{{{i}}}' for i in inputs)} and nothing else in braces; received `{text[:80]}`"
    if row.commutative and row.arity == 1:
        return "commutative is for operators of two inputs"
    if len(row.derivative) != row.arity:
        return f"the derivative column has one formula an input; received {len(row.derivative)} for {row.arity}"
    if type(row.cost) is not int or row.cost < 1:
        return f"the cost is a whole number >= 1; received {row.cost!r}"
    for column, text, names in (
        *(("derivative", text, (*inputs, "f")) for text in row.derivative),
        *(("kinks", text, inputs) for text in row.kinks),
    ):
        try:
            parse(text, inputs=names)
        except FormulaError as error:
            return f"the {column} column is a formula over {', '.join(names)}: {error}"
    return None


def _shape_and_dtype(graph: Graph) -> str | None:
    expression = vars(sys.modules[type(compile_graph(graph)).__module__])["_value"]  # the layer around it casts and broadcasts
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in ((), (3,), (2, 3, 4, 5), (0, 3)):
            out = expression(torch.full(shape, 0.7, dtype=dtype))
            if out.shape != shape or out.dtype != dtype:
                return f"must keep shape and dtype; {dtype} of shape {shape} became {out.dtype} of shape {tuple(out.shape)}"
    return None


def _finite(graph: Graph) -> str | None:
    for dtype in (torch.float32, torch.bfloat16):
        value, slope = _torch(graph, _GRID, dtype)
        for name, found in (("value", value), ("gradient", slope)):
            if not np.isfinite(found).all():
                return f"{name} must be finite in {dtype} on [-5, 5]; it is {found[~np.isfinite(found)][0]} at x = {_GRID[~np.isfinite(found)][0]:g}"
    return None


def _numpy(graph: Graph) -> str | None:
    return _compare("torch", _torch(graph, _GRID, torch.float64)[0], "numpy", evaluate(graph, {"x": _GRID}), _GRID)


def _derivative(graph: Graph) -> str | None:
    points = np.asarray(_POINTS)
    return _compare("torch's gradient", _torch(graph, points, torch.float64)[1], "the derivative column", evaluate(derivative(graph), {"x": points}), points)


def _sympy(graph: Graph) -> str | None:
    points = np.asarray(_POINTS)
    values = np.asarray([np.nan if v is None else v for v in exact(graph, _POINTS)])
    return _compare("sympy", values, "numpy", evaluate(graph, {"x": points}), points)


def _commutative(graph: Graph) -> str | None:
    """`make` orders the inputs of a commutative operator."""
    if len(graph.args) == 1 or not OPERATORS[graph.op].commutative:
        return None
    a, b = np.asarray(_POINTS), np.asarray(_POINTS[::-1]) + 0.17
    f = function(graph.op)
    return _compare("a row that says commutative: f(a, b)", f(a, b), "f(b, a)", f(b, a), a)


def _torch(graph: Graph, points: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient of the plain form: torch's own autograd, not the table's derivative."""
    x = torch.tensor(points, dtype=dtype, requires_grad=True)
    layer: Any = compile_graph(graph)
    out: torch.Tensor = layer._plain(x)
    (slope,) = torch.autograd.grad(out.sum(), x, allow_unused=True) if out.requires_grad else (None,)
    slope = torch.zeros_like(x) if slope is None else slope
    return out.detach().double().numpy(), slope.double().numpy()


def _compare(first: str, a: np.ndarray, second: str, b: np.ndarray, points: np.ndarray) -> str | None:
    apart = ~(np.abs(a - b) <= 1e-6 * (1 + np.abs(b)))
    if not apart.any():
        return None
    at = int(np.argmax(apart))
    return f"{first} and {second} differ at x = {points[at]:g}: {a[at]:.6g} and {b[at]:.6g}"
