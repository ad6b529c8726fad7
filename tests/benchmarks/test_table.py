"""The open table: what it holds, the score that orders it, and which row knows a formula."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from statistics import fmean

import numpy as np
import pytest

import evosearch
from evosearch.benchmarks import NAMES, Table, load, open_table
from evosearch.benchmarks.parquet import read_columns
from evosearch.language.formula import parse
from evosearch.search.scale import CLIP

UNARY = ("x", "-x", "abs(x)", "tanh(x)", "relu(x)", "silu(x)", "erfc(x)", "cosh(x)", "max(min(0.2 * x + 0.5, 1), 0)")
BINARY = ("({}) + ({})", "({}) - ({})", "({}) * ({})", "({}) / ({})", "({}) ** ({})", "max({}, {})", "min({}, {})")


@pytest.fixture(scope="module")
def table():
    return load("activations-27x7")


def tiny(**more):
    """Three functions and the two baselines that a scale needs; one pair, higher is better, and one where lower is."""
    columns = {
        "function": ["sin(x)", "cos(x)", "tanh(x)", "x", "relu(x)", "gelu(x)"],
        "members": [["sin(x)"], ["cos(x)"], ["tanh(x)"], [], [], []],
        "baseline": [None, None, None, "identity", "relu", "gelu"],
        "better": ["a/net=+1,b/net=-1"] * 6,
        "full:a/net:0": [1.0, 0.0, None, 0.0, 1.0, 2.0], "full:a/net:1": [3.0, 0.0, 1.0, 0.0, 1.0, 2.0],
        "full:b/net:0": [1.0, 0.0, 1.0, 0.0, 1.0, 2.0], "full:b/net:1": [1.0, 0.0, 1.0, 0.0, 1.0, 2.0],
    }  # fmt: skip
    return columns | more


def test_the_table_holds_every_function_of_the_space(table):
    assert len(table) == len(table.functions) == len(set(table.functions)) == 2802
    for form, left, right in product(BINARY, UNARY, UNARY):
        assert table.representative(form.format(left, right)) is not None


def test_a_representative_computes_the_same_function(table):
    points = np.linspace(-4.01, 4.02, 101)
    from evosearch.meaning.numeric import evaluate

    for form, (left, right) in product(BINARY, (("tanh(x)", "erfc(x)"), ("abs(x)", "abs(x)"), ("cosh(x)", "x"))):
        graph = parse(form.format(left, right))
        found = table.representative(graph)
        np.testing.assert_allclose(evaluate(parse(found), {"x": points}), evaluate(graph, {"x": points}), rtol=1e-6, atol=1e-9)
        assert table.functions[table.index(graph)] == found


def test_a_formula_that_no_text_of_the_space_writes_is_found_by_what_it_computes(table):
    assert table.representative("3 * x - x - x + tanh(x)") == table.representative("x + tanh(x)")
    assert table.representative("sin(37 * x)") is None


def test_the_score_is_the_mean_of_both_seeds_on_the_baselines_scale(table):
    row = table.index("selu(x) / cosh(x)")
    expected = []
    for pair in table.pairs:
        usual = [i for i, name in enumerate(table._raw["baseline"]) if name is not None]
        both = [[table._raw[f"full:{pair}:{s}"][i] for s in (0, 1)] for i in usual]
        means = [fmean(v) for v in both if None not in v]
        low, middle, high = np.quantile(means, [0.25, 0.5, 0.75], method="weibull")
        expected.append(np.clip((fmean(table.column(f"full:{pair}:{s}")[row] for s in (0, 1)) - middle) / (high - low), -3, 3))
    assert table.score()[row] == pytest.approx(fmean(expected), abs=1e-6)


def test_the_score_by_hand():
    table = Table("tiny", tiny())
    # the baselines' medians are 1 and their quartiles 0 and 2 on both pairs
    np.testing.assert_allclose(table.score(), [((2 - 1) / 2 - 0) / 2, (-0.5 + 0.5) / 2, -CLIP])
    np.testing.assert_allclose(table.noisy(0), [0.0, 0.0, -CLIP])
    np.testing.assert_allclose(table.noisy(1), [0.5, 0.0, 0.0])
    assert table.top(0.34) == ("sin(x)",)
    assert table.functions == ("sin(x)", "cos(x)", "tanh(x)")


def test_the_order_is_mostly_signal(table):
    kept = table.score() > -CLIP
    assert 1000 < kept.sum() < 1400
    assert np.corrcoef(table.noisy(0)[kept], table.noisy(1)[kept])[0, 1] > 0.9
    assert len(table.top()) == 28
    assert min(table.score()[table.index(text)] for text in table.top()) >= sorted(table.score())[-28]


def test_curves_fall_and_costs_are_there(table):
    row = table.index("selu(x) / cosh(x)")
    for pair, seed in product(table.pairs, (0, 1)):
        curve = table.column(f"curve:{pair}:{seed}")[row]
        assert len(curve) == 8
        assert curve[-1] < curve[0]
    assert all(table.column(f"seconds:full:{pair}")[row] > 0 for pair in table.pairs)
    assert table.column("reason")[table.index("1 / x")] == "nonfinite:forward:float32"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: load("activations-27x8"), "did you mean `activations-27x7`"),
        (lambda t: t.column("full:photo/inr.32:3"), "did you mean `full:photo/inr.32:"),
        (lambda t: t.noisy(2), "seeds 0 and 1; received 2"),
        (lambda t: t.top(0), "above 0"),
        (lambda t: Table("t", {"function": []}), "`members` is not there"),
        (lambda t: read_columns(b"PAR1 and no more"), "not a whole Parquet file"),
    ],
)
def test_errors_say_the_rule(table, call, said):
    with pytest.raises(ValueError, match=said):
        call(table)


def test_a_file_of_ones_own_is_opened_by_its_path(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(tiny()), tmp_path / "mine.parquet")
    table = open_table(tmp_path / "mine.parquet")
    assert table.name == "mine"
    np.testing.assert_allclose(table.score(), Table("tiny", tiny()).score())


def test_it_is_a_public_name_and_loads_no_torch():
    assert evosearch.benchmarks.load(NAMES[0]) is load(NAMES[0])
    code = "import sys, evosearch; evosearch.benchmarks.load('activations-27x7').top(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_file_and_its_card_are_small_and_in_the_package():
    from importlib.resources import files

    folder = files("evosearch.benchmarks")
    for name in NAMES:
        assert len(folder.joinpath(f"{name}.parquet").read_bytes()) <= 5_000_000
        card = folder.joinpath(f"{name}.md").read_text()
        assert all(word in card for word in ("License", "Columns", "Machine", "gaps"))
