"""`explain`: all that is known of a formula without training it, as labeled lines."""

from __future__ import annotations

import math

from evosearch.language.graph import Graph, depends_on, parameters
from evosearch.meaning.derive import derivative, has_statistics
from evosearch.meaning.facts import Facts, Novelty, StatisticFacts, describe
from evosearch.meaning.gaussian import EdgeOfChaos, FixedPoint, Moments
from evosearch.meaning.shape import Shape, Tail
from evosearch.meaning.symbolic import latex, simplify

Lines = list[tuple[str, str]]
_KINKS = {"curvature": "f'' jumps", "higher": "beyond f''"}


def explain(graph: Graph, seconds: float = 5.0) -> Lines:
    """`(label, text)` lines: canonical and simplified form, derivative, LaTeX, the facts. sympy gets `seconds` a formula."""
    lines = _forms(graph, seconds)
    lines += [("parameter", f"{p.name}: one a {p.kind}, starts at {p.init:g}") for p in parameters(graph)]
    return lines + described(describe(graph))


def described(facts: Facts) -> Lines:
    """Facts as `(label, text)` lines; what does not apply has no line."""
    lines = [("cost", f"{facts.cost} cost units"), *_novelty(facts.novelty)]
    if facts.nearest:
        lines.append(("nearest", ", ".join(f"{n.name} {n.distance:.3f}" for n in facts.nearest) + "  (relative distance)"))
    if facts.shape:
        lines += _shape(facts.shape)
    if facts.moments:
        lines += _signal(facts.moments, facts.edge, facts.fixed_point)
    if facts.surrogate_moments:
        lines.append(("surrogate", _surrogate(facts.surrogate_moments)))
    if facts.statistics:
        lines += _statistics(facts.statistics)
    return [*lines, ("saved", _saved(facts))]


def _forms(graph: Graph, seconds: float) -> Lines:
    """Canonical and simplified form, derivative, LaTeX. What sympy cannot do in time is shown as it is, and said."""
    lines = [("canonical", str(graph)), ("id", graph.canonical_id)]
    slope = None if has_statistics(graph) else derivative(graph)
    whole = [] if graph.op == "surrogate" else [graph]
    forms = simplify(whole + ([] if slope is None else [slope]), seconds)
    lines.append(("simplified", f"{forms[0].graph}  ({forms[0].note})" if whole else "a surrogate is shown as it is"))
    if slope is None:
        lines.append(("derivative", "by reverse mode through the statistics; not one expression of x"))
    else:
        late = f"  (not simplified: {forms[-1].note})" if "no answer" in forms[-1].note else ""
        what = "  (of the surrogate)" if not whole else "  (by x)" if depends_on(graph, "y") else ""
        lines.append(("derivative", f"{forms[-1].graph}{what}{late}"))
    return [*lines, ("LaTeX", latex(graph))]


def _novelty(found: Novelty) -> Lines:
    if found.label == "known":
        return [("known", f"this is {found.nearest}")]
    if found.label == "rescaled":
        return [("rescaled", f"{found.scale:.4g} * f({found.rate:.4g} * x) with f = {found.nearest}")]
    if found.nearest:
        return [("new", f"nearest known function: {found.nearest}, relative distance {found.distance:.3f} after the best scaling")]
    return [("new", "no known layer is equal to it")]


def _shape(s: Shape) -> Lines:
    bounds = [text for end, text in ((s.infimum, "below"), (s.supremum, "above")) if math.isinf(end)]
    unbounded = f"  (unbounded {' and '.join(bounds)})" if bounds else ""
    span = "nowhere a number" if math.isnan(s.infimum) else f"{_number(s.infimum)} to {_number(s.supremum)}{unbounded}"
    kinks = _some([f"{_number(k.x)} ({_KINKS.get(k.kind, k.kind)})" for k in sorted(s.kinks, key=lambda k: abs(k.x))])
    lines = [
        ("kinks", f"x = {kinks}" if s.kinks else "none, it is smooth"),
        ("range", span),
        ("at -inf", _tail(s.left)),
        ("at +inf", _tail(s.right)),
        ("monotonic", s.monotonic),
        ("parity", s.parity),
        ("zeros", _some([_interval(*zero) for zero in sorted(s.zeros, key=_distance)]) if s.zeros else "none in [-30, 30]"),
        ("Lipschitz", _lipschitz(s)),
        ("saturates", " and ".join(s.saturates) or "no"),
    ]
    if s.nonfinite:
        lines.append(("not finite", "in float64 for " + _some([_interval(*bad) for bad in s.nonfinite])))
    return lines


def _tail(tail: Tail) -> str:
    if tail.kind == "line":
        return f"y -> {_number(tail.intercept)}" if tail.slope == 0 else f"y = {_line(tail.slope, tail.intercept)}"
    if tail.kind == "oscillation":
        if math.isinf(tail.high):
            return f"oscillates, amplitude grows as |x|^{_number(tail.power)}"
        return f"oscillates between {_line(tail.slope, tail.low)} and {_line(tail.slope, tail.high)}"
    if tail.kind == "undefined":
        return "not a number"
    about = "" if (2 * tail.power).is_integer() else "about "  # x log x has no power of its own
    growth = {"power": f"{about}|x|^{_number(tail.power)}", "logarithm": "log |x|", "exponential": "an exponential"}[tail.kind]
    return f"{'grows' if tail.sign > 0 else 'falls'} as {growth}"


