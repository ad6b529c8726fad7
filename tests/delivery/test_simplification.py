"""--simplify: smaller and the same, or the formula as it was, with the reason."""

from __future__ import annotations

import json

import pytest

from evosearch.delivery import simplification
from evosearch.delivery.export import export
from evosearch.delivery.simplification import difference, simplest_of
from evosearch.language.formula import parse
from evosearch.language.library import library
from evosearch.meaning.stable import stabilized
from evosearch.meaning.symbolic import Simplified

SPELLED = {
    "x / (1 + exp(-x))": "silu(x)", "1 / (exp(2 * x) + 1)": "sigmoid(-(2 * x))", "log(exp(x) + 1) * x": "x * softplus(x)", "exp(x) - 1": "expm1(x)",
    "x * tanh(log(1 + exp(x)))": "mish(x)", "exp(x) / (exp(x) + 1)": "sigmoid(x)", "log(1 + square(x))": "log1p(square(x))", "sin(x) + 1": "sin(x) + 1",
}  # fmt: skip


@pytest.mark.parametrize(("text", "stable"), SPELLED.items())
def test_what_is_spelled_out_is_said_by_its_stable_operator(text, stable):
    assert stabilized(parse(text)) is parse(stable)


def test_simplified_where_it_is_the_same_and_the_reason_where_not():
    texts = ["x + x + x * sin(x) ** 2 + x * cos(x) ** 2", "x * exp(x) / (1 + exp(x))", "sin(x)", "relu(x) ~ relu(x + 0.1)"]
    found = simplest_of([parse(text) for text in texts])
    assert [str(one.graph) for one in found] == ["3 * x", "silu(x)", *texts[2:]]
    assert [one.accepted for one in found] == [True, True, False, False]
    assert found[2].note == "already simple"
    assert all(one.note for one in found)


def test_a_form_with_other_values_or_slopes_is_not_taken(monkeypatch):
    assert difference(parse("x * sigmoid(x)"), parse("silu(x)")) is None
    assert "eval value" in str(difference(parse("sin(x)"), parse("tanh(x)")))
    assert "gradient x" in str(difference(parse("relu(x)"), parse("max(x, 0)")))  # at 0
    monkeypatch.setattr(simplification, "simplify", lambda graphs, *_: [Simplified(parse("tanh(x)"), True, "simplified by sympy") for _ in graphs])
    (found,) = simplest_of([parse("sin(x)")])
    assert found.graph is parse("sin(x)")
    assert found.note.startswith("sympy's `tanh(x)` gives ")


def test_the_folder_says_what_became_of_it(tmp_path):
    done = export(parse("x / (1 + exp(-x)) + 0 * x"), tmp_path / "layer", "layer", formats=["py"], simplify=True)
    said = json.loads((tmp_path / "layer" / "verify.json").read_text())["simplified"]
    assert said["accepted"] is True
    assert said["from"] == "x / (exp(-x) + 1) + 0 * x"
    assert str(done.graph) == "silu(x)"
    assert 'FORMULA = "silu(x)"' in (tmp_path / "layer" / "layer.py").read_text()


@pytest.mark.slow
def test_the_whole_library_goes_through_it(capsys):
    found = simplest_of([known.graph for known in library().values()])
    fallbacks = {name: one.note for name, one in zip(library(), found, strict=True) if not one.accepted}
    with capsys.disabled():
        print(f"\n{len(found)} layers, {len(found) - len(fallbacks)} simplified, {len(fallbacks)} exported as they are:")
        for note in sorted(set(fallbacks.values())):
            print(f"  {sum(other == note for other in fallbacks.values())}: {note}")
    assert all(fallbacks.values())
    assert all(one.graph is known.graph or one.accepted for one, known in zip(found, library().values(), strict=True))
    assert len(fallbacks) < len(found)
