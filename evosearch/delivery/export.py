"""A layer as a folder that needs nothing but torch and can be installed: NAME.py, NAME.ts.pt, formula.json, formula.tex, pyproject.toml.

Verified in a fresh process before it is kept.
"""

from __future__ import annotations

import ast
import builtins
import json
import keyword
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evosearch.compiler.emit import emit
from evosearch.compiler.module import load
from evosearch.delivery.package import pyproject, tex
from evosearch.delivery.papers.origin import Origin
from evosearch.delivery.papers.write import PAPERS, write_papers
from evosearch.delivery.place import TEMPORARY, ExportError, check_place, standing, unplaced
from evosearch.delivery.source import ADDED, whole
from evosearch.language.graph import Graph, canonical, depends_on, parameters
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.symbolic import latex

PROBE_FEATURES = 8
MAX_FEATURES = 65536
_TAKEN_FILES = {"torch", "evosearch", *sys.stdlib_module_names}  # NAME.py would hide them


def class_name(name: str) -> str:
    """`my_layer` as `MyLayer`. Raises ExportError for a name that is no Python identifier or hides something."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ExportError(f"a layer's name is a Python identifier of at most 64 letters, digits and underscores; received `{name[:80]}`: pass --name")
    kind = "".join(part[:1].upper() + part[1:] for part in name.split("_") if part)
    if keyword.iskeyword(name) or keyword.iskeyword(kind) or name in _TAKEN_FILES or kind in vars(builtins) or name in vars(builtins):
        raise ExportError(f"a layer's name may not hide a word of Python or one of its modules; received `{name}` (class {kind}): pass another --name")
    return kind


def needs_features(graph: Graph) -> bool:
    """Whether the layer keeps a value per channel (and its TorchScript file a fixed number of them)."""
    return any(p.kind == "channel" for p in parameters(graph)) or has_statistics(graph, "batch")


def export(
    graph: Graph, directory: Path, name: str, *, features: int | None = None, tracked_variance: str = "unbiased",
    origin: Origin | None = None, overwrite: bool = False,
) -> list[Path]:  # fmt: skip
    """Writes the layer into `directory` and returns the files; `origin` is the run that found it.

    The TorchScript file of a layer that keeps a value per channel is fixed at `features` channels, and is left out without
    them. The files are made in a temporary folder, loaded again in a fresh process and compared there; only then do they take
    their place. Raises ExportError, with nothing written, on a mismatch, a folder that holds other things or, unless
    `overwrite`, another formula.
    """
    kind = class_name(name)
    script = _check_features(graph, features)
    check_place(directory)
    _check_names(emit(graph, kind, tracked_variance), name, kind)
    source = whole(graph, kind, function_name(name, kind), tracked_variance)
    _check_finite(graph, load(source).__dict__[kind], features or PROBE_FEATURES)
    record: dict[str, Any] = {
        "formula": str(graph), "canonical_id": graph.canonical_id, "latex": latex(canonical(graph)), "class": kind,
        "inputs": [n for n in ("x", "y") if depends_on(graph, n)], "tracked_variance": tracked_variance,
        "num_features": features, "verdict": origin.verdict if origin else None,
    }  # fmt: skip
    _check_folder(directory, name, record["canonical_id"], overwrite)
    try:
        return _write(graph, directory, name, source, record, script, origin)
    except OSError as error:  # it could be written a moment ago
        raise unplaced(directory, error) from error


def _write(graph: Graph, directory: Path, name: str, source: str, record: dict[str, Any], script: bool, origin: Origin | None) -> list[Path]:
    """Makes the files in a temporary folder beside their place, verifies them there, and moves them."""
    kind, features = record["class"], record["num_features"]
    with tempfile.TemporaryDirectory(dir=standing(directory), prefix=TEMPORARY) as temporary:
        workshop = Path(temporary)
        (workshop / f"{name}.py").write_text(source)
        (workshop / "formula.json").write_text(json.dumps(record, indent=1) + "\n")
        (workshop / "formula.tex").write_text(tex(graph))
        (workshop / "pyproject.toml").write_text(pyproject(name, str(graph)))
        if script:
            scripted(load(source), kind, features or PROBE_FEATURES).save(str(workshop / f"{name}.ts.pt"))
        _verify(graph, workshop, name, kind, features or PROBE_FEATURES)
        write_papers(graph, workshop, name, kind, features, load(source).__dict__[kind], origin)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.ts.pt").unlink(missing_ok=True)
        files = sorted(path.name for path in workshop.iterdir() if path.is_file())
        for file in files:
            (workshop / file).replace(directory / file)
    return [directory / file for file in files]


def _check_features(graph: Graph, features: int | None) -> bool:
    """Whether a TorchScript file can be written. Raises ExportError for a number that does not fit."""
    if features is None:
        return not needs_features(graph)
    if not needs_features(graph):
        raise ExportError(f"--features is for a layer that keeps a value per channel; this one takes any number of channels: drop --features {features}")
    if not 1 <= features <= MAX_FEATURES:
        raise ExportError(f"--features is the number of channels, 1 to {MAX_FEATURES}; received {features}")
    return True


def _check_finite(graph: Graph, make: Callable[[int], torch.nn.Module], features: int) -> None:
    """Raises ExportError for a formula that gives no number anywhere, as x / 0: there would be nothing to compare."""
    inputs = probes(graph, features)
    with torch.no_grad():
        out = make(features)(*inputs)
    if not out.isfinite().any():
        raise ExportError(f"`{str(graph)[:120]}` is finite nowhere: of {out.numel()} inputs none gave a number; export another formula")


def function_name(name: str, kind: str) -> str:
    """What the layer is called as a function: its own name, in small letters where the class has that."""
    return name if name != kind else name.lower()


def _check_names(source: str, name: str, kind: str) -> None:
    """Raises ExportError when the module uses the name of the class or of the function for something else."""
    bound: Counter[str] = Counter([*ADDED, "Tensor", "Callable", "F", function_name(name, kind)])
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            bound.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            bound[node.name] += 1
    for taken in (kind, function_name(name, kind)):
        if bound[taken] > 1:
            raise ExportError(f"the name {taken} of `{name}` would hide a name that the module itself uses: pass another --name")


def _check_folder(directory: Path, name: str, canonical_id: str, overwrite: bool) -> None:
    """Raises ExportError for a folder that holds other things, or another formula without `overwrite`."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ExportError(f"{directory} is a file; pass another --to")
    present = {path.name for path in directory.iterdir()}
    present = {file for file in present if not file.startswith(TEMPORARY)}  # the rest of an export that was killed
    others = sorted(present - {f"{name}.py", f"{name}.ts.pt", "formula.json", "formula.tex", "pyproject.toml", *PAPERS, "__pycache__"})
    if others:
        raise ExportError(f"{directory} holds other things ({', '.join(others[:3])}); pass another --to")
    if not present - {"__pycache__"} or overwrite:
        return
    try:
        before = json.loads((directory / "formula.json").read_text())
        formula, known = str(before["formula"]), before["canonical_id"] == canonical_id
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"{directory} holds {sorted(present)[0]} but no readable formula.json; pass another --to, or --overwrite") from None
    if not known:
        raise ExportError(f"{directory} holds another formula, `{formula[:120]}`; pass another --to, or --overwrite")


