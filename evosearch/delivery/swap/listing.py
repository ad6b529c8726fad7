"""What the commands `slots` and `swap` show, and a model and rules as they are named on a command line."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn

from evosearch.delivery.layout import Column, grid, prose
from evosearch.delivery.swap.plan import find
from evosearch.delivery.swap.rules import SwapError
from evosearch.delivery.swap.slots import FUNCTIONS, Slot
from evosearch.judging.architectures.factory import find as factory


def model_of(name: str) -> nn.Module:
    """What `module:factory` makes, called without arguments; what it prints goes to standard error. Raises SwapError."""
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise SwapError(f"a model is named module:factory, as in my_models:net; received `{name[:60]}`")
    make = factory(name)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            model = make()
    except Exception as error:  # whatever a user's function may raise
        raise SwapError(f"`{name}()` raised {type(error).__name__}: {str(error)[:200]}; name a function that makes the model without arguments") from error
    finally:
        print(end=printed.getvalue(), file=sys.stderr)
    if not isinstance(model, nn.Module):
        raise SwapError(f"`{name}` must return a torch.nn.Module; it returned {type(model).__name__}")
    return model


def rules_of(texts: Sequence[str], model: nn.Module) -> list[tuple[Any, str]]:
    """`nn.ReLU=gelu`, `F.relu=gelu`, `layer1.0.relu=gelu`, `/^layer1/=gelu`, `nn.BatchNorm2d+nn.ReLU=evonorm_s0`. Raises SwapError."""
    found = []
    for text in texts:
        left, equals, formula = text.rpartition("/=") if text.startswith("/") else text.partition("=")
        if not equals or not left or not formula.strip():
            raise SwapError(f"--rule reads WHAT=FORMULA, as in nn.ReLU=gelu; received `{text[:60]}`")
        keys = [left[1:]] if text.startswith("/") else left.split("+")
        read = tuple(_expression(keys[0]) if text.startswith("/") else _key(key.strip(), model) for key in keys)
        found.append((read if len(read) > 1 else read[0], formula.strip()))
    return found


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise SwapError(f"--rule /{text[:40]}/ is no regular expression: {error}") from None


def _key(text: str, model: nn.Module) -> Any:
    """A type of torch, a function, the name of a class of the model's own, or a name in the model."""
    home, _, name = text.rpartition(".")
    if home in ("nn", "torch.nn"):
        kind = getattr(nn, name, None)
        if not isinstance(kind, type):
            raise SwapError(f"--rule names `{text[:40]}`, and torch.nn has no such module")
        return kind
    if home in ("F", "nn.functional") and getattr(F, name, None) in FUNCTIONS:
        return getattr(F, name)
    return next((type(module) for module in model.modules() if type(module).__name__ == text), text)


def slots(model: nn.Module, width: int | None) -> list[str]:
    """The places of a model as a table, with what hinders where something does."""
    found = find(model)[0]
    if not found:
        return ["no activations and norms that swap knows; a class of your own is named by type or name: see docs/swap.md"]
    columns = [
        Column("place", [", ".join(slot.names) for slot in found], right=False),
        Column("type", [slot.label for slot in found], right=False),
        Column("kind", [slot.kind for slot in found], drop=2, right=False),
        Column("channels", ["" if slot.channels is None else str(slot.channels) for slot in found], drop=1),
        Column("calls", [str(slot.sites) for slot in found], drop=3),
        Column("line", [slot.where for slot in found], drop=1, right=False),
        Column("note", [_note(slot) for slot in found], right=False, flexible=True),
    ]
    lines, left_out = grid([column for column in columns if any(column.cells)], width)
    calls = sum(slot.how == "call" for slot in found)
    lines += prose(f"left out for lack of width: {', '.join(left_out)}", width) if left_out else []
    return lines + (prose(f"{calls} functional calls: swapped with --functional fx", width) if calls else [])


def _note(slot: Slot) -> str:
    one = f"one module at {len(slot.names)} places" if len(slot.names) > 1 else ""
    aliased = "in place, its input is read again" if slot.aliased else ""
    function = "a function kept as an attribute" if slot.how == "attribute" else ""
    return "; ".join(note for note in (slot.why, one, function, aliased, *slot.notes) if note)
