"""What can be known of a layer without training it: cost, novelty, saved tensors, shape, Gaussian moments, invariances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, depends_on, exchanged, make, parameters, statistic, walk
from evosearch.language.library import library
from evosearch.language.operators import AXIS_SETS, OPERATORS, STATISTIC_COST
from evosearch.meaning.derive import bind, has_statistics
from evosearch.meaning.gaussian import EdgeOfChaos, FixedPoint, Moments, edge_of_chaos, fixed_point, moments
from evosearch.meaning.kin import has_kin, kin
from evosearch.meaning.numeric import Array, equal, evaluate
from evosearch.meaning.shape import Shape, shape

# Judged where a network's pre-activations live, and weighted as they are there; tails enter by `equal`.
_GRID: NDArray[np.float64] = np.linspace(-6.0, 6.0, 481)
_WEIGHT: NDArray[np.float64] = np.exp(-np.square(_GRID) / 8.0)
_RATES: NDArray[np.float64] = np.concatenate([-np.geomspace(8.0, 0.125, 97), np.geomspace(0.125, 8.0, 97)])
_WIDE_GRID: NDArray[np.float64] = np.linspace(-30.0, 30.0, 961)
RESCALED_DISTANCE = 2e-3


@dataclass(frozen=True)
class Novelty:
    """How new a function is: `known`, `rescaled` (a f(b x) of a known one, to 0.2 % on [-6, 6] and 1 % on [-30, 30]) or `new`, with the nearest known function.

    `distance` is the weighted root-mean-square gap after the best a, b, relative to the function's own size (0 to 1). A gate is
    `rescaled` if it is a f(b x, c y) of a known one, and attention if it is a f(b x), to 0.2 % on normal inputs of deviation 2.
    """

    label: str
    nearest: str
    distance: float
    scale: float
    rate: float
    second_rate: float = 1.0  # of a gate's second input
    inputs: str = "x"  # those of the known function in its order: `xy` or `yx` of a gate


@dataclass(frozen=True)
class Neighbor:
    """A known function near this one: `scale * f(rate * x)` is at `distance`, measured as in `Novelty`."""

    name: str
    distance: float
    scale: float
    rate: float


@dataclass(frozen=True)
class SavedTensors:
    """Full-shape tensors kept from forward to backward, per element of the input: by torch's own autograd on the plain form,
    and by the lean backward (the inputs)."""

    eager: int
    lean: int


@dataclass(frozen=True)
class StatisticFacts:
    """A layer with statistics. Invariances are tested on a fixed tensor, to 1e-3 of the output's size, since epsilon is not scaled."""

    axes: tuple[str, ...]
    batch_dependent: bool  # from the axes, never declared
    buffers: tuple[str, ...]  # running statistics, one value a channel each
    scale_invariant: bool  # f(3 x) = f(x)
    scale_equivariant: bool  # f(3 x) = 3 f(x)
    shift_invariant: bool  # f(x + 2) = f(x)
    samples_independent: bool  # in training mode, a sample's output does not change with the others


@dataclass(frozen=True)
class Facts:
    """All facts of a graph, parameters at their initial values; what does not apply is None.

    `kind` is `elementwise`, `gated` (two inputs) or `statistics`. For a surrogate, `shape` and `moments` are the forward's and
    `surrogate_moments` the gradient's own.
    """

    kind: str
    cost: int  # cost units
    novelty: Novelty
    nearest: tuple[Neighbor, ...]
    saved: SavedTensors
    parameters: tuple[tuple[str, int], ...]  # learnable ones, counted by kind
    shape: Shape | None = None
    moments: Moments | None = None
    edge: EdgeOfChaos | None = None
    fixed_point: FixedPoint | None = None
    surrogate_moments: Moments | None = None
    statistics: StatisticFacts | None = None


