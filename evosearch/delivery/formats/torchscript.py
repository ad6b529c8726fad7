"""TorchScript, `.ts.pt`: trains, takes any shape and type. Deprecated in torch, so it is made while torch still can."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

from evosearch.delivery.formats.comparison import run_of
from evosearch.delivery.formats.format import PROBE_FEATURES, TRAINING, CannotBeMade, Format, Layer, Run, check_channels, first_line


def unable() -> str | None:
    """Why this torch scripts no more, or None."""
    if not hasattr(getattr(torch, "jit", None), "script"):
        return f"torch {torch.__version__} has no torch.jit.script; NAME.py and .pt2 say the same"
    if sys.version_info >= (3, 14):
        return f"torch scripts on Python below 3.14; this is {sys.version_info.major}.{sys.version_info.minor}"
    return None


def make(layer: Layer, file: Path) -> None:
    if (reason := unable()) is not None:
        raise CannotBeMade(reason)
    check_channels(layer, "a TorchScript file")
    try:
        scripted(layer.module, layer.kind, layer.channels).save(str(file))
    except (RuntimeError, torch.jit.frontend.NotSupportedError) as error:
        raise CannotBeMade(f"torch.jit.script cannot say it: {first_line(error)}") from error


def scripted(module: object, kind: str, features: int = PROBE_FEATURES) -> torch.jit.ScriptModule:
    """The class `kind` of an emitted module in TorchScript, for `features` channels if it keeps any."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit.*", category=category)
        layer: torch.jit.ScriptModule = torch.jit.script(getattr(module, kind)(features))
        return layer


def read(file: Path, name: str, kind: str, features: int) -> Run:
    return run_of(torch.jit.load(str(file)))  # type: ignore[no-untyped-call]


FORMAT = Format("ts", ".ts.pt", make, read, TRAINING, ("float32", "float16", "bfloat16"), default=True)
