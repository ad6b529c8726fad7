"""What a row of the operator table must keep: one function, the same in torch, numpy and sympy, with a true derivative."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import torch

from evosearch.compiler.module import compile_graph
from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph, make, variable
from evosearch.language.operators import Operator
from evosearch.meaning.derive import derivative
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.symbolic import exact

_GRID = np.linspace(-5.0, 5.0, 201)
_POINTS = (-4.37, -1.91, -0.63, 0.29, 0.81, 1.57, 3.33)


def probe(row: Operator) -> str | None:
    """What is wrong with a registered row, in one sentence; None for a sound one."""
    fault = _texts(row)
    if fault:
        return fault
    graph = make(row.name, *(variable("x"), make("sin", variable("x")))[: row.arity])
    for check in (_shape_and_dtype, _finite, _numpy, _derivative, _sympy):
        try:
            fault = check(graph)
        except Exception as error:  # a template may break in any way that Python, torch or sympy can
            fault = f"{check.__name__.strip('_').replace('_', ' ')} cannot be checked: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if fault:
            return fault
    return None


def _texts(row: Operator) -> str | None:
    if row.arity not in (1, 2):
        return f"an operator takes 1 or 2 inputs; received arity {row.arity}"
    inputs = ("a", "b")[: row.arity]
    fields = {field for _, field, _, _ in string.Formatter().parse(row.torch) if field}
    if fields != set(inputs):
        return f"the torch column must use {' and '.join(f'{{{i}}}' for i in inputs)} and nothing else in braces; received `{row.torch}`"
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
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in ((), (3,), (2, 3, 4, 5), (0, 3)):
            out = compile_graph(graph)(torch.full(shape, 0.7, dtype=dtype))
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