def describe(graph: Graph, brief: bool = False) -> Facts:
    """The facts of any parsed graph; `brief` leaves out what takes longest: neighbors, edge of chaos, fixed point.

    Never raises and never warns, whatever the function does.
    """
    with np.errstate(all="ignore"):
        statistical, gated = has_statistics(graph), depends_on(graph, "y")
        elementwise = not statistical and not gated
        forward, gradient = graph.args if graph.op == "surrogate" else (graph, graph)
        found = novelty(graph)
        return Facts(
            kind="statistics" if statistical else "gated" if gated else "elementwise",
            cost=complexity(graph),
            novelty=found,
            nearest=tuple(n for n in nearest(graph, 4) if found.label != "known" or n.name != found.nearest)[:3] if elementwise and not brief else (),
            saved=saved_tensors(graph),
            parameters=tuple(sorted(Counter(p.kind for p in parameters(graph)).items())),
            shape=shape(forward) if elementwise else None,
            moments=moments(forward) if elementwise else None,
            edge=edge_of_chaos(forward) if elementwise and not brief else None,
            fixed_point=fixed_point(forward) if elementwise and not brief else None,
            surrogate_moments=moments(gradient) if elementwise and gradient is not forward else None,
            statistics=_statistic_facts(graph) if statistical else None,
        )


def complexity(graph: Graph) -> int:
    """Sum of the integer operator costs over the distinct nodes, one for each learnable parameter. No unit; deterministic."""
    return len(parameters(graph)) + _cost(graph)


def flops(graph: Graph) -> int:
    """What the forward costs an element, an addition being 1: the operator costs over its distinct nodes; a surrogate's gradient is not in it."""
    return _cost(graph.args[0] if graph.op == "surrogate" else graph)


def _cost(graph: Graph) -> int:
    total = 0
    for node in walk(graph):
        if isinstance(node.value, Axes):
            total += STATISTIC_COST[node.op]
        elif node.op in OPERATORS:
            total += OPERATORS[node.op].cost
    return total


def novelty(graph: Graph) -> Novelty:
    """Which known function this one is, is a rescaling of, or is nearest to; parameters at their initial values."""
    tensor, forms = has_statistics(graph), [graph]
    if "y" in graph.holds:  # which of the two inputs is the gate is a convention
        forms.append(exchanged(graph))
    for name, known in _known().items():
        if has_statistics(known) == tensor and any(equal(form, known) for form in forms):
            return Novelty("known", name, 0.0, 1.0, 1.0)
    if tensor:  # a normalization with or without its weight and bias is the same normalization
        for name, known in _known().items():
            if has_statistics(known) and equal(bind(graph), bind(known)):
                return Novelty("known", name, 0.0, 1.0, 1.0)
    if has_kin(graph) and (found := kin(graph, _known())) is not None:
        label = "rescaled" if found.distance < RESCALED_DISTANCE and found.holds_far_out else "new"
        return Novelty(label, found.name, min(found.distance, 1.0), found.scale, found.rates[0], found.rates[-1], found.inputs)
    if tensor or graph.op == "surrogate" or "y" in graph.holds:
        return Novelty("new", "", 1.0, 1.0, 1.0)
    (best,) = nearest(graph, 1)
    rescaled = best.distance < RESCALED_DISTANCE and _same_far_out(graph, best)
    return Novelty("rescaled" if rescaled else "new", best.name, best.distance, best.scale, best.rate)


def _same_far_out(graph: Graph, neighbor: Neighbor) -> bool:
    """Whether the two stay within 1 % of the function's size up to +-30: `min(relu(x), 20)` is no rescaled ReLU."""
    values = evaluate(graph, {"x": _WIDE_GRID})
    other = neighbor.scale * evaluate(_known()[neighbor.name], {"x": neighbor.rate * _WIDE_GRID})
    both = np.isfinite(values) & np.isfinite(other)
    size = float(np.abs(values[both]).max(initial=0.0))
    return size > 0 and bool((np.abs(values - other)[both] <= 0.01 * size).all())


def nearest(graph: Graph, count: int = 3) -> tuple[Neighbor, ...]:
    """The known activations nearest to an elementwise graph after the best a f(b x), nearest first."""
    values = _on_grid(graph)
    coarse = sorted((_best_scale(values, curves, _RATES)[0], name) for name, curves in _curves().items())
    fits = sorted(_fit(values, name) for _, name in coarse[: 2 * count + 4])  # the refinement may change the order of the first few
    return tuple(Neighbor(name, distance, scale, rate) for distance, scale, rate, name in fits[:count])