def _line(slope: float, intercept: float) -> str:
    if slope == 0:
        return _number(intercept)
    shift = round(intercept, 4)
    return f"{'' if slope == 1 else '-' if slope == -1 else _number(slope) + ' '}x" + (f" {'+' if shift > 0 else '-'} {_number(abs(shift))}" if shift else "")


def _lipschitz(s: Shape) -> str:
    if math.isinf(s.lipschitz):
        broken = [k for k in s.kinks if k.kind in ("jump", "cusp", "pole")]
        return f"unbounded, {broken[0].kind} at x = {_number(broken[0].x)}" if broken else "unbounded"
    where = "approached far out" if s.lipschitz_at is None else f"at {_interval(*s.lipschitz_at)}"
    return f"|f'| <= {_number(s.lipschitz)}, {where}"


def _signal(m: Moments, edge: EdgeOfChaos | None, fixed: FixedPoint | None) -> Lines:
    lines = [("moments", f"E f = {_number(m.mean)}, E f^2 = {_number(m.square)}, E f'^2 = {_number(m.slope_square)}  for x ~ N(0, 1)")]
    forward = f"{_number(m.gain)} forward (its square {_number(m.gain_squared)})" if 0 < m.gain < math.inf else "none forward"
    backward = f"{_number(m.backward_gain)} backward" if 0 < m.backward_gain < math.inf else "none backward"
    lines.append(("gain", f"{forward}, {backward}"))
    if edge is None:
        lines.append(("criticality", "no edge of chaos with sigma_b^2 >= 0 for q in [1e-3, 1e3]"))
    else:
        values = f"sigma_w^2 = {_number(edge.weight_variance)}, sigma_b^2 = {_number(edge.bias_variance)}"
        lines.append(("criticality", f"{values} at q = {_number(edge.q)}" + ("  (none at q = 1)" if edge.q != 1 else "")))
    lines.append(("depth scale", _depth(m)))
    if fixed is None:
        lines.append(("fixed point", "no attracting variance in [1e-3, 1e3] under zero-mean LeCun weights"))
    else:
        kind = "self-normalizing" if fixed.self_normalizing else "not self-normalizing"
        values = f"variance {_number(fixed.variance)}, mean {_number(fixed.mean)}"
        lines.append(("fixed point", f"{values}, rate {fixed.rate:.3f} a layer, LeCun weights: {kind}"))
    return lines


def _depth(m: Moments) -> str:
    if m.phase == "undefined":
        return "undefined, the moments are zero or not finite"
    scale = "infinite" if math.isinf(m.depth_scale) else f"{_number(m.depth_scale)} layers"
    return f"{scale}, {m.phase}: chi = {_number(m.chi)} at sigma_w^2 = {_number(m.gain_squared)}, sigma_b = 0"


def _surrogate(m: Moments) -> str:
    return f"gradient of its own: E g'^2 = {_number(m.slope_square)}, backward gain {_number(m.backward_gain)}"


def _statistics(s: StatisticFacts) -> Lines:
    scale = "invariant" if s.scale_invariant else "equivariant, f(3 x) = 3 f(x)" if s.scale_equivariant else "changes the output"
    samples = "in training a sample depends on the others" if not s.samples_independent else "each sample on its own"
    return [
        ("statistics", f"over {', '.join(s.axes)}; {'batch-dependent' if s.batch_dependent else 'not batch-dependent'}; {samples}"),
        ("buffers", ("running " + ", ".join(s.buffers) + "; one value a channel") if s.buffers else "none"),
        ("scaling", f"x -> 3 x: {scale}  (tested to 1e-3)"),
        ("shifting", f"x -> x + 2: {'invariant' if s.shift_invariant else 'changes the output'}  (tested to 1e-3)"),
    ]


def _saved(facts: Facts) -> str:
    about = "about " if facts.statistics else ""
    return f"{about}{facts.saved.eager} per element in eager autograd, {facts.saved.lean} in the lean backward  (full tensors)"


def _number(value: float) -> str:
    """Six significant digits; what quadrature leaves of zero is 0."""
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return f"{0.0 if abs(value) < 1e-10 else value + 0.0:.6g}"


def _interval(low: float, high: float) -> str:
    if low == high:
        return f"x = {_number(low)}"
    if math.isinf(low):
        return "all x" if math.isinf(high) else f"x <= {_number(high)}"
    return f"x >= {_number(low)}" if math.isinf(high) else f"{_number(low)} <= x <= {_number(high)}"


def _distance(interval: tuple[float, float]) -> float:
    """Distance of an interval from 0."""
    low, high = interval
    return 0.0 if low <= 0 <= high else min(abs(low), abs(high))


def _some(texts: list[str], most: int = 4) -> str:
    """The first few, and how many there are."""
    more = f" ... {len(texts)} in [-30, 30]" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
