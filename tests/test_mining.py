"""mine: what the targets' own shape is comes out as a unary formula, and goes into a search as a seed."""

from __future__ import annotations

import io
import json
import random
from contextlib import redirect_stdout
from unittest.mock import patch

import numpy as np
import pytest

from evosearch.cli import main
from evosearch.config import load
from evosearch.language.formula import parse
from evosearch.meaning.numeric import equal
from evosearch.mining import Regression, _parts, _regressions, mine, seeds
from tests.test_cli import refused

ALL = "activation.yaml"


def printed(*arguments):
    out = io.StringIO()
    with redirect_stdout(out), patch("sys.argv", ["evosearch", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return out.getvalue()


@pytest.fixture(scope="module")
def harmonic():
    return mine("ood.harmonic/mlp", load(ALL), formulas=120)


def test_the_waves_of_a_harmonic_task_are_found_and_fit_where_nothing_was_fitted(harmonic):
    waves = [one for one in harmonic.found if equal(parse(one.candidate), parse("sin(x)")) or equal(parse(one.candidate), parse("cos(x)"))]
    assert waves
    assert all(one.validation > 0.9 > one.line for one in waves)  # the validation rows lie outside the range of the training rows
    assert all((one.known == "sine") == (one.candidate == "sin(x)") for one in harmonic.found)
    assert "sin(x)" not in seeds(harmonic)


def test_what_is_mined_can_be_given_to_the_search_as_it_is_and_is_the_same_again(harmonic):
    again = mine("ood.harmonic/mlp", load(ALL), formulas=120)
    assert again == harmonic
    text = f"seeds=[{', '.join(map(json.dumps, seeds(harmonic)))}]"
    assert [seed.candidate for seed in load(ALL, [text]).seeds] == seeds(harmonic)


def test_a_direction_is_found_and_a_straight_line_is_no_find():
    """`y = tanh(2 (a - b))^2 + a / 2`: the line cannot see a - b, along which the rest bends."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (400, 2))
    y = np.tanh(2 * (x[:, 0] - x[:, 1])) ** 2 + x[:, 0] / 2
    regressions = list(_regressions((x[:300], x[300:]), (y[:300], y[300:]), "y", random.Random(0)))
    fits = [regression.figures(parse("square(tanh(x))")) for regression in regressions]
    assert max(fit.train for fit in fits) > 0.98
    assert max(fit.validation for fit in fits) > 0.98
    assert regressions[0].line < 0.9
    for straight in ("x", "2 * x + 1", "exp(x) - exp(x)"):
        assert regressions[0].fit(parse(straight))[0] == 0
    assert Regression.fit(regressions[0], parse("log(x)"))[0] == 0  # finite nowhere that matters


def test_the_parts_of_a_formula_are_the_functions_that_it_is_made_of():
    parts = set(map(str, _parts(parse("sin(square(x) + 1) * 2"))))
    assert parts == {"2 * sin(square(x) + 1)", "sin(square(x) + 1)", "2 * x", "square(x) + 1", "2 * sin(x)", "square(x)", "2 * sin(x + 1)"}
    assert "x * sin(x)" in set(map(str, _parts(parse("x * sin(x)"))))
    assert "x * x" not in set(map(str, _parts(parse("x * sin(x)"))))  # sin(x) is not all that x goes through


def test_classes_are_one_against_the_rest_and_noise_gives_nothing(tmp_path):
    wine = mine("tabular.wine/mlp", load(ALL), formulas=20)
    assert wine.targets == ("class 0", "class 1", "class 2")
    assert all(one.gain >= 0.05 for one in wine.found)
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(size=(300, 2)), rng.normal(size=300)])
    np.savetxt(tmp_path / "noise.csv", table, delimiter=",", header="a,b,y", comments="")
    said = printed("mine", "noise", "--data", tmp_path / "noise.csv", "--formulas", 20)
    assert "nothing to seed with" in said
    assert "seeds: [" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["pinn"], "its loss is an equation; take a task"), (["textures"], r"inputs of textures are of shape (1, 16, 16)"),
     (["charlm"], "are whole numbers"), (["nope"], "unknown task `nope`"), (["ood", "--space", "evonorm.yaml"], "take another --space"),
     (["ood", "--space", "joint.yaml"], "take another --space"), (["ood", "--top", 0], "1 candidate (--top)")],
)  # fmt: skip
def test_what_cannot_be_regressed_is_one_line(arguments, message):
    assert message in refused("mine", *arguments)
