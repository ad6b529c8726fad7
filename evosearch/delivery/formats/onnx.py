"""ONNX: opset 20, standard operators alone, one file; the evaluation form, for float32 inputs (N, C, H, W) of any size.

What the layer keeps stays under its own name in the file, so that other weights can be put there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evosearch.delivery.formats.exported import check_fixed
from evosearch.delivery.formats.format import VALUES, CannotBeMade, Format, Layer, Run, first_line

OPSET = 20
NEEDS = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Raises CannotBeMade with what is missing: the file is made by the first two, and verified by the third."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotBeMade(f"{', '.join(missing)} not installed: pip install 'evosearch[onnx]'")


def make(layer: Layer, file: Path) -> None:
    check_installed()
    check_fixed(layer, "an ONNX file")
    write(layer.program, file)


def write(program: torch.export.ExportedProgram, file: Path) -> None:
    """The program as an ONNX file. Raises CannotBeMade, by name, for an operator that ONNX does not have."""
    import onnx
    from onnxscript import optimizer

    kept = {name: t.detach().clone() for name, t in program.state_dict.items()}
    try:
        with _quiet(), torch.no_grad():
            for i, t in enumerate(t for t in program.state_dict.values() if t.is_floating_point()):  # of two that are equal the optimizer drops one
                t.copy_(torch.linspace(i + 1.1, i + 1.9, t.numel()).view_as(t))
            made: Any = torch.onnx.export(program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False)
            optimizer.optimize_ir(made.model, input_size_limit=0)  # folds no weight into another
            model = made.model_proto
    except Exception as error:  # whatever the exporter raises of an operator that it cannot say
        raise CannotBeMade(f"torch's ONNX exporter cannot say it: {_cause(error)}") from error
    finally:
        with torch.no_grad():
            for name, t in program.state_dict.items():
                t.copy_(kept[name])
    for initializer in model.graph.initializer:
        if initializer.name in kept:
            initializer.CopyFrom(onnx.numpy_helper.from_array(kept[initializer.name].numpy(), initializer.name))
    strange = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain} | {f"{f.domain}.{f.name}" for f in model.functions})
    if strange:
        raise CannotBeMade(f"opset {OPSET} has no {', '.join(strange)[:100]}")
    file.write_bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its steps, and warns of libraries that it does not need."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of what it calls of its own
            yield
    finally:
        logger.setLevel(before)


def _cause(error: BaseException) -> str:
    """The innermost reason: the exporter wraps it in pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def read(file: Path, name: str, kind: str, features: int) -> Run:
    import onnx
    import onnxruntime

    model = onnx.load(file)

    def session(state: Mapping[str, Tensor]) -> onnxruntime.InferenceSession:
        for kept in model.graph.initializer:
            if kept.name in state:
                kept.CopyFrom(onnx.numpy_helper.from_array(state[kept.name].numpy(), kept.name))
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    made: list[onnxruntime.InferenceSession] = []

    def run(training: bool, state: Mapping[str, Tensor], inputs: list[Tensor], upstream: Tensor) -> dict[str, Tensor]:
        if not made:  # the state is one for all cases
            made.append(session(state))
        names = [given.name for given in made[0].get_inputs()]
        out = made[0].run(None, {key: t.contiguous().numpy() for key, t in zip(names, inputs, strict=True)})[0]
        return {"eval value": torch.from_numpy(out)}

    return run


FORMAT = Format(
    "onnx", ".onnx", make, read, VALUES, default=True,
    lacks={
        "training": "an ONNX file is for inference", "gradients": "an ONNX file is for inference",
        "float16, bfloat16": "an ONNX file has one type of input, this one float32; most CPU operators of ONNX Runtime have no bfloat16",
        "other ranks": "the file has one rank of input, (N, C, H, W)",
    },
)  # fmt: skip
