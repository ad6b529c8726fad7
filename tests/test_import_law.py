"""Imports go down only, a heavy library lives in one file. Read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "evosearch"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each floor may import of the package. `job` stands on the floor of the language.
FLOORS = {
    "language": {"language"},
    "dataset": {"dataset"},
    "job": {"job"},
    "meaning": {"language", "meaning"},
    "source": {"source"},
    "stopping": {"stopping"},
    "compiler": {"language", "meaning", "compiler", "source"},
    "plugin": {"language", "compiler", "plugin", "source"},
    "space": {"language", "meaning", "space"},
    "proposers": {"language", "meaning", "space", "proposers"},
    "search": {"language", "meaning", "space", "proposers", "search", "job"},
    "seeding": {"language", "meaning", "space", "judging"},
    "benchmarks": {"language", "meaning", "search", "benchmarks"},
    "judging": {"language", "meaning", "compiler", "plugin", "dataset", "judging", "job"},
    "execution": {"job", "execution"},
    "run": {"language", "meaning", "space", "proposers", "search", "compiler", "plugin", "dataset", "judging", "execution", "job", "config", "sections", ""}
    | {"stopping"},
    "verification": {"dataset", "search", "judging", "job", "plugin", "config", "run", "evaluation", "delivery", "rerank"},
    "mining": {"language", "meaning", "space", "proposers", "judging", "config", "delivery"},
    "transfer": {"dataset", "language", "search", "judging", "plugin", "config", "evaluation", "delivery"},
    "rerank": {"search", "judging", "job", "evaluation"},
    "estimate": {"search", "space", "job", "plugin", "config", "run", "evaluation"},
    "evaluation": {"language", "search", "judging", "execution", "job", "plugin", "dataset"},
}
ONE_FILE = {
    "sympy": "meaning/symbolic.py", "deap": "proposers/variation.py", "optuna": "proposers/bayes.py",
    "pyarrow": "search/segments.py", "ray": "execution/ray.py", "PIL": "dataset/images.py",
    "matplotlib": "delivery/papers/plot.py",
}  # fmt: skip
ALSO = {  # the log of a run, the tables of a user, the open tables; who varies, who stays
    "pyarrow": {"dataset/tables.py", "benchmarks/parquet.py"}, "deap": {"proposers/selection.py"},
    "ray": {f"execution/cluster/{name}.py" for name in ("connect", "doctor", "jobs")},
}  # fmt: skip
TORCH_FREE = ("benchmarks", "dataset", "language", "meaning", "space", "proposers", "search", "execution", "job", "config", "sections", "seeding")


def floor(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    allowed = FLOORS.get(floor(path))
    if allowed is None:
        return
    for name in imports(path):
        if name.split(".")[0] == "evosearch":
            parts = name.split(".")
            assert (parts[1] if len(parts) > 1 else "") in allowed, f"{path} imports {name}"


def test_every_folder_has_its_floor():
    named = {floor(p) for p in FILES} - {"__init__"}
    assert named - set(FLOORS) == {"delivery", "config", "sections", "cli"}


@pytest.mark.parametrize(("library", "home"), ONE_FILE.items())
def test_a_heavy_library_lives_in_one_file(library, home):
    users = {str(p.relative_to(PACKAGE)) for p in FILES if any(name.split(".")[0] == library for name in imports(p))}
    assert users == {home} | ALSO.get(library, set())


def test_the_search_half_knows_no_torch():
    for path in FILES:
        if floor(path) in TORCH_FREE:
            assert not any(name.split(".")[0] == "torch" for name in imports(path)), path


def test_no_file_is_long():
    long = {str(p.relative_to(PACKAGE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long
