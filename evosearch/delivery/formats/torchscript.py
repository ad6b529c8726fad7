"""TorchScript, `.ts.pt`: trains, takes any shape and type. Deprecated in torch, so it is made while torch still can."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

from evosearch.delivery.formats.comparison import run_of
from evosearch.delivery.formats.format import TRAINING, CannotBeMade, Format, Layer, Run, check_channels, first_line


def unable() -> str | None:
    """Why this torch scripts no more, or None."""
    if not hasattr(getattr(torch, "jit", None), "script"):
        return f"torch {torch.__version__} has no torch.jit.script; NAME.py and .pt2 say the same"
    if sys.version_info >= (3, 14):
        return f"torch scripts on Python below 3.14; this is {sys.version_info.major}.{sys.version_info.minor}"
    return None


def check_able() -> None:
    """Raises CannotBeMade with the reason where this torch scripts no more."""
    if (reason := unable()) is not None:
        raise CannotBeMade(reason)


def make(layer: Layer, file: Path) -> None:
    check_able()
    check_channels(layer, "a TorchScript file")
    write(layer.fresh(), file)


def write(module: nn.Module, file: Path) -> None:
    """The module as a TorchScript file. Raises CannotBeMade where torch cannot say it."""
    try:
        scripted(module).save(str(file))
    except (RuntimeError, torch.jit.frontend.NotSupportedError) as error:
        raise CannotBeMade(f"torch.jit.script cannot say it: {first_line(error)}") from error


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    """The module in TorchScript, without torch's word that this is deprecated."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit.*", category=category)
        script: torch.jit.ScriptModule = torch.jit.script(module)
        return script


def read(file: Path, name: str, kind: str, features: int) -> Run:
    return run_of(torch.jit.load(str(file)))  # type: ignore[no-untyped-call]


FORMAT = Format("ts", ".ts.pt", make, read, TRAINING, ("float32", "float16", "bfloat16"), default=True)
