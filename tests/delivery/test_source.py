"""NAME.py of every layer of the library: short, formatted, typed, and what it was judged by."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from evosearch.delivery.export import function_name
from evosearch.delivery.package import pyproject
from evosearch.delivery.source import whole
from evosearch.language.graph import with_affine
from evosearch.language.library import library

LONGEST = 200  # lines
TYPED = ("silu", "relu", "helu", "swiglu", "softmax", "evonorm_s0", "evonorm_b0", "batch_instance_norm", "prelu", "poly_norm")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Every layer as `evosearch export --formula NAME` writes it, the affine part included."""
    folder = tmp_path_factory.mktemp("library")
    for name, layer in library().items():
        kind = "".join(part.capitalize() for part in f"{name}_layer".split("_"))
        graph = with_affine(layer.graph) if layer.affine else layer.graph
        (folder / f"{name}_layer.py").write_text(whole(graph, kind, function_name(f"{name}_layer", kind), layer.tracked_variance))
    return folder


def test_no_file_is_long(files):
    lengths = {path.stem: len(path.read_text().splitlines()) for path in files.glob("*.py")}
    assert len(lengths) == len(library())
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_every_file_is_formatted(files):
    """By ruff, at the width that the exported pyproject.toml says."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not beside this Python: the test extra brings it")
    width = tomllib.loads(pyproject("layer", "x"))["tool"]["ruff"]["line-length"]
    done = subprocess.run([ruff, "format", "--diff", "--isolated", "--line-length", str(width), str(files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[:2000] + done.stderr[-200:]


def test_files_are_typed(files, tmp_path):
    pytest.importorskip("mypy")
    chosen = [str(files / f"{name}_layer.py") for name in TYPED]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path), *chosen]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
