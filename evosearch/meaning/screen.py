"""The driver's own verdicts, pure and cheap: static, numeric, duplicate. What passes is dispatched to a worker."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evosearch.language.candidate import parse_candidate
from evosearch.language.graph import Axes, Graph, depends_on, parameters, reaches, walk
from evosearch.meaning.derive import derivative, has_statistics
from evosearch.meaning.facts import complexity
from evosearch.meaning.numeric import Array, equal, evaluate, fingerprints
from evosearch.meaning.require import Requirements, unmet

_PROBE: Array = np.linspace(-10.0, 10.0, 401)
_CENTER = np.abs(_PROBE) <= 4.0
_LARGEST = 1e3  # on [-4, 4]: beyond it a network of two layers overflows half precision
_SMALLEST = 1e-4


@dataclass(frozen=True)
class Verdict:
    """Why a candidate is not dispatched: `rejected` with a reason code and the figure that decided, if one did, or `duplicate`
    of the dispatched job `duplicate_of`."""

    status: str
    reason: str
    duplicate_of: int | None = None
    figure: float | None = None


class Screen:
    """Remembers every function asked so far, pending ones too, and says what need not be trained."""

    def __init__(self, max_nodes: int, max_parameters: int, max_cost: int | None = None, required: Requirements | None = None) -> None:
        self.max_nodes, self.max_parameters, self.max_cost = max_nodes, max_parameters, max_cost
        self.required = required or Requirements()
        self._asked: dict[bytes, list[tuple[int, Graph]]] = {}

    def check(self, candidate: str) -> Verdict | None:
        """The verdict on a candidate's text, or None when it is worth a worker's time."""
        graph = parse_candidate(candidate).graph
        reason = self._static(graph) or numeric(graph)
        if reason:
            return Verdict("rejected", reason)
        cost = complexity(graph)
        if self.max_cost is not None and cost > self.max_cost:
            return Verdict("rejected", "static:cost", figure=float(cost))
        broken = unmet(graph, self.required)
        if broken:
            return Verdict("rejected", f"require:{broken[0]}", figure=broken[1] if broken[1] is not None and math.isfinite(broken[1]) else None)
        key = fingerprints([graph])[0]
        for index, other in self._asked.get(key or b"", []):
            if equal(graph, other):
                return Verdict("duplicate", "duplicate", index)
        return None

    def add(self, index: int, candidate: str) -> None:
        """Counts a dispatched candidate among the functions asked so far."""
        graph = parse_candidate(candidate).graph
        key = fingerprints([graph])[0]
        self._asked.setdefault(key or b"", []).append((index, graph))

    def _static(self, graph: Graph) -> str | None:
        if graph.size > self.max_nodes:
            return "static:size"
        if len(parameters(graph)) > self.max_parameters:
            return "static:parameters"
        if not depends_on(graph):
            return "static:no_input"
        if not reaches(graph):
            return "static:only_statistics"
        for node in walk(graph):
            leaves = {leaf.op for leaf in walk(node) if not leaf.args}
            if node.args and leaves == {"constant"}:
                return "static:constant_part"
            if isinstance(node.value, Axes) and not depends_on(node.args[0]):
                return "static:statistic_of_constant"
        return None


def numeric(graph: Graph) -> str | None:
    """A reason code when values or slopes make training hopeless; None otherwise. Layers with statistics are checked for finiteness."""
    if has_statistics(graph):
        points = np.random.default_rng(5).permutation(_PROBE[:400]).reshape(2, 4, -1)
        return None if np.isfinite(evaluate(graph, {"x": points, "y": points})).all() else "numeric:nonfinite"
    values = evaluate(graph, {"x": _PROBE, "y": _PROBE})
    if not np.isfinite(values).all():
        return "numeric:nonfinite"
    slope = evaluate(derivative(graph), {"x": _PROBE, "y": _PROBE})
    if not np.isfinite(slope).all():
        return "numeric:nonfinite_gradient"
    center, gradient = values[_CENTER], slope[_CENTER]
    if max(np.abs(center).max(), np.abs(gradient).max()) > _LARGEST:
        return "numeric:too_large"
    if center.max() - center.min() < _SMALLEST:
        return "numeric:constant"
    bend = np.abs(np.diff(center, 2)).max()
    if bend < 1e-6 * (center.max() - center.min()):
        return "numeric:affine"
    if np.mean(np.abs(gradient) > _SMALLEST) < 0.1:
        return "numeric:flat"
    return None
