"""A layer as files that need nothing but torch: NAME.py, NAME.ts.pt, formula.json. Verified in a fresh process before it is kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from evosearch.compiler.emit import emit
from evosearch.compiler.module import load
from evosearch.language.graph import Graph, parameters
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.symbolic import latex

PROBE_FEATURES = 8


class ExportError(ValueError):
    """The layer could not be exported, or what was written does not compute what was evaluated."""


def class_name(name: str) -> str:
    """`my_layer` as `MyLayer`. Raises ExportError for a name that is no Python identifier."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ExportError(f"a layer's name is a Python identifier of at most 64 letters, digits and underscores; received `{name[:80]}`: pass --name")
    return "".join(part[:1].upper() + part[1:] for part in name.split("_") if part)


def export(graph: Graph, directory: Path, name: str) -> list[Path]:
    """Writes the layer into `directory` and returns the files.

    The files are made in a temporary folder beside it, loaded again in a fresh process and compared there; only then do
    they take their place. Raises ExportError, with nothing written, on a mismatch or a folder that holds other things.
    """
    kind = class_name(name)
    files = {f"{name}.py", f"{name}.ts.pt", "formula.json"}
    if directory.exists() and not directory.is_dir():
        raise ExportError(f"{directory} is a file; pass another --to")
    others = sorted(p.name for p in directory.iterdir() if p.name not in files) if directory.exists() else []
    if others:
        raise ExportError(f"{directory} holds other things ({', '.join(others[:3])}); pass another --to")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="_tmp.export.") as temporary:
        workshop = Path(temporary)
        _write(graph, workshop, name, kind)
        _verify(graph, workshop, name, kind)
        directory.mkdir(exist_ok=True)
        for file in sorted(files):
            (workshop / file).replace(directory / file)
    return [directory / file for file in sorted(files)]


def _write(graph: Graph, directory: Path, name: str, kind: str) -> None:
    source = emit(graph, kind)
    (directory / f"{name}.py").write_text(source)
    record = {"formula": str(graph), "canonical_id": graph.canonical_id, "latex": latex(graph), "class": kind}
    (directory / "formula.json").write_text(json.dumps(record, indent=1) + "\n")
    scripted(load(source), kind).save(str(directory / f"{name}.ts.pt"))


def scripted(module: object, kind: str) -> torch.jit.ScriptModule:
    """The layer in TorchScript (deprecated in torch, made while torch supports it), for PROBE_FEATURES channels if it keeps any."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        layer: torch.jit.ScriptModule = torch.jit.script(getattr(module, kind)(PROBE_FEATURES))
        return layer


def probe(features: int = PROBE_FEATURES) -> torch.Tensor:
    """Inputs for comparison, `(4, features, 3, 5)`: normal values, with 0, tiny and large ones among them."""
    x = torch.randn(4, features, 3, 5, generator=torch.Generator().manual_seed(0))
    x.view(-1)[:8] = torch.tensor([0.0, 1e-8, -1e-8, 10.0, -10.0, 30.0, -30.0, 1.0])
    return x


def _verify(graph: Graph, directory: Path, name: str, kind: str) -> None:
    """Loads both files in a fresh process without evosearch and compares values, gradients and a training step."""
    layer = load(emit(graph)).Layer(PROBE_FEATURES)
    layer.train()
    x = probe().requires_grad_()
    out = layer(x)
    out.sum().backward()
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder) / "expected.pt"
        torch.save({"x": x.detach(), "train": out.detach(), "gradient": x.grad, "eval": layer.eval()(x.detach())}, expected)
        code = _CHECK.replace("NAME", name).replace("KIND", kind).replace("FEATURES", str(PROBE_FEATURES))
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, str(directory), str(expected)], capture_output=True, text=True, timeout=300
        )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ExportError(f"the exported files do not reproduce `{graph}`: {''.join(last)[:300]}; nothing was written")


_CHECK = """
import importlib.util, sys, warnings
from pathlib import Path
import torch
warnings.simplefilter("ignore")
folder, expected = Path(sys.argv[1]), torch.load(sys.argv[2], weights_only=True)
spec = importlib.util.spec_from_file_location("NAME", folder / "NAME.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "evosearch" not in sys.modules
for label, layer in (("NAME.py", module.KIND(FEATURES)), ("NAME.ts.pt", torch.jit.load(str(folder / "NAME.ts.pt")))):
    x = expected["x"].clone().requires_grad_()
    layer.train()
    out = layer(x)
    out.sum().backward()
    found = {"train": out.detach(), "gradient": x.grad, "eval": layer.eval()(expected["x"])}
    for what, value in found.items():
        if not torch.allclose(value, expected[what], rtol=1e-6, atol=1e-6, equal_nan=True):
            raise SystemExit(f"{label} differs in {what} by {(value - expected[what]).abs().max().item():.3g}")
"""


def needs_features(graph: Graph) -> bool:
    """Whether the layer keeps a value per channel (and its TorchScript file a fixed number of them)."""
    return any(p.kind == "channel" for p in parameters(graph)) or has_statistics(graph, "batch")
