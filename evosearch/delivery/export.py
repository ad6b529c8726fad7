"""A layer as a folder that needs nothing but torch and can be installed: NAME.py, its other formats, formula.json, formula.tex, pyproject.toml.

Verified in a fresh process before it is kept; verify.json says on what, how exactly, and which format is not there and why.
"""

from __future__ import annotations

import ast
import builtins
import json
import keyword
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evosearch.compiler.emit import emit
from evosearch.delivery.formats import ALWAYS, FORMATS, chosen, make_each
from evosearch.delivery.formats.format import PROBE_FEATURES, Format, Layer, counts_channels, needs_features
from evosearch.delivery.formats.verification import Verified, report, verify
from evosearch.delivery.package import pyproject, tex
from evosearch.delivery.papers.origin import Origin
from evosearch.delivery.papers.write import PAPERS, write_papers
from evosearch.delivery.place import TEMPORARY, ExportError, check_place, standing, unplaced
from evosearch.delivery.simplification import Simplification, simplest
from evosearch.delivery.source import ADDED, whole
from evosearch.language.graph import Graph, canonical, depends_on
from evosearch.meaning.symbolic import latex

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


@dataclass(frozen=True)
class Exported:
    """The files, the formats that are not among them and why, what was compared, and what became of `simplify`."""

    files: tuple[Path, ...]
    absent: dict[str, str]
    verified: dict[str, Verified]
    graph: Graph
    simplification: Simplification | None = None


def export(
    graph: Graph, directory: Path, name: str, *, features: int | None = None, tracked_variance: str = "unbiased",
    origin: Origin | None = None, overwrite: bool = False, formats: Sequence[str] | None = None, simplify: bool = False,
) -> Exported:  # fmt: skip
    """Writes the layer into `directory`, in the usual formats or in NAME.py and those named; `simplify` takes sympy's form where it is one;
    `origin` is the run that found it.

    The files of a layer that keeps a value per channel are fixed at `features` channels but for NAME.py, and are left out without
    them, with the reason. The files are made in a temporary folder, loaded again in a fresh process and compared there; only then do
    they take their place. Raises ExportError, with nothing written, on a mismatch, a format asked for by name that cannot be made, a
    folder that holds other things or, unless `overwrite`, another formula.
    """
    wanted = chosen(formats)
    kind = class_name(name)
    _check_features(graph, features)
    check_place(directory)
    _check_names(emit(graph, kind, tracked_variance), name, kind)
    simplification = simplest(graph) if simplify else None
    graph = simplification.graph if simplification else graph
    function = function_name(name, kind)
    layer = Layer(graph, name, kind, function, features, whole(graph, kind, function, tracked_variance))
    _check_finite(layer)
    record: dict[str, Any] = {
        "formula": str(graph), "canonical_id": graph.canonical_id, "latex": latex(canonical(graph)), "class": kind,
        "inputs": layer.inputs, "tracked_variance": tracked_variance, "num_features": features, "verdict": origin.verdict if origin else None,
    }  # fmt: skip
    _check_folder(directory, name, record["canonical_id"], overwrite)
    try:
        return _write(layer, directory, record, wanted, formats is not None, simplification, origin)
    except OSError as error:  # it could be written a moment ago
        raise unplaced(directory, error) from error


