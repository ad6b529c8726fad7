"""NAME_numpy.py: a reference in NumPy, from the graph and not from the torch file: values in training and in evaluation, in the input's own type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from evosearch.delivery.formats.arrays import TAKEN, Dialect, Form, check_name, fetched, function, helpers, prepared, returned, signature, start
from evosearch.delivery.formats.comparison import module_of
from evosearch.delivery.formats.format import VALUES, Format, Layer, Run

# What scipy.special has and numpy does not, by the names of the operator table.
_SPECIAL = {
    "expit": '''def _expit(x):
    """1 / (1 + exp(-x)), whose exponential never overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.ones_like(e), e) / (1 + e)''',
    "log_expit": '''def _log_expit(x):
    """log(1 / (1 + exp(-x)))."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))''',
    "erf": '''def _erf(x):
    return np.vectorize(math.erf, otypes=[float])(x).astype(x.dtype)''',
    "erfc": '''def _erfc(x):
    return np.vectorize(math.erfc, otypes=[float])(x).astype(x.dtype)''',
}
_BESSEL = '''def _bessel(x, order, scaled):
    """Modified Bessel functions of the first kind, times exp(-|x|) if `scaled`: their integral by the midpoint rule, their series far out."""
    size = np.abs(x).astype(float)
    angle = (np.arange(512) + 0.5) * (math.pi / 512)
    near = (np.exp(np.minimum(size, 2e3)[..., None] * (np.cos(angle) - 1)) * np.cos(order * angle)).mean(-1)
    far, a = np.maximum(size, 1e3), 4 * order * order
    series = 1 - (a - 1) / (8 * far) * (1 - (a - 9) / (16 * far) * (1 - (a - 25) / (24 * far)))
    value = np.where(size < 1e3, near, series / np.sqrt(2 * math.pi * far))
    value = np.where(np.isnan(size), size, value if scaled else value * np.exp(size))
    return (value * np.sign(x) if order else value).astype(x.dtype)'''
_ORDERS = {"i0": (0, False), "i1": (1, False), "i0e": (0, True), "i1e": (1, True)}
_SPECIAL |= {name: f"def _{name}(x):\n    return _bessel(x, {order}, {scaled})" for name, (order, scaled) in _ORDERS.items()}
_DIALECT = Dialect("np", lambda name: f"_{name}" if name in _SPECIAL else None, "numpy")


def source(layer: Layer) -> str:
    """The text of the file. Raises CannotBeMade for an operator that neither numpy nor this file has."""
    form = Form(layer)
    check_name(layer, TAKEN)
    value = layer.graph.args[0] if layer.graph.op == "surrogate" else layer.graph
    bodies = [function("_value", form.arguments(False), [form.evaluation(value)], form.given(), form.layout, _DIALECT, 1)]
    if form.running:
        bodies.append(function("_value_in_training", form.arguments(True), [value], form.given(), form.layout, _DIALECT, 1))
    text = "\n\n\n".join(bodies)
    special = [body for name, body in _SPECIAL.items() if f"_{name}(" in text]
    special = [*([_BESSEL] if any("_bessel(" in body for body in special) else []), *special]
    parts = [*([start(form, "np")] if form.keeps else []), *helpers(form, "np", text), *special, *bodies, _public(form)]
    whole = "\n\n\n".join(parts)
    imports = "import math\n\n" if "math." in whole else ""
    head = f'"""{layer.graph}\n\nA reference by evosearch; needs numpy alone.\n"""'
    return f"{head}\n\n{imports}import numpy as np\n\nFORMULA = {str(layer.graph)!r}\n\n\n{whole}\n"


def _public(form: Form) -> str:
    call = f"_value({', '.join(form.arguments(False))})"
    about = f"`{form.layer.kind}` of arrays; computed in the type of `x`, half precision in float32."
    lines = [f"def {form.layer.function}({signature(form)}):", f'    """{about}"""']
    lines += [*prepared(form, "np"), '    with np.errstate(all="ignore"):']
    if form.running:
        lines += ["        if training:", f"            out = _value_in_training({', '.join(form.arguments(True))})", "        else:"]
        lines += [f"            {line}" for line in [*fetched(form, "np"), f"out = {call}"]]
    else:
        lines.append(f"        out = {call}")
    return "\n".join([*lines, f"    {returned(form, 'np')}"])


def make(layer: Layer, file: Path) -> None:
    file.write_text(source(layer))


def read(file: Path, name: str, kind: str, features: int) -> Run:
    import inspect
    import warnings

    module = module_of(file)
    function = getattr(module, name if hasattr(module, name) else name.lower())
    options = inspect.signature(function).parameters

    def run(training: bool, state: Mapping[str, Tensor], inputs: list[Tensor], upstream: Tensor) -> dict[str, Tensor]:
        arrays = [t.numpy() for t in inputs]
        kept = [{key: value.numpy() for key, value in state.items()}] if "parameters" in options else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mean of an empty batch
            out = function(*kept, *arrays, **({"training": training} if "training" in options else {}))
        return {f"{'train' if training else 'eval'} value": torch.from_numpy(out.copy())}

    return run


FORMAT = Format(
    "numpy", "_numpy.py", make, read, VALUES | {"train value"}, ("float32", "float16"),
    lacks={
        "gradients": "a reference of values: NumPy has no automatic differentiation", "bfloat16": "NumPy has no such type",
        "running statistics": "read, not moved",
    },
)  # fmt: skip
