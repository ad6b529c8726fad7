"""Tables fit their terminal; a pipe gets every column, unwrapped and without padding."""

from __future__ import annotations

import pytest

from evosearch.delivery import listing
from evosearch.delivery.layout import Column, grid, prose
from evosearch.language.operators import OPERATORS

COLUMNS = [
    Column("formula", ["sin(x) + cos(x) * tanh(x) - exp(x)", "x"], right=False, flexible=True),
    Column("mean", ["+1.00", "-0.50"]),
    Column("time", ["12.0", "3.0"], drop=2),
    Column("cost", ["30", "0"], drop=1),
]


def test_a_pipe_gets_everything():
    lines, left_out = grid(COLUMNS, None)
    assert lines == [
        "formula                              mean  time  cost",
        "sin(x) + cos(x) * tanh(x) - exp(x)  +1.00  12.0    30",
        "x                                   -0.50   3.0     0",
    ]
    assert left_out == []


@pytest.mark.parametrize(("width", "gone"), [(200, []), (40, []), (36, ["time"]), (30, ["time", "cost"])])
def test_columns_go_in_their_order(width, gone):
    lines, left_out = grid(COLUMNS, width)
    assert max(map(len, lines)) <= width
    assert left_out == gone
    assert not any(line.endswith(" ") for line in lines)


def test_prose_keeps_together_what_a_no_break_space_holds():
    assert prose("one two\u00a0three four", 24) == ["one two three four"]
    assert prose("a sentence of words [1]\u00a0pair", 26) == ["a sentence of words", "  [1] pair"]
    assert prose("x" * 300, None) == ["x" * 300]


@pytest.mark.parametrize("width", [40, 80, 200, None])
def test_listings(width):
    for lines in (listing.tasks(width), listing.operators(width), listing.operators(width, latex=True), listing.library(width), listing.cannot_say(width)):
        assert all(width is None or len(line) <= max(width, 60) for line in lines)
        assert not any(line.endswith(" ") for line in lines)


def test_gradients_at_kinks():
    shown = {name: listing.gradient_at_kinks(OPERATORS[name]) for name in ("relu", "max", "hardtanh", "leaky_relu", "sqrt", "sin", "pow")}
    assert shown == {
        "relu": "0 at 0", "max": "0.5, 0.5 where a = b", "hardtanh": "0 at -1; 0 at 1", "leaky_relu": "0.01 at 0",
        "sqrt": "not finite at 0", "sin": "", "pow": "1, 0 where a = 0",
    }  # fmt: skip


def test_what_is_held_together_is_parted_at_words_where_no_line_is_long_enough():
    text = "[5]\u00a0textures/efficientnet@8\u00a0accuracy\u00a0[%]; [6]\u00a0a\u00a0b"
    assert prose(text, 32) == ["[5] textures/efficientnet@8", "  accuracy [%]; [6] a b"]
    assert prose(text, None) == [text.replace("\u00a0", " ")]