def scripted(module: object, kind: str, features: int = PROBE_FEATURES) -> torch.jit.ScriptModule:
    """The layer in TorchScript (deprecated in torch, made while torch supports it), for `features` channels if it keeps any."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        layer: torch.jit.ScriptModule = torch.jit.script(getattr(module, kind)(features))
        return layer


def probes(graph: Graph, features: int = PROBE_FEATURES) -> list[torch.Tensor]:
    """Inputs for comparison, one for each input of the layer."""
    return [probe(features, seed) for seed, name in enumerate(("x", "y")) if depends_on(graph, name)]


def probe(features: int = PROBE_FEATURES, seed: int = 0) -> torch.Tensor:
    """Inputs for comparison, `(4, features, 3, 5)`: normal values, with 0, tiny and large ones among them."""
    x = torch.randn(4, features, 3, 5, generator=torch.Generator().manual_seed(seed))
    x.view(-1)[:8] = torch.tensor([0.0, 1e-8, -1e-8, 10.0, -10.0, 30.0, -30.0, 1.0])
    return x


def _verify(graph: Graph, directory: Path, name: str, kind: str, features: int) -> None:
    """Loads the files in a fresh process without evosearch and compares values, gradients and a training step."""
    layer = load((directory / f"{name}.py").read_text()).__dict__[kind](features)
    layer.train()
    inputs = probes(graph, features)
    leaves = [t.clone().requires_grad_() for t in inputs]
    out = layer(*leaves)
    out.sum().backward()
    expected = {"train": out.detach(), "eval": layer.eval()(*inputs).detach(), **{f"gradient {i}": t.grad for i, t in enumerate(leaves)}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "expected.pt"
        torch.save({"inputs": inputs, "expected": expected}, file)
        arguments = [sys.executable, "-I", "-c", _CHECK, str(directory), str(file), name, kind, str(features)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ExportError(f"the exported files do not reproduce `{graph}`: {''.join(last)[:300]}; nothing was written")


_CHECK = """
import importlib.util, sys, warnings
from pathlib import Path
import torch
warnings.simplefilter("ignore")
folder, file, name, kind, features = Path(sys.argv[1]), *sys.argv[2:]
saved = torch.load(file, weights_only=True)
spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "evosearch" not in sys.modules
module.self_test()
layers = {f"{name}.py": getattr(module, kind)(int(features))}
script = folder / f"{name}.ts.pt"
if script.exists():
    layers[script.name] = torch.jit.load(str(script))
for label, layer in layers.items():
    leaves = [t.clone().requires_grad_() for t in saved["inputs"]]
    layer.train()
    out = layer(*leaves)
    out.sum().backward()
    found = {"train": out.detach(), "eval": layer.eval()(*saved["inputs"]), **{f"gradient {i}": t.grad for i, t in enumerate(leaves)}}
    for what, value in found.items():
        expected = saved["expected"][what]
        if not torch.allclose(value, expected, rtol=1e-6, atol=1e-6, equal_nan=True):
            raise SystemExit(f"{label} differs in {what} by {(value - expected).abs().max().item():.3g}")
"""
