"""--simplify: sympy's simplified form, in stable operators, in place of the formula only where it computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evosearch.compiler.emit import emit
from evosearch.delivery.formats.cases import expected
from evosearch.delivery.formats.comparison import judged
from evosearch.delivery.formats.format import PROBE_FEATURES, Layer, needs_features
from evosearch.language.graph import Graph
from evosearch.meaning.stable import stabilized
from evosearch.meaning.symbolic import Simplified, simplify

SECONDS = 10.0  # of sympy, for one formula
TOLERANCE = 1e-4  # of values and slopes, where those of the original are finite and well conditioned


@dataclass(frozen=True)
class Simplification:
    """The formula that is exported, whether it is sympy's, and why or why not."""

    original: Graph
    graph: Graph
    accepted: bool
    note: str


def simplest(graph: Graph, seconds: float = SECONDS) -> Simplification:
    """The simplified form where it was found within `seconds` and computes the same values and slopes; else the graph."""
    return simplest_of([graph], seconds)[0]


def simplest_of(graphs: Sequence[Graph], seconds: float = SECONDS) -> list[Simplification]:
    """`simplest` of many, with one child process for sympy."""
    return [_checked(graph, found) for graph, found in zip(graphs, simplify(graphs, seconds, stabilized), strict=True)]


def _checked(graph: Graph, found: Simplified) -> Simplification:
    if not found.accepted:
        return Simplification(graph, graph, False, found.note)
    fault = difference(graph, found.graph)
    return Simplification(graph, graph, False, fault) if fault else Simplification(graph, found.graph, True, found.note)


def difference(graph: Graph, other: Graph) -> str | None:
    """Where the layer of `other` gives other values or slopes than that of `graph`, or none where that gives one; None where it does not."""
    one, two = (Layer(g, "layer", "Compared", "compared", PROBE_FEATURES if needs_features(g) else None, emit(g, "Compared")) for g in (graph, other))
    wanted, made = expected(one), two.fresh()
    cases, state = wanted["cases"], wanted["state"]
    for name, case in cases.items():
        if case["inputs"][0].dtype != torch.float32:
            continue
        found = {key: value for training in (False, True) for key, value in judged(made, training, state, case["inputs"], case["upstream"]).items()}
        for key, value in case["expected"].items():
            allowed = TOLERANCE * (1 + value.abs()) + 32 * case["noise"][key]
            wrong = value.isfinite() & ~((found[key] - value).abs() <= allowed)
            if wrong.any():
                at = wrong.flatten().nonzero()[0, 0]
                return f"sympy's `{str(other)[:80]}` gives {found[key].flatten()[at]:.6g} for {value.flatten()[at]:.6g} ({key}, {name})"
    return None
