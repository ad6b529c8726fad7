"""The source runs no text and swallows no error: read from the syntax trees of the package and its scripts, through every alias.

What is forbidden is forbidden as a name too, not as a call alone: `f = pickle.loads` is found where it stands. The exceptions are one
list, each with its reason, and one that nothing needs any more is an error as well.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "evosearch").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])

MODULES = {  # they read objects, or run text, from whatever they are given
    "pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "dbm", "yaml", "runpy", "code", "codeop", "imp",
    "pty", "xmlrpc", "torch.hub", "torch.package", "sympy.parsing", "numpy.ctypeslib",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__", "__builtins__"}
NAMES = {
    "builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "builtins.__dict__",
    "sympy.sympify", "sympy.S", "sympy.parse_expr", "sympy.lambdify", "sympy.sympify.sympify",
    "torch.jit.load", "torch.export.load", "torch.serialization.load", "torch.jit.CompilationUnit",
    "os.system", "os.popen", "os.startfile", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "shutil.unpack_archive", "tempfile.mktemp", "types.FunctionType", "types.CodeType",
    "importlib.import_module", "importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader", "importlib.__import__",
}  # fmt: skip
FAMILIES = ("os.exec", "os.spawn", "os.posix_spawn")  # their members begin so
ATTRIBUTES = {"extractall", "exec_module", "load_module", "__globals__", "__subclasses__", "__builtins__", "__code__", "read_pickle", "to_pickle"}
CALLS = {"torch.load", "numpy.load", "ruamel.yaml.YAML"}  # allowed as a call with the right arguments, and under no other name
ANY = {"Exception", "BaseException"}

EXCEPTIONS = {
    ("evosearch/__init__.py", "importlib.import_module"): "of our own modules, when they are first asked for",
    ("evosearch/source.py", "importlib.util.spec_from_file_location"): "the one place where code is loaded: an emitted module, or a file that its user names",
    ("evosearch/source.py", ".exec_module"): "as above",
    ("evosearch/proposers/registry.py", "importlib.import_module"): "of the table of proposers, which is ours",
    ("evosearch/judging/architectures/factory.py", "importlib.import_module"): "of a model that its user names, and says again for a run of somebody else's",
    ("evosearch/execution/server.py", "importlib.import_module"): "of the worker's entry, which the driver names",
    ("evosearch/delivery/formats/torchscript.py", "torch.jit.load"): "of the file that export wrote just now, in a child that checks it",
    ("evosearch/delivery/formats/exported.py", "torch.export.load"): "as above",
    ("evosearch/delivery/formats/comparison.py", "importlib.util.spec_from_file_location"): "as above",
    ("evosearch/delivery/formats/comparison.py", ".exec_module"): "as above",
    ("evosearch/delivery/network.py", "importlib.util.spec_from_file_location"): "of the model.py that export wrote just now, in a child that checks it",
    ("evosearch/delivery/network.py", ".exec_module"): "as above",
}


def findings(text: str) -> list[tuple[int, str]]:
    """Line and name of everything in the source that is forbidden."""
    tree = ast.parse(text)
    programs = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_program(node.value)]
    inside = {(node.lineno, what) for node in programs for _, what in findings(node.value)}
    names = _bound(tree)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return sorted({(node.lineno, what) for node in ast.walk(tree) for what in _wrong(node, names, calls)} | inside)


def _is_program(text: str) -> bool:
    """Whether a text constant is what a child process is started with."""
    try:
        return "import " in text and any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(text).body)
    except (SyntaxError, ValueError):
        return False


def _bound(tree: ast.AST) -> dict[str, str]:
    """What each name of the file stands for: imports by their full names, definitions by an empty one."""
    names = {name: name for name in BUILTINS if hasattr(builtins, name) or name == "__builtins__"} | {"getattr": "getattr"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            names[node.name] = ""
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _full(node: ast.AST, names: dict[str, str]) -> str:
    """`numpy.load` for `np.load`; empty where it is not known."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        before = _full(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _wrong(node: ast.AST, names: dict[str, str], calls: dict[int, ast.Call]) -> Iterator[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _wrong_import(node)
    if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        full = _full(node, names)
        if full in BUILTINS | NAMES - {"sympy.S"} or full.startswith(FAMILIES):
            yield full
        if full in CALLS and id(node) not in calls:
            yield f"{full} under another name"
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            yield f".{node.attr}"
    if isinstance(node, ast.Call):
        yield from _wrong_call(node, _full(node.func, names))
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "vars(builtins)":
        yield "vars(builtins)"
    if isinstance(node, ast.Constant) and node.value in ("__builtins__", "__import__", "__subclasses__", "__globals__"):
        yield f'"{node.value}"'
    if isinstance(node, ast.ExceptHandler) and _is_any(node.type) and all(_does_nothing(part) for part in node.body):
        yield "an exception is swallowed"


def _wrong_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    given = [alias.name for alias in node.names]
    for name in given if isinstance(node, ast.Import) else [node.module or "", *(f"{node.module}.{name}" for name in given)]:
        if any(name == module or name.startswith(f"{module}.") for module in MODULES):
            yield f"import {name}"
        if name in NAMES | {f"builtins.{builtin}" for builtin in BUILTINS} or name.startswith(FAMILIES):
            yield name


