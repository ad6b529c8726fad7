"""NAME.py: the module that was judged, letter for letter, and below it what a user of the file needs beside it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from evosearch.compiler.emit import emit
from evosearch.compiler.layout import assigned
from evosearch.compiler.module import load
from evosearch.language.graph import Graph, canonical, depends_on, parameters
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.gaussian import moments
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.symbolic import latex

ADDED = ("LATEX", "INIT_GAIN", "init_", "self_test")  # names beside those of the judged module
FEATURES = 4
_SAMPLES = (64, 32, 32)  # of N(0, 1), for the gain of a layer that is no function of one number


def whole(graph: Graph, kind: str, function: str, tracked_variance: str) -> str:
    """The text of the file: class `kind`, the function `function` where the layer keeps nothing, constants, `init_`, a self-test."""
    judged = emit(graph, kind, tracked_variance)
    parts = [judged.rstrip("\n"), _constants(graph), _functional(graph, kind, function), _INIT, _self_test(graph, judged, kind)]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def init_gain(graph: Graph) -> float:
    """1 / sqrt(E f(z)^2) for z ~ N(0, 1): weights of deviation gain / sqrt(fan in) keep the signal (VI3NR). NaN where that is not finite.

    Of a layer with statistics or two inputs the mean is over 65,536 fixed normal values.
    """
    if has_statistics(graph) or depends_on(graph, "y"):
        drawn = np.random.default_rng(0)
        with np.errstate(all="ignore"):
            square = float(np.square(evaluate(graph, {name: drawn.normal(size=_SAMPLES) for name in ("x", "y")})).mean())
        return 1 / math.sqrt(square) if math.isfinite(square) and square > 0 else math.nan
    found = moments(graph.args[0] if graph.op == "surrogate" else graph).gain
    return found if math.isfinite(found) and found > 0 else math.nan


def _constants(graph: Graph) -> str:
    gain = init_gain(graph)
    said = "E f(z)^2 = 1 / INIT_GAIN^2 for z ~ N(0, 1)" if math.isfinite(gain) else "E f(z)^2 of z ~ N(0, 1) is not finite: that of the identity"
    formula = assigned("LATEX", f'r"{latex(canonical(graph))}"')
    return f"{formula}\nINIT_GAIN = {gain if math.isfinite(gain) else 1.0:.6g}  # {said}"


def _functional(graph: Graph, kind: str, function: str) -> str:
    if parameters(graph) or has_statistics(graph, "batch"):
        return ""
    names = [name for name in ("x", "y") if depends_on(graph, name)]
    signature = ", ".join(f"{name}: Tensor" for name in names)
    doc = f'"""`{kind}` as a function."""'
    body = [f"def {function}({signature}) -> Tensor:", f"    {doc}", f"    out: Tensor = _LAYER({', '.join(names)})", "    return out"]
    return "\n".join([f"_LAYER = {kind}()", "", "", *body])


_INIT = '''def init_(model: nn.Module) -> nn.Module:
    """Weights of every linear and convolutional layer of `model` with deviation INIT_GAIN / sqrt(fan in), biases 0."""
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(layer.weight, std=INIT_GAIN / layer.weight[0].numel() ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model'''

_TEST = '''def self_test() -> None:
    """Values and slopes in float64 against those that were judged; raises AssertionError."""
{made}
    out = {kind}({features}).double()({leaves})
    found = [out, *torch.autograd.grad(out, [{leaves}], torch.linspace(-1, 1, {count}, dtype=torch.float64).view_as(out))]{symbols}
    wanted = [
{wanted}
    ]
    for values, numbers in zip(found, wanted):
        torch.testing.assert_close(values.detach().flatten()[::{step}], torch.tensor(numbers, dtype=torch.float64), rtol=1e-6, atol=1e-9, equal_nan=True)


if __name__ == "__main__":
    self_test()
    print("{kind} computes", FORMULA)'''

_SHAPE, _STEP = (2, FEATURES, 3, 3), 9


def _self_test(graph: Graph, judged: str, kind: str) -> str:
    names = [name for name in ("x", "y") if depends_on(graph, name)]
    ends = {"x": (-3.0, 3.1), "y": (2.0, -1.9)}
    count = math.prod(_SHAPE)
    texts = [f"    {n} = torch.linspace({ends[n][0]}, {ends[n][1]}, {count}, dtype=torch.float64).view{_SHAPE}.requires_grad_()" for n in names]
    leaves = [torch.linspace(*ends[n], count, dtype=torch.float64).view(_SHAPE).requires_grad_() for n in names]
    out: Tensor = load(judged).__dict__[kind](FEATURES).double()(*leaves)
    values = [out, *torch.autograd.grad(out, leaves, torch.linspace(-1, 1, count, dtype=torch.float64).view_as(out))]
    rows = ["[" + ", ".join(f"{v:.9g}" for v in t.detach().flatten()[::_STEP].tolist()) + "]" for t in values]
    wanted = "\n".join(f"        {row}," for row in rows)
    return _TEST.format(
        leaves=", ".join(names), made="\n".join(texts), kind=kind, features=FEATURES, count=count, step=_STEP, wanted=wanted,
        symbols='\n    nan, inf = float("nan"), float("inf")' if "n" in wanted else "",
    )  # fmt: skip