def _on_grid(graph: Graph) -> NDArray[np.float64]:
    values = evaluate(graph, {"x": _GRID, "y": _GRID})
    return np.where(np.isfinite(values), values, 0.0)


@cache
def _known() -> dict[str, Graph]:
    # weight standardization is of weights, and the same function as a normalization over the layer
    return {name: layer.graph for name, layer in library().items() if name != "weight_standardization"}


@cache
def _curves() -> dict[str, NDArray[np.float64]]:
    """f(b x) of each known activation of `x` alone for every rate b, `(len(rates), len(grid))`."""
    curves = {}
    points = np.outer(_RATES, _GRID)
    for name, graph in _known().items():
        if library()[name].kind == "activation" and not has_statistics(graph) and not depends_on(graph, "y") and graph.op != "surrogate":
            values = evaluate(graph, {"x": points})
            curves[name] = np.where(np.isfinite(values), values, 0.0)
    return curves


def _fit(values: NDArray[np.float64], name: str) -> tuple[float, float, float, str]:
    """Least squares of a f(b x): the best b on a grid, refined, a in closed form."""
    best = _best_scale(values, _curves()[name], _RATES)
    for width in (0.045, 0.002, 0.0001):
        rates = best[2] * np.exp(np.linspace(-width, width, 25))
        points = np.outer(rates, _GRID)
        refined = evaluate(_known()[name], {"x": points})
        best = min(best, _best_scale(values, np.where(np.isfinite(refined), refined, 0.0), rates))
        if best[0] > 0.1:
            break
    return (*best, name)


def _best_scale(values: NDArray[np.float64], curves: NDArray[np.float64], rates: NDArray[np.float64]) -> tuple[float, float, float]:
    with np.errstate(all="ignore"):
        power = np.maximum(np.square(curves) @ _WEIGHT, 1e-300)
        scales = curves @ (_WEIGHT * values) / power
        gaps = np.square(values - scales[:, None] * curves) @ _WEIGHT
        relative = np.sqrt(gaps / max(float((_WEIGHT * np.square(values)).sum()), 1e-300))
    relative = np.where(np.isfinite(relative), relative, np.inf)
    at = int(np.argmin(relative + 1e-9 * np.abs(np.log(np.abs(rates))) + 1e-10 * (rates < 0)))  # of equal ones the rate nearest 1
    return float(relative[at]), float(scales[at]), float(rates[at])


# What torch's kernels keep where it is not what the table's derivative needs: `a`, `b` the inputs, `f` the result, a digit for
# that many tensors inside an operator written as several torch calls (two for logsigmoid on a CPU, one on a GPU).
_KEPT = {
    "relu": "f", "expm1": "f", "negative_part": "1", "step": "1", "sinc": "a", "cube": "a1", "symlog": "a3", "signed_log": "a4",
    "signed_sqrt": "a1", "log_abs": "a1", "gaussian_distance": "f1", "laplace_distance": "f1", "gate": "b1", "logsigmoid": "a1",
    "softsign": "a1", "elish": "a2",
}  # fmt: skip


def saved_tensors(graph: Graph) -> SavedTensors:
    """Counted from the derivative columns of the operator table, equal results once. A statistic keeps its centered input
    (`var`, `std`) or its input (`rms`, `max`); what it gives is small and not counted. With statistics it is an estimate: the
    emitted code may multiply the small factors first."""
    target = graph.args[1] if graph.op == "surrogate" else graph
    eager = {key for node in walk(target) if node.args and _learns(node) for key in _kept(node)}
    return SavedTensors(len(eager), sum(depends_on(graph, name) for name in ("x", "y")))


