"""torch.export, `.pt2`: the evaluation form as one graph of torch operators, for float32 inputs (N, C, H, W) of any size."""

from __future__ import annotations

from pathlib import Path

import torch

from evosearch.delivery.formats.comparison import run_of
from evosearch.delivery.formats.format import EVALUATION, CannotBeMade, Format, Layer, Run, check_channels, counts_channels


def check_fixed(layer: Layer, what: str) -> None:
    """Raises CannotBeMade where the graph would hold a number of channels that nobody has named."""
    check_channels(layer, what)
    if layer.features is None and counts_channels(layer.graph):
        raise CannotBeMade(f"the number of groups follows from that of the channels, and {what} holds a fixed number of them: pass --features N")


def make(layer: Layer, file: Path) -> None:
    check_fixed(layer, "a .pt2 file")
    torch.export.save(layer.program, file)


def read(file: Path, name: str, kind: str, features: int) -> Run:
    return run_of(torch.export.load(file).module(), switches=False)


FORMAT = Format(
    "pt2", ".pt2", make, read, EVALUATION, default=True,
    lacks={
        "training": "an exported graph holds one mode, this one evaluation",
        "float16, bfloat16": "an exported graph holds one type of input, this one float32; NAME.py takes any",
        "other ranks": "an exported graph holds one rank of input, this one (N, C, H, W)",
    },
)  # fmt: skip
