"""A candidate as text: one layer, or a network of slots and choices."""

from __future__ import annotations

import pytest

from evosearch.language.candidate import Candidate, parse_candidate, slot_names
from evosearch.language.formula import FormulaError, parse

NETWORK = "act0 := x * sigmoid(a * x) where a: layer = 1; act1 := relu(x); depth := 3; norm := 'batch'; scale := 0.5"


def test_a_network_is_one_line_and_reads_back():
    found = parse_candidate(NETWORK)
    assert found.choices == {"depth": 3, "norm": "batch", "scale": 0.5}
    assert str(found) == NETWORK.replace("a * x", "v0 * x").replace("where a", "where v0") or parse_candidate(str(found)) == found
    assert parse_candidate(str(found)) == found
    assert parse_candidate(str(found)).canonical_id == found.canonical_id


def test_sites_go_by_number_and_not_by_alphabet():
    slots = {name: parse(f"x + {i}") for i, name in enumerate(slot_names(12))}
    assert Candidate(dict(reversed(slots.items()))).sites == tuple(slots.values())
    assert parse_candidate("tanh(x)").sites == (parse("tanh(x)"),)
    assert parse_candidate("act := tanh(x); depth := 2").sites == (parse("tanh(x)"),)


@pytest.mark.parametrize("text", ["act0 := relu(x); act2 := relu(x)", "act1 := relu(x)", "act := relu(x); act0 := relu(x)", "depth := 3"])
def test_slots_have_no_gap(text):
    with pytest.raises(ValueError, match="without a gap; received"):
        _ = parse_candidate(text).sites


def test_one_layer_is_one_slot_and_no_choice():
    assert parse_candidate("relu(x)").is_layer
    assert parse_candidate("relu(x)").graph is parse("relu(x)")
    for text, said in (("act := relu(x); depth := 2", "makes the choices depth"), ("act0 := relu(x); act1 := x", "slots act0, act1")):
        assert not parse_candidate(text).is_layer
        with pytest.raises(ValueError, match=said):
            _ = parse_candidate(text).graph


@pytest.mark.parametrize("text", ["act0 := relu(x); act0 := tanh(x)", "act0 := relu(x); depth", "a b := relu(x)"])
def test_what_is_no_candidate(text):
    with pytest.raises(FormulaError):
        parse_candidate(text)