def _write(
    layer: Layer, directory: Path, record: dict[str, Any], wanted: Sequence[Format], by_name: bool, simplification: Simplification | None, origin: Origin | None
) -> Exported:
    """Makes the files in a temporary folder beside their place, verifies them there, and moves them."""
    with tempfile.TemporaryDirectory(dir=standing(directory), prefix=TEMPORARY) as temporary:
        workshop = Path(temporary)
        (workshop / "formula.json").write_text(json.dumps(record, indent=1) + "\n")
        (workshop / "formula.tex").write_text(tex(layer.graph))
        (workshop / "pyproject.toml").write_text(pyproject(layer.name, str(layer.graph)))
        made, absent = make_formats(layer, workshop, wanted, by_name)
        verified = verified_formats(layer, workshop, made)
        said = {"formula": str(layer.graph), **report(made, absent, verified, layer.name, [name for name in FORMATS if name not in {*made, *absent}])}
        if simplification is not None:
            said["simplified"] = {"accepted": simplification.accepted, "note": simplification.note, "from": str(simplification.original)}
        (workshop / "verify.json").write_text(json.dumps(said, indent=1) + "\n")
        write_papers(layer, workshop, origin)
        directory.mkdir(parents=True, exist_ok=True)
        files = sorted(path.name for path in workshop.iterdir() if path.is_file())
        for file in files:
            (workshop / file).replace(directory / file)
        for stale in written_names(layer.name).difference(files):  # of an earlier export in more formats
            (directory / stale).unlink(missing_ok=True)
    return Exported(tuple(directory / file for file in files), absent, verified, layer.graph, simplification)


def make_formats(layer: Layer, workshop: Path, wanted: Sequence[Format], by_name: bool) -> tuple[dict[str, Format], dict[str, str]]:
    """`make_each` of a layer, into `workshop`."""
    return make_each(wanted, lambda one: one.make(layer, workshop / one.file(layer.name)), by_name)


def verified_formats(layer: Layer, workshop: Path, made: dict[str, Format]) -> dict[str, Verified]:
    """What the comparison found. Raises ExportError where a file does not do what was judged."""
    try:
        verified = verify([(layer, workshop)], [made])[0]
    except RuntimeError as error:
        raise ExportError(f"the exported files do not reproduce `{layer.graph}`: {error}; nothing was written") from error
    for name, found in verified.items():
        if found.failures:
            more = f", and {len(found.failures) - 1} more" if len(found.failures) > 1 else ""
            others = ",".join(other for other in made if other != name)
            fix = "" if name == ALWAYS else f"; --formats {others} leaves it out"
            raise ExportError(f"{made[name].file(layer.name)} does not reproduce `{layer.graph}`: {found.failures[0]}{more}; nothing was written{fix}")
    return verified


def written_names(name: str) -> set[str]:
    """Every file that an export of the layer may leave in its folder."""
    return {*(one.file(name) for one in FORMATS.values()), "formula.json", "formula.tex", "pyproject.toml", "verify.json", *PAPERS}


def _check_features(graph: Graph, features: int | None) -> None:
    """Raises ExportError for a number of channels that does not fit."""
    if features is None:
        return
    if not needs_features(graph) and not counts_channels(graph):
        raise ExportError(f"--features is for a layer that keeps a value per channel; this one takes any number of channels: drop --features {features}")
    if not 1 <= features <= MAX_FEATURES:
        raise ExportError(f"--features is the number of channels, 1 to {MAX_FEATURES}; received {features}")


def _check_finite(layer: Layer) -> None:
    """Raises ExportError for a formula that gives no number anywhere, as x / 0: there would be nothing to compare."""
    inputs = probes(layer.graph, layer.channels)
    with torch.no_grad():
        out = layer.fresh()(*inputs)
    if not out.isfinite().any():
        raise ExportError(f"`{str(layer.graph)[:120]}` is finite nowhere: of {out.numel()} inputs none gave a number; export another formula")


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
    others = sorted(present - written_names(name) - {"__pycache__"})
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


def probes(graph: Graph, features: int = PROBE_FEATURES) -> list[torch.Tensor]:
    """Inputs for a quick look, one for each input of the layer."""
    return [probe(features, seed) for seed, name in enumerate(("x", "y")) if depends_on(graph, name)]


def probe(features: int = PROBE_FEATURES, seed: int = 0) -> torch.Tensor:
    """Inputs for comparison, `(4, features, 3, 5)`: normal values, with 0, tiny and large ones among them."""
    x = torch.randn(4, features, 3, 5, generator=torch.Generator().manual_seed(seed))
    x.view(-1)[:8] = torch.tensor([0.0, 1e-8, -1e-8, 10.0, -10.0, 30.0, -30.0, 1.0])
    return x
