"""Properties that a space may require, decided by the facts of a function before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evosearch.language.graph import Graph, depends_on
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.shape import Kink, Shape, shape

# How smooth a function is at best with a kink of each kind: C0 continuous, C1 with a continuous slope, C2 with its derivative too.
_SMOOTHNESS = {"jump": -1, "pole": -1, "cusp": 0, "corner": 0, "hole": -1, "curvature": 1, "higher": 2}


@dataclass(frozen=True)
class Requirements:
    """What every candidate must be; parameters at their initial values. The defaults require nothing."""

    smooth: str = ""  # "C0", "C1" or "C2"
    monotone: bool = False
    lipschitz: float | None = None  # the largest slope allowed
    bounded: bool = False
    invertible: bool = False  # strictly monotone and continuous
    batch_independent: bool = False  # in training too, no sample changes another's output

    @property
    def of_a_curve(self) -> bool:
        """Whether anything is required that only an elementwise function of x can have."""
        return self != Requirements(batch_independent=self.batch_independent)


def unmet(graph: Graph, required: Requirements) -> tuple[str, float | None] | None:
    """The first requirement that the graph breaks, with the figure that decided; None when it meets all of them."""
    if required.batch_independent and "batch" in {getattr(value, "axes", "") for value in graph.holds}:
        return "batch_independent", None
    if not required.of_a_curve:
        return None
    if has_statistics(graph) or depends_on(graph, "y"):
        return "elementwise", None  # a statistic or a gate has no curve to judge
    return _curve(graph, shape(graph.args[0] if graph.op == "surrogate" else graph), required)


def _curve(graph: Graph, found: Shape, required: Requirements) -> tuple[str, float | None] | None:
    if required.smooth:
        rough = next((k for k in found.kinks if _roughness(k) < int(required.smooth[1])), None)
        if rough is not None or found.nonfinite:
            return "smooth", rough.x if rough else found.nonfinite[0][0]
    if required.lipschitz is not None and not found.lipschitz <= required.lipschitz * (1 + 1e-9):
        return "lipschitz", found.lipschitz
    if required.bounded and not math.isfinite(found.supremum - found.infimum):
        return "bounded", found.supremum if not math.isfinite(found.supremum) else found.infimum
    if (required.monotone or required.invertible) and found.monotonic not in ("increasing", "decreasing"):
        return "monotone", None
    if required.invertible and (not _is_strict(graph) or any(k.kind in ("jump", "pole") for k in found.kinks)):
        return "invertible", None
    return None


def _roughness(kink: Kink) -> int:
    return _SMOOTHNESS[kink.kind]


def _is_strict(graph: Graph) -> bool:
    """Whether the values on [-6, 6] rise, or fall, from every point of a fine grid to the next; farther out tanh is flat in floats."""
    steps = np.diff(evaluate(graph, {"x": np.linspace(-6.0, 6.0, 2001)}))
    return bool((steps > 0).all() or (steps < 0).all())
