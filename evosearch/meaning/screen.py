"""The driver's own verdicts, pure and cheap: static, numeric, duplicate. What passes is dispatched to a worker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.graph import Axes, Graph, canonical, constant, depends_on, exchanged, parameters, reaches, walk
from evosearch.meaning.derive import derivative, has_statistics
from evosearch.meaning.facts import complexity
from evosearch.meaning.numeric import Array, equal, evaluate, fingerprints
from evosearch.meaning.require import Requirements, unmet

_PROBE: Array = np.linspace(-10.0, 10.0, 401)
_CENTER = np.abs(_PROBE) <= 4.0
# Of a gate: both diagonals, and lines on which one input stays as it is.
_STILL = (-2.3, -0.6, 0.4, 1.9)
_LINES = {
    "x": np.stack([_PROBE, _PROBE, *(_PROBE for _ in _STILL), *(np.full_like(_PROBE, c) for c in _STILL)]),
    "y": np.stack([_PROBE, -_PROBE, *(np.full_like(_PROBE, c) for c in _STILL), *(_PROBE for _ in _STILL)]),
}
_ONE = constant(1.0)
_LARGEST = 1e3  # on [-4, 4]: beyond it a network of two layers overflows half precision
_SMALLEST = 1e-4
AFFINE = "numeric:affine"


@dataclass(frozen=True)
class Verdict:
    """Why a candidate is not dispatched: `rejected` with a reason code and the figure that decided, if one did, or `duplicate`
    of the dispatched job `duplicate_of`."""

    status: str
    reason: str
    duplicate_of: int | None = None
    figure: float | None = None


class Screen:
    """Remembers every function asked so far, pending ones too, and says what need not be trained.

    A network is screened slot by slot. One slot may be linear if another is not; two networks are the same if their choices are
    and the functions in each of their slots.
    """

    def __init__(self, max_nodes: int, max_parameters: int, max_cost: int | None = None, required: Requirements | None = None) -> None:
        self.max_nodes, self.max_parameters, self.max_cost = max_nodes, max_parameters, max_cost
        self.required = required or Requirements()
        self._asked: dict[bytes, list[tuple[int, Candidate]]] = {}
        self._passed: tuple[str, Candidate, bytes] | None = None  # the latest that passed: what is dispatched is mostly that

    def check(self, candidate: str) -> Verdict | None:
        """The verdict on a candidate's text, or None when it is worth a worker's time."""
        read = parse_candidate(candidate)
        graphs = read.sites
        reason = self._hopeless(graphs)
        if reason:
            return Verdict("rejected", reason)
        cost = sum(map(complexity, graphs))
        if self.max_cost is not None and cost > self.max_cost:
            return Verdict("rejected", "static:cost", figure=float(cost))
        for graph in dict.fromkeys(graphs):
            broken = unmet(graph, self.required)
            if broken:
                return Verdict("rejected", f"require:{broken[0]}", figure=broken[1] if broken[1] is not None and math.isfinite(broken[1]) else None)
        forms = [(_key(form), form) for form in _forms(read)]
        for key, form in forms:
            for index, other in self._asked.get(key, []):
                if other.slots.keys() == form.slots.keys() and other.choices == form.choices and all(map(equal, form.sites, other.sites)):
                    return Verdict("duplicate", "duplicate", index)
        self._passed = candidate, read, forms[0][0]
        return None

    def add(self, index: int, candidate: str) -> None:
        """Counts a dispatched candidate among the functions asked so far."""
        if self._passed is None or self._passed[0] != candidate:
            read = parse_candidate(candidate)
            self._passed = candidate, read, _key(read)
        _, read, key = self._passed
        self._asked.setdefault(key, []).append((index, read))

    def _hopeless(self, graphs: Sequence[Graph]) -> str | None:
        """The first slot's reason that has one; `affine` is one only where every slot is."""
        reasons = {graph: self._static(graph) or numeric(graph) for graph in graphs}
        found = next((reason for reason in reasons.values() if reason and reason != AFFINE), None)
        return found or (AFFINE if all(reasons.values()) else None)

    def _static(self, graph: Graph) -> str | None:
        if graph.size > self.max_nodes:
            return "static:size"
        if len(parameters(graph)) > self.max_parameters:
            return "static:parameters"
        if not depends_on(graph):
            return "static:no_input"
        return "static:only_statistics" if not reaches(graph) else dead_part(graph)


def dead_part(graph: Graph) -> str | None:
    """The reason code of a part that is one number whatever the input: an operator on constants, or a statistic of none but such and parameters.

    `sum(1, row)` counts the row, which is no number of the formula's own.
    """
    for node in walk(graph):
        if node.args and {leaf.op for leaf in walk(node) if not leaf.args} == {"constant"} and not any(part.op == "sum" for part in walk(node)):
            return "static:constant_part"
        if isinstance(node.value, Axes) and not depends_on(node.args[0]) and node.args[0] is not _ONE:
            return "static:statistic_of_constant"
    return None


def _forms(candidate: Candidate) -> Iterator[Candidate]:
    """The candidate, and of a gate the same with its inputs exchanged: two linear maps of one input make them, and either may be either."""
    yield candidate
    if candidate.is_layer and depends_on(candidate.graph, "y"):
        yield Candidate({"act": canonical(exchanged(candidate.graph))})


def _key(candidate: Candidate) -> bytes:
    """Equal for equal functions in the same slots of networks of the same choices: the fingerprints of the slots after the choices."""
    choices = "; ".join(f"{name} := {value!r}" for name, value in sorted(candidate.choices.items()))
    return b"\n".join([choices.encode() if choices else b"", *(key or b"" for key in fingerprints(list(candidate.sites)))])


def numeric(graph: Graph) -> str | None:
    """A reason code when values or slopes make training hopeless; None otherwise. Layers with statistics are checked for finiteness.

    A gate is looked at along lines through the plane of its two inputs; it may be flat in one of them where it is not in the other.
    """
    if has_statistics(graph):
        rng = np.random.default_rng(5)
        x, y = (rng.permutation(_PROBE[:400]).reshape(2, 4, -1) for _ in range(2))
        return None if np.isfinite(evaluate(graph, {"x": x, "y": y})).all() else "numeric:nonfinite"
    inputs = _LINES if depends_on(graph, "y") else {"x": _PROBE[None]}
    values = evaluate(graph, inputs)
    if not np.isfinite(values).all():
        return "numeric:nonfinite"
    slopes = np.stack([evaluate(derivative(graph, name), inputs) for name in inputs])
    if not np.isfinite(slopes).all():
        return "numeric:nonfinite_gradient"
    center, gradients = values[:, _CENTER], np.abs(slopes[:, :, _CENTER])
    if max(np.abs(center).max(), gradients.max()) > _LARGEST:
        return "numeric:too_large"
    if center.max() - center.min() < _SMALLEST:
        return "numeric:constant"
    bend = np.abs(np.diff(center, 2)).max()
    if bend < 1e-6 * (center.max() - center.min()):
        return AFFINE
    if np.mean(gradients.max(0) > _SMALLEST) < 0.1:
        return "numeric:flat"
    return None