def _kept(node: Graph) -> Iterator[tuple[Graph, str]]:
    """What a node keeps, as `(node, "")` for a node's result and `(node, name)` for a tensor inside an operator."""
    if isinstance(node.value, Axes):
        (e,), axes = node.args, node.value
        if node.op in ("var", "std") and _full(e):  # over the batch it is centered apart from the forward, in a function of its own
            centered = make("sub", e, statistic("mean", e, axes.axes, groups=axes.groups or None))
            yield centered, "batch" if axes.axes == "batch" else ""
        elif node.op in ("rms", "max") and _full(e):
            yield e, ""
        return
    parts = dict(zip("ab", node.args, strict=False)) | {"f": node}
    for name in _letters(node):
        if name.isdigit():
            yield from ((node, f"inside {i}") for i in range(int(name)) if _full(node))
        elif _full(parts[name]):
            yield parts[name], ""


def _letters(node: Graph) -> set[str]:
    learning = [_learns(arg) for arg in node.args]
    if node.op in ("div", "div_eps"):
        inside = node.op == "div_eps" or (not depends_on(node.args[0]) and node.args[0].op == "constant")  # 2 / x is 2 * reciprocal(x)
        return {"1" if inside else "b", "a"} if learning[1] else set()
    if node.op == "pow":
        return {"a"} if node.args[1].op == "constant" else {"a", "b", "f"}
    if node.op == "gate" and not learning[0]:
        return set()
    if node.op in _KEPT:
        return set(_KEPT[node.op])
    templates = [text for text, learns in zip(OPERATORS[node.op].derivative, learning, strict=True) if learns]
    return {str(leaf.value) for text in templates for leaf in walk(parse(text, inputs=("a", "b", "f"))) if leaf.op == "input"}


def _learns(node: Graph) -> bool:
    """Whether a gradient passes through the node: it depends on an input or a parameter."""
    return any(leaf.op in ("input", "parameter") for leaf in walk(node))


def _full(node: Graph) -> bool:
    """Whether the node's result has the shape of the input: an input reaches it otherwise than through a statistic."""
    full: dict[Graph, bool] = {}
    for n in walk(node):
        full[n] = n.op == "input" or (not isinstance(n.value, Axes) and any(full[a] for a in n.args))
    return full[node]


def _statistic_facts(graph: Graph) -> StatisticFacts:
    sets = [node.value.axes for node in walk(graph) if isinstance(node.value, Axes)]
    x = np.random.default_rng(13).normal(size=(4, 64, 5, 3))  # 64 channels, so that the default 32 groups hold two each
    y = np.random.default_rng(14).normal(size=x.shape)
    out = evaluate(graph, {"x": x, "y": y})
    first = np.arange(4)[:, None, None, None] == 0
    other, gate = np.where(first, x, 1.5 * x[::-1] - 0.5), np.where(first, y, 0.5 * y[::-1] + 0.25)
    return StatisticFacts(
        axes=tuple(a for a in AXIS_SETS if a in sets),
        batch_dependent="batch" in sets,
        buffers=_buffers(graph),
        scale_invariant=_same(evaluate(graph, {"x": 3 * x, "y": y}), out),
        scale_equivariant=_same(evaluate(graph, {"x": 3 * x, "y": y}), 3 * out),
        shift_invariant=_same(evaluate(graph, {"x": x + 2, "y": y}), out),
        samples_independent=_same(evaluate(graph, {"x": other, "y": gate})[:1], out[:1]),
    )


def _buffers(graph: Graph) -> tuple[str, ...]:
    """The running statistics that the layer's batch statistics need at evaluation."""
    found: dict[str, None] = {}
    for node in walk(graph):
        if isinstance(node.value, Axes) and node.value.axes == "batch":
            e = node.args[0]
            moments_of = {"mean": ("mean",), "rms": ("mean square",)}.get(node.op, ("mean", "variance"))
            found |= dict.fromkeys(f"{m} of {e}" for m in moments_of)
    return tuple(found)


def _same(found: Array, expected: Array) -> bool:
    """Whether two outputs agree to 1e-3 of their size, non-finite places included."""
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)) or not finite.any():
        return False
    size = float(np.sqrt(np.mean(np.square(expected[finite]))))
    return bool(np.abs(found[finite] - expected[finite]).max() <= 1e-3 * size)
