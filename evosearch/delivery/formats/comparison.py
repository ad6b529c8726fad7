"""What a fresh process does with exported files: reads each again and compares it with what was judged, case by case.

The text of this module, with the readers of the formats behind it, is a program that imports torch and the standard library alone;
what a reader needs it imports itself. `judged` is also how the expected results are made.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[bool, Mapping[str, Tensor], "list[Tensor]", Tensor], "dict[str, Tensor]"]
READERS: dict[str, Callable[[Path, str, str, int], Run]] = {}
# What rounding to the type leaves: relative, and absolute for what is next to zero.
ROUNDING = {torch.float32: (2e-6, 2e-6), torch.float16: (2e-3, 1e-6), torch.bfloat16: (1.6e-2, 1e-6)}
MARGIN = 32.0  # times what the last bits of the input do to the result


def module_of(path: Path) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


def run_of(layer: nn.Module, switches: bool = True) -> Run:
    """A layer of torch as what is compared; without `switches` it has no training mode."""

    def run(training: bool, state: Mapping[str, Tensor], inputs: list[Tensor], upstream: Tensor) -> dict[str, Tensor]:
        return judged(layer, training, state, inputs, upstream, switches)

    return run


def judged(layer: nn.Module, training: bool, state: Mapping[str, Tensor], inputs: list[Tensor], upstream: Tensor, switches: bool = True) -> dict[str, Tensor]:
    """Values, gradients of `sum(upstream * value)` and, after a step of training, the running state."""
    if state:
        layer.load_state_dict(dict(state))
    if switches:
        layer.train(training)
    mode = "train" if training else "eval"
    found = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # for dropout
        if not training:
            with torch.no_grad():
                found["eval value"] = layer(*inputs)
        leaves = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in inputs]
        layer.zero_grad()
        out = layer(*leaves)
    if training:
        found["train value"] = out.detach()
    if out.requires_grad:
        out.backward(upstream)
    named = {**dict(zip(("x", "y"), leaves, strict=False)), **dict(layer.named_parameters())}
    for name, leaf in named.items():
        if leaf.is_floating_point():
            found[f"{mode} gradient {name}"] = torch.zeros_like(leaf.detach()) if leaf.grad is None else leaf.grad.detach().clone()
    if training:
        found |= {f"train state {name}": buffer.detach().clone() for name, buffer in layer.named_buffers()}
    return found


def kinds(x: Tensor) -> list[Tensor]:
    """For each place of the input what is special about it, as an index into KINDS."""
    size = x.detach().float().abs()
    return [size.isnan(), size.isinf(), size == 0, size < 1e-6, size >= 16, size >= 0]


KINDS = ("nan", "inf", "zero", "tiny", "large", "ordinary")


def places(wrong: Tensor, inputs: list[Tensor]) -> list[str]:
    """At which kinds of input a result differs; where it is not one result an input, all kinds that are there."""
    found = set()
    for x in inputs:
        rest = wrong.clone() if wrong.shape == x.shape else torch.ones_like(x, dtype=torch.bool)
        for name, at in zip(KINDS, kinds(x), strict=True):
            if (rest & at).any():
                found.add(name)
            rest = rest & ~at
    return sorted(found)


def compare(found: Tensor, expected: Tensor, noise: Tensor, inputs: list[Tensor], rounding: tuple[float, float] | None = None) -> dict[str, Any]:
    """The largest error, relative to what is expected where that is above 1 (None: one is finite where the other is not), and what is
    wrong where more than rounding differs."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        what = f"{tuple(found.shape)} of {found.dtype} for {tuple(expected.shape)} of {expected.dtype}"
        return {"error": None, "wrong": what, "places": list(KINDS)}
    relative, absolute = rounding or ROUNDING.get(expected.dtype, (0.0, 0.0))
    value, wanted = found.double(), expected.double()
    gap = (value - wanted).abs()
    same = (value == wanted) | (value.isnan() & wanted.isnan())
    close = same | (gap <= absolute + relative * wanted.abs() + MARGIN * noise.double())
    measured = torch.where(same, 0.0, gap / wanted.abs().clamp(min=1.0))
    finite = measured[measured.isfinite()]
    answer: dict[str, Any] = {"error": float(finite.max()) if finite.numel() else 0.0}
    if not close.all():
        at = (~close).flatten().nonzero()[0, 0]
        if not (gap[~close]).isfinite().all():
            answer["error"] = None
        answer["wrong"] = f"{value.flatten()[at].item():.9g} for {wanted.flatten()[at].item():.9g}, at {int((~close).sum())} of {close.numel()} places"
        answer["places"] = places(~close, inputs)
    return answer


def compare_file(run: Run, offers: list[str], types: list[str], layer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By case, then by result: its error, and what is wrong with it if anything is."""
    report: dict[str, dict[str, Any]] = {}
    for name, case in layer["cases"].items():
        if str(case["inputs"][0].dtype).removeprefix("torch.") not in types:
            continue
        wanted = {key for key in case["expected"] if key.startswith(tuple(offers))}
        answers: dict[str, Any] = {}
        found: dict[str, Tensor] = {}
        for mode in sorted({key.partition(" ")[0] for key in wanted}):
            try:
                found |= run(mode == "train", layer["state"], case["inputs"], case["upstream"])
            except Exception as error:  # whatever a library raises of an input: the file does not do what the layer does
                answers[mode] = {"error": None, "wrong": f"{type(error).__name__}: {str(error)[:200]}", "places": list(KINDS)}
        for key in sorted(wanted & found.keys()):
            answers[key] = compare(found[key], case["expected"][key], case["noise"][key], case["inputs"], case.get("rounding"))
        for key in sorted(wanted - found.keys()):
            answers.setdefault(key.partition(" ")[0], {"error": None, "wrong": f"gives no {key}", "places": list(KINDS)})
        report[name] = answers
    return report


def main() -> None:
    """Reads the request, compares every file of every layer, writes what was found as JSON."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    request = json.loads(Path(sys.argv[1]).read_text())
    report: list[dict[str, Any]] = []
    for one in request["layers"]:
        layer = torch.load(one["cases"], weights_only=True)
        found: dict[str, Any] = {}
        for name, spec in one["formats"].items():
            try:
                run = READERS[name](Path(one["folder"]) / spec["file"], one["name"], one["kind"], one["features"])
            except Exception as error:  # a file that cannot even be read again
                found[name] = {"reading": {"file": {"error": None, "wrong": f"{type(error).__name__}: {str(error)[:300]}", "places": list(KINDS)}}}
                continue
            found[name] = compare_file(run, spec["offers"], spec["types"], layer)
        report.append(found)
    assert "evosearch" not in sys.modules, "the files need evosearch"
    Path(sys.argv[2]).write_text(json.dumps(report))
