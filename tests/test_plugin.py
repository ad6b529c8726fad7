"""A user's operators: probed in every system before they are believed; a fault is one sentence."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from evosearch.compiler.probe import probe
from evosearch.language.operators import OPERATORS, Operator
from evosearch.search.store import read_run

SOUND = '("swirl", 1, "{a} * torch.sin({a})", "a * sin(a)", "a * sin(a)", ("sin(a) + a * cos(a)",), 7)'
# undefined somewhere on the probe's grid by their nature, or without a bfloat16 backward in torch
PARTIAL = {"div", "pow", "reciprocal", "sqrt", "log", "log1p", "i1", "i1e"}
FAULTS = {
    ("torch", "{a} * torch.cos({a})"): "torch and numpy differ at x = ",
    ("torch", "torch.sin(x)"): r"the torch column must use {a} and nothing else",
    ("torch", "torch.nothing({a})"): "cannot be checked: AttributeError",
    ("torch", "{a}.sum()"): "must keep shape and dtype",
    ("torch", "{a}.double() * torch.sin({a})"): "must keep shape and dtype",
    ("numpy", "a * sin("): "cannot be checked: FormulaError",
    ("sympy", "a * cos(a)"): "sympy and numpy differ at x = ",
    ("derivative", ("cos(a)",)): "torch's gradient and the derivative column differ at x = ",
    ("derivative", ("foo(a)",)): "the derivative column is a formula over a, f",
    ("derivative", ()): "one formula an input; received 0 for 1",
    ("arity", 3): "takes 1 or 2 inputs",
    ("arity", "1"): "takes 1 or 2 inputs",
    ("torch", "{a"): "braces that do not match",
    ("torch", None): "the torch column is text",
    ("latex", "{a} {c}"): "the latex column must use {a} and nothing else",
    ("derivative", "cos(a)"): "the derivative column is a tuple of texts",
    ("commutative", True): "commutative is for operators of two inputs",
    ("cost", 0): "whole number >= 1",
}


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - PARTIAL))
def test_every_row_of_the_table_passes_the_probe(name):
    assert probe(OPERATORS[name]) is None


@pytest.mark.parametrize("name", sorted(PARTIAL - {"i1", "i1e"}))
def test_the_probe_says_where_an_operator_is_not_finite(name):
    assert "must be finite in torch.float32" in str(probe(OPERATORS[name]))


@pytest.fixture
def row():
    names = []

    def add(**changes):
        fields = {
            "name": "swirl", "arity": 1, "torch": "{a} * torch.sin({a})", "numpy": "a * sin(a)", "sympy": "a * sin(a)",
            "derivative": ("sin(a) + a * cos(a)",), "cost": 7,
        }  # fmt: skip
        # each under a name of its own: what is known of an operator is remembered by its name
        made = Operator(**(fields | {"name": f"swirl_{abs(hash(str(changes))) % 10**9}"} | changes))
        OPERATORS[made.name] = made
        names.append(made.name)
        return made

    yield add
    for name in names:
        del OPERATORS[name]


def test_a_sound_row_passes(row):
    assert probe(row()) is None


@pytest.mark.parametrize(("fault", "sentence"), FAULTS.items(), ids=str)
def test_a_fault_is_one_sentence(row, fault, sentence):
    said = probe(row(**dict([fault])))
    assert said is not None
    assert sentence in said
    assert "\n" not in said


def test_sympys_child_knows_the_plug_in(tmp_path):
    code = "load([Path('my_ops.py')])\nfrom evosearch.language.formula import parse\nfrom evosearch.meaning.symbolic import simplify\n"
    done = run(tmp_path, f"Operator(*{SOUND})", code + "print(simplify([parse('swirl(x) + x + x + 0 * x')])[0])")
    assert "accepted=True" in done.stdout, done.stderr


def run(tmp_path, rows, code):
    (tmp_path / "my_ops.py").write_text(f"from evosearch.language.operators import Operator\nOPERATORS = [{rows}]\n")
    start = "from pathlib import Path\nfrom evosearch.plugin import load\n"
    return subprocess.run([sys.executable, "-c", start + code], cwd=tmp_path, capture_output=True, text=True, check=False)


def test_a_plug_in_joins_the_language(tmp_path):
    code = (
        "load([Path('my_ops.py')])\nimport evosearch, torch\nx = torch.linspace(-3, 3, 50)\n"
        "print((evosearch.compile('swirl(x) + 1')(x) - x * x.sin() - 1).abs().max().item())"
    )
    done = run(tmp_path, f"Operator(*{SOUND})", code)
    assert done.returncode == 0, done.stderr
    assert np.isclose(float(done.stdout), 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [("1", "OPERATORS must be a list"), ("1 / 0", "does not run: ZeroDivisionError"), (f"Operator(*{SOUND}), Operator(*{SOUND[:-2]}8))", "(taken)"),
     (SOUND.replace("swirl", "tanh").join(("Operator(*", ")")), "needs a lower-case name of its own"),
     (SOUND.replace("swirl", "if").join(("Operator(*", ")")), "needs a lower-case name of its own"),
     (SOUND.replace('"swirl"', "None").join(("Operator(*", ")")), "needs a lower-case name of its own"),
     (SOUND.replace("swirl", "Swirl").join(("Operator(*", ")")), "needs a lower-case name of its own")],
)  # fmt: skip
def test_a_bad_plug_in_is_refused(tmp_path, rows, sentence):
    done = run(tmp_path, rows, "try:\n    load([Path('my_ops.py')])\nexcept ValueError as error:\n    print(error)")
    assert sentence in done.stdout, done.stderr


def test_a_plug_in_that_is_not_there(tmp_path):
    done = run(tmp_path, "", "try:\n    load([Path('other.py')])\nexcept ValueError as error:\n    print(error)")
    assert "`other.py` is not there" in done.stdout


def test_a_search_over_a_plug_in_needs_it_again(tmp_path):
    """The workers get its text; the run's folder only its name and digest."""
    (tmp_path / "my_ops.py").write_text(f"from evosearch.language.operators import Operator\nOPERATORS = [Operator(*{SOUND})]\n")
    tiny = ["--set", "space.operators=[swirl, add, mul, neg]", "--set", "budget.evaluations=8", "--set", "proposers={random: 1}"]

    def evosearch(*arguments):
        command = [sys.executable, "-m", "evosearch.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    made = evosearch("run", "smoke.yaml", "--out", "run", "--plugin", "my_ops.py", *tiny)
    assert made.returncode == 0, made.stderr
    rows, _ = read_run(tmp_path / "run")
    assert any("swirl" in row["candidate"] and row["scores"] for row in rows)
    assert evosearch("top", "run", "--plugin", "my_ops.py").returncode == 0
    assert "give the file again: --plugin my_ops.py" in evosearch("top", "run").stderr
    assert not list((tmp_path / "run").rglob("*.py"))
    with open(tmp_path / "my_ops.py", "a") as file:
        file.write("# changed\n")
    changed = evosearch("resume", "run", "--plugin", "my_ops.py")
    assert changed.returncode == 2
    assert "made with another my_ops.py" in changed.stderr


def test_a_plug_in_that_adds_nothing_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("operators = []\n")
    command = [sys.executable, "-m", "evosearch.cli", "operators", "--plugin", "empty.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "empty.py adds nothing" in done.stderr


def test_a_row_that_wrongly_says_commutative(row):
    columns = {"arity": 2, "torch": "{a} - {b}", "numpy": "a - b", "sympy": "a + -1 * b", "derivative": ("1", "-1")}
    assert "commutative: f(a, b) and f(b, a) differ" in probe(row(**columns, commutative=True))
    assert probe(row(**columns, name="minus2")) is None


def test_a_task_that_fails_is_named_with_the_users_line(tmp_path):
    head = '@evosearch.task(name="bad", metric="m")\ndef train(make_layer, seed, budget):'
    (tmp_path / "bad.py").write_text(f'import evosearch\n{head}\n    raise RuntimeError("boom")\n')
    command = [sys.executable, "-m", "evosearch.cli", "evaluate", "sin(x)", "--task", "bad/own", "--plugin", "bad.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "task bad: the user's own; license: the user's own\nevosearch: the task `bad` failed in bad.py:4: RuntimeError: boom\n"
