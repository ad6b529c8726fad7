"""What is drawn of a layer, as numbers: of an activation f, f', f''; of a gate its two inputs; of a layer with statistics a fixed input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, depends_on
from evosearch.language.library import known
from evosearch.meaning.derive import bind, derivative, has_statistics
from evosearch.meaning.numeric import Array, evaluate

REACH = 5.0
_PLACES: Array = np.linspace(-REACH, REACH, 1001)
_SHAPE = (4, 64, 9, 9)  # of the fixed input: 64 channels, so that the usual 32 groups hold two each
_SCALES: Array = np.geomspace(0.1, 10.0, 9)
_MOST = 12.0  # of y; what goes further is cut, unless nothing is nearer
_AT = (-1.0, 0.5, 2.0)  # the values at which a gate's other input is held
USUAL = {"ReLU": parse("relu(x)"), "GELU": parse("gelu(x)")}


@dataclass(frozen=True)
class Line:
    """A named curve; `dots` where the points are no function of `x`."""

    name: str
    x: Array
    y: Array
    dots: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves in one pair of axes, the layer's own first; `powers` means logarithmic axes."""

    title: str
    across: str
    lines: Sequence[Line]
    powers: bool = False


@dataclass(frozen=True)
class Drawing:
    """The panels, and what a reader should know to read them."""

    panels: Sequence[Panel]
    caption: str


def drawing(graph: Graph, name: str) -> Drawing:
    """What the card shows of a layer; learnable parameters are at their start."""
    with np.errstate(all="ignore"):
        bound = bind(graph)
        if has_statistics(graph):
            return _statistics(bound, name)
        return _gate(bound, name) if depends_on(graph, "y") else _activation(bound, name)


def response(graph: Graph) -> Line:
    """The one curve that stands for a layer where there is room for one: f(x), f(x, 1), or what a fixed input becomes."""
    with np.errstate(all="ignore"):
        bound = bind(graph)
        if has_statistics(graph):
            return _answer("", bound)
        values = evaluate(bound.args[0] if bound.op == "surrogate" else bound, {"x": _PLACES, "y": np.ones_like(_PLACES)})
        return Line("", _PLACES, np.broadcast_to(values, _PLACES.shape))


def extent(lines: Sequence[Line]) -> tuple[float, float]:
    """What is shown of y: every curve as far as it stays within `_MOST` of 0, with a margin."""
    values = np.concatenate([np.asarray(line.y, dtype=float).ravel() for line in lines])
    values = values[np.isfinite(values)]
    near = values[np.abs(values) <= _MOST]
    shown = near if near.size else np.clip(values, -_MOST, _MOST) if values.size else np.zeros(1)
    low, high = float(shown.min()), float(shown.max())
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _activation(graph: Graph, name: str) -> Drawing:
    orders = {who: _derivatives(one) for who, one in {name: graph, **USUAL}.items()}
    titles = ("f(x)", "f'(x), the slope", "f''(x), the curvature")
    panels = [Panel(title, "x", [_over(who, found[i], {"x": _PLACES}) for who, found in orders.items()]) for i, title in enumerate(titles)]
    own = " f' is that of its surrogate, with which it trains." if graph.op == "surrogate" else ""
    return Drawing(panels, f"f, its slope and its curvature from -{REACH:g} to {REACH:g}, beside ReLU and GELU.{own} Jumps of the slope are no part of f''.")


def _derivatives(graph: Graph) -> tuple[Graph, Graph, Graph]:
    forward, slope = graph.args if graph.op == "surrogate" else (graph, graph)
    first = derivative(slope)
    return forward, first, derivative(first)


def _over(name: str, graph: Graph, inputs: Mapping[str, Array], across: str = "x") -> Line:
    x = inputs[across]
    return Line(name, x, np.broadcast_to(evaluate(graph, inputs), x.shape))


def _gate(graph: Graph, name: str) -> Drawing:
    held = {value: np.full_like(_PLACES, value) for value in _AT}
    over_x = [_over(f"y = {v:g}", graph, {"x": _PLACES, "y": y}) for v, y in held.items()]
    over_y = [_over(f"x = {v:g}", graph, {"x": x, "y": _PLACES}, "y") for v, x in held.items()]
    both = [_over(who, one, {"x": _PLACES, "y": _PLACES}) for who, one in {name: graph, **USUAL}.items()]
    panels = [Panel("f(x, y) over x", "x", over_x), Panel("f(x, y) over y", "y", over_y), Panel("f(x, x)", "x", both)]
    return Drawing(panels, "A gate has two inputs: each is varied with the other held, and both together beside ReLU and GELU.")


def _statistics(graph: Graph, name: str) -> Drawing:
    rows_alone = {value.axes for value in graph.holds if isinstance(value, Axes)} == {"row"}
    usual = {"softmax": known("softmax").graph} if rows_alone else {"BN": known("batch_norm").graph, "BN+ReLU": known("bn_relu").graph}
    graphs = {name: graph, **{who: bind(one) for who, one in usual.items()}}
    spread = [Line(who, _SCALES, _deviations(one)) for who, one in graphs.items()]
    panels = [
        Panel("one channel: what goes in, what comes out", "x", [_answer(who, one) for who, one in graphs.items()]),
        Panel("deviation of the output", "the input times", spread, powers=True),
    ]
    what = f"The layer depends on its whole input, so its answer to a fixed one is drawn: normal numbers of mean 0.5 and deviation 2, shape {_SHAPE}."
    return Drawing(panels, f"{what} Left: the numbers of one channel. Right: the same input times a number; a flat line means that its scale is taken out.")


def _answer(name: str, graph: Graph) -> Line:
    inputs = _fixed()
    x = inputs["x"][0, 0].ravel()
    y = np.broadcast_to(evaluate(graph, inputs), _SHAPE)[0, 0].ravel()
    order = np.argsort(x)
    return Line(name, x[order], y[order], dots=True)


def _deviations(graph: Graph) -> Array:
    inputs = _fixed()
    return np.array([np.std(evaluate(graph, {n: scale * v for n, v in inputs.items()})) for scale in _SCALES])


def _fixed() -> dict[str, Array]:
    return {name: 0.5 + 2 * np.random.default_rng(seed).standard_normal(_SHAPE) for seed, name in enumerate("xy")}