def _wrong_call(node: ast.Call, full: str) -> Iterator[str]:
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    spread = [key.value for value in (keywords.get(None),) if isinstance(value, ast.Dict) for key in value.keys if isinstance(key, ast.Constant)]
    if ("shell" in keywords and not _is(keywords["shell"], False)) or "shell" in spread:
        yield "shell=True"
    if full == "sympy.S":
        yield full
    if full == "torch.load" and not _is(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if full == "numpy.load" and (len(node.args) > 2 or "allow_pickle" in spread or not _is(keywords.get("allow_pickle", ast.Constant(False)), False)):
        yield "numpy.load with allow_pickle"
    if full == "ruamel.yaml.YAML" and not any(_is(keywords.get("typ"), kind) for kind in ("rt", "safe")):
        yield "ruamel.yaml.YAML of another type than rt and safe"
    if full == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        last = {name.rpartition(".")[2] for name in NAMES} | BUILTINS | ATTRIBUTES
        if node.args[1].value in last - {"load", "S"}:
            yield f"getattr {node.args[1].value}"
    if full == "contextlib.suppress" and any(_is_any(argument) for argument in node.args):
        yield "an exception is swallowed"


def _is(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value if isinstance(value, bool) else isinstance(node, ast.Constant) and node.value == value


def _is_any(kind: ast.AST | None) -> bool:
    """Whether an `except` of this takes whatever comes."""
    return kind is None or (isinstance(kind, ast.Name) and kind.id in ANY) or (isinstance(kind, ast.Tuple) and any(map(_is_any, kind.elts)))


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Pass, ast.Continue)) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=_place)
def test_no_text_is_run_and_no_error_swallowed(path):
    found = [f"{_place(path)}:{line}: {what}" for line, what in findings(path.read_text()) if (_place(path), what) not in EXCEPTIONS]
    assert not found, found


def test_every_exception_is_needed():
    found = {(_place(path), what) for path in FILES for _, what in findings(path.read_text())}
    assert set(EXCEPTIONS) <= found, set(EXCEPTIONS) - found


CAUGHT = [
    "import pickle", "import pickle as p\np.loads(b'')", "from pickle import loads as f", "import _pickle", "import marshal", "import shelve",
    "import dill", "from torch import package", "import torch.hub", "import yaml\nyaml.load(text)", "from yaml import safe_load",
    "def f():\n    import cloudpickle", "eval(text)", "exec(text)", "compile(text, 'f', 'exec')", "f = eval", "run = [exec]", "map(eval, texts)",
    "__import__('os')", "import builtins as b\nb.exec(text)", "import builtins\nvars(builtins)['eval'](text)", "import builtins\nbuiltins.__dict__",
    "run_child('import pickle\\npickle.load(f)')", "from builtins import eval as f", "getattr(builtins, 'eval')", "__builtins__['eval']",
    "getattr(module, 'exec')", "globals()['__builtins__']", "f.__globals__['x']", "().__class__.__base__.__subclasses__()", "import runpy",
    "import code", "from types import CodeType", "import sympy\nsympy.sympify(text)", "from sympy import sympify", "import sympy as s\ns.S(text)",
    "from sympy import lambdify as f", "from sympy.parsing.sympy_parser import parse_expr", "import torch\ntorch.load(f)",
    "import torch as t\nt.load(f, weights_only=False)", "from torch import load\nload(f)", "import torch\nload = torch.load",
    "import torch\ntorch.load(f, weights_only=flag)", "import torch\ntorch.jit.load(f)", "from torch.jit import load",
    "from torch import jit\njit.load(f)", "import torch\ntorch.export.load(f)", "import numpy as np\nnp.load(f, allow_pickle=True)",
    "from numpy import load as f\nf(x, None, True)", "import numpy\nnumpy.load(f, **{'allow_pickle': True})", "from ruamel.yaml import YAML\nYAML()",
    "from ruamel.yaml import YAML\nYAML(typ='unsafe')", "import ruamel.yaml\nruamel.yaml.YAML(typ=kind)", "subprocess.run(c, shell=True)",
    "anything(c, shell=flag)", "subprocess.run(c, **{'shell': True})", "import os\nos.system(c)", "from os import system",
    "from os import popen as f", "import os\nos.execvp(c, a)", "from os import execv", "import os\nos.spawnl(0, c)",
    "import subprocess as s\ns.getoutput(c)", "tar.extractall(place)", "import shutil\nshutil.unpack_archive(f)",
    "from importlib import import_module", "import importlib\nimportlib.import_module(name)", "import tempfile\ntempfile.mktemp()",
    "try:\n    f()\nexcept:\n    pass", "try:\n    f()\nexcept Exception:\n    pass", "try:\n    f()\nexcept BaseException:\n    ...",
    "while x:\n    try:\n        f()\n    except (OSError, Exception):\n        continue",
    "from contextlib import suppress\nwith suppress(Exception):\n    f()", "import contextlib as c\nwith c.suppress(BaseException):\n    f()",
]  # fmt: skip
ALLOWED = [
    "import re\nre.compile('x')", "import builtins\nname in vars(builtins)", "model.eval()", "import torch\ntorch.compile(f)",
    "import ast\nast.literal_eval(t)", "from evosearch import compile\ncompile('x')", "def compile(text): ...\ncompile('x')",
    "import torch\ntorch.load(f, weights_only=True)", "import numpy as np\nnp.load(f, allow_pickle=False)", "import numpy as np\nnp.load(f)",
    "from ruamel.yaml import YAML\nYAML(typ='rt', pure=True)", "import subprocess\nsubprocess.run(['ls'], shell=False)",
    "try:\n    f()\nexcept OSError:\n    pass", "try:\n    f()\nexcept Exception as e:\n    raise ValueError from e", "import json\njson.loads(t)",
    "from contextlib import suppress\nwith suppress(OSError):\n    f()", "import sympy\nsympy.S.Half", "text = 'pickle and eval'",
]  # fmt: skip


@pytest.mark.parametrize("text", CAUGHT)
def test_what_must_be_caught_is(text):
    assert findings(text)


@pytest.mark.parametrize("text", ALLOWED)
def test_what_does_no_harm_is_not(text):
    assert not findings(text)
