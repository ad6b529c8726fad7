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
_PLAIN_TAILS = {"undefined": "not a number", "undetermined": "not determined"}
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
    slopes = [] if has_statistics(graph) else [derivative(graph, name) for name in ("x", "y") if name == "x" or depends_on(graph, name)]
    whole = [] if graph.op == "surrogate" else [graph]
    forms = simplify(whole + slopes, seconds)
    lines.append(("simplified", f"{forms[0].graph}  ({forms[0].note})" if whole else "a surrogate is shown as it is"))
    if not slopes:
        lines.append(("derivative", "by reverse mode through the statistics; not one expression of x"))
    for name, form in zip("xy", forms[len(whole) :], strict=False):
        late = f"  (not simplified: {form.note})" if "no answer" in form.note else ""
        what = "  (of the surrogate)" * (not whole) + f"  (by {name})" * (len(slopes) > 1)
        lines.append(("derivative", f"{form.graph}{what}{late}"))
    return [*lines, ("LaTeX", latex(graph))]


def _novelty(found: Novelty) -> Lines:
    if found.label == "known":
        return [("known", f"this is {found.nearest}")]
    if found.label == "rescaled":
        inside = ", ".join(f"{rate:.4g} * {name}" for rate, name in zip((found.rate, found.second_rate), found.inputs, strict=False))
        return [("rescaled", f"{found.scale:.4g} * f({inside}) with f = {found.nearest}")]
    if found.nearest:
        return [("new", f"nearest known function: {found.nearest}, relative distance {found.distance:.3f} after the best scaling")]
    return [("new", "no known layer is equal to it")]


def _shape(s: Shape) -> Lines:
    more = "  (on [-30, 30])"
    kinks = _some([f"{_value(k.x)} ({_KINKS.get(k.kind, k.kind)})" for k in sorted(s.kinks, key=lambda k: abs(k.x))])
    zeros = _some([_interval(*zero) for zero in sorted(s.zeros, key=_distance)]) if s.zeros else "none in [-30, 30]"
    jumps = "  (a jump across 0 is not counted)" if s.infimum < 0 < s.supremum and any(k.kind == "jump" for k in s.kinks) else ""
    none = "none in [-30, 30]" if s.more_kinks else "none, it is smooth"
    unknown = [name for name, t in (("left", s.left), ("right", s.right)) if t.kind == "undetermined"]
    saturates = [" and ".join(s.saturates)] * bool(s.saturates) + [f"not determined on the {' and '.join(unknown)}"] * bool(unknown)
    lines = [
        ("kinks", f"x = {kinks}{more * s.more_kinks}" if s.kinks else none),
        ("range", _range(s)),
        ("at -inf", _tail(s.left)),
        ("at +inf", _tail(s.right)),
        ("monotonic", s.monotonic),
        ("parity", s.parity),
        ("zeros", zeros + more * (s.more_zeros and bool(s.zeros)) + jumps),
        ("Lipschitz", _lipschitz(s)),
        ("saturates", "; ".join(saturates) or "no"),
    ]
    if s.nonfinite:
        lines.append(("not finite", "in float64 for " + _some([_interval(*bad) for bad in s.nonfinite])))
    return lines


def _range(s: Shape) -> str:
    if s.nonfinite == ((-math.inf, math.inf),):
        return "nowhere a number"
    if math.isnan(s.infimum) or math.isnan(s.supremum) or any(s.approximate):
        ends = [_end(end, about) for end, about in zip((s.infimum, s.supremum), s.approximate, strict=True)]
        proven = f"  (within {_value(s.outer[0])} to {_value(s.outer[1])})" if math.isfinite(s.outer[1] - s.outer[0]) else ""
        return f"from {ends[0]} to {ends[1]}{proven}"
    bounds = [text for end, text in ((s.infimum, "below"), (s.supremum, "above")) if math.isinf(end)]
    return f"{_value(s.infimum)} to {_value(s.supremum)}" + (f"  (unbounded {' and '.join(bounds)})" if bounds else "")


def _end(end: float, about: bool) -> str:
    return "not determined" if math.isnan(end) else f"{_value(end)} or beyond" if about else _value(end)


def _tail(tail: Tail) -> str:
    if tail.kind == "line":
        return f"y -> {_value(tail.intercept)}" if tail.slope == 0 else f"y = {_line(tail.slope, tail.intercept)}"
    if tail.kind == "oscillation":
        if math.isinf(tail.high):
            return "oscillates, amplitude grows" + (f" as |x|^{_number(tail.power)}" if tail.power else ", more slowly than a power of |x|")
        return f"oscillates between {'about ' * (not tail.settled)}{_line(tail.slope, tail.low)} and {_line(tail.slope, tail.high)}"
    if tail.kind in _PLAIN_TAILS:
        return _PLAIN_TAILS[tail.kind]
    if tail.kind == "unbounded":
        return "grows without bound" if tail.sign > 0 else "falls without bound"
    about = "" if (2 * tail.power).is_integer() else "about "  # x log x has no power of its own
    growth = {"power": f"{about}|x|^{_number(tail.power)}", "logarithm": "log |x|", "exponential": "an exponential"}[tail.kind]
    return f"{'grows' if tail.sign > 0 else 'falls'} as {growth}"


def _line(slope: float, intercept: float) -> str:
    if slope == 0:
        return _value(intercept)
    shift = round(intercept, 4)
    return f"{'' if slope == 1 else '-' if slope == -1 else _number(slope) + ' '}x" + (f" {'+' if shift > 0 else '-'} {_number(abs(shift))}" if shift else "")


def _lipschitz(s: Shape) -> str:
    if math.isinf(s.lipschitz):
        broken = sorted((k for k in s.kinks if k.kind in ("jump", "cusp", "pole")), key=lambda k: abs(k.x))
        return f"unbounded, {broken[0].kind} at x = {_number(broken[0].x)}" if broken else "unbounded"
    if math.isnan(s.lipschitz):
        return "not determined"
    where = "approached far out" if s.lipschitz_at is None else f"at {_interval(*s.lipschitz_at)}"
    return f"|f'| <= {_value(s.lipschitz)}, {where}"


def _signal(m: Moments, edge: EdgeOfChaos | None, fixed: FixedPoint | None) -> Lines:
    missing = "undefined" if m.determined else "not determined"
    mean, square, slope_square = (_number(v).replace("undefined", missing) for v in (m.mean, m.square, m.slope_square))
    lines = [("moments", f"E f = {mean}, E f^2 = {square}, E f'^2 = {slope_square}  for x ~ N(0, 1)")]
    if not m.determined:
        return [*lines, ("gain", "not determined"), ("criticality", "not determined"), ("fixed point", "not determined")]
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


def _value(value: float) -> str:
    """Six significant digits, also of a function that is tiny everywhere."""
    return _number(value) if abs(value) > 1e-9 or value == 0 or not math.isfinite(value) else f"{value:.6g}"


def _interval(low: float, high: float) -> str:
    if low == high:
        return f"x = {_value(low)}"
    if math.isinf(low):
        return "all x" if math.isinf(high) else f"x <= {_number(high)}"
    return f"x >= {_number(low)}" if math.isinf(high) else f"{_number(low)} <= x <= {_number(high)}"


def _distance(interval: tuple[float, float]) -> float:
    """Distance of an interval from 0."""
    low, high = interval
    return 0.0 if low <= 0 <= high else min(abs(low), abs(high))


def _some(texts: list[str], most: int = 4) -> str:
    """The first few, and how many there are."""
    more = f" ... {'at least ' * (len(texts) > 200)}{len(texts)} in [-30, 30]" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
