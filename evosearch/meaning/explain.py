"""`explain`: all that is known of a formula without training it, as labeled lines."""

from __future__ import annotations

from evosearch.language.graph import Graph, parameters
from evosearch.meaning.derive import derivative, has_statistics
from evosearch.meaning.facts import complexity, novelty
from evosearch.meaning.symbolic import latex, simplify


def explain(graph: Graph, seconds: float = 5.0) -> list[tuple[str, str]]:
    """`(label, text)` lines: canonical and simplified form, derivative, LaTeX, cost, novelty. sympy gets `seconds` a formula."""
    elementwise = not has_statistics(graph) and graph.op != "surrogate"
    slope = derivative(graph) if elementwise else None
    forms = simplify([graph] if slope is None else [graph, slope], seconds)
    lines = [("canonical", str(graph)), ("id", graph.canonical_id)]
    lines.append(("simplified", f"{forms[0].graph}  ({forms[0].note})" if graph.op != "surrogate" else "a surrogate is shown as it is"))
    if slope is not None:
        lines.append(("derivative", str(forms[1].graph)))
    else:
        lines.append(("derivative", "by reverse mode through the statistics; not one expression of x"))
    lines += [("LaTeX", latex(graph)), ("cost", f"{complexity(graph)} cost units")]
    lines += [("parameter", f"{p.name}: one a {p.kind}, starts at {p.init:g}") for p in parameters(graph)]
    found = novelty(graph)
    if found.label == "known":
        lines.append(("known", f"this is {found.nearest}"))
    elif found.label == "rescaled":
        lines.append(("rescaled", f"{found.scale:.4g} * f({found.rate:.4g} * x) with f = {found.nearest}"))
    elif found.nearest:
        lines.append(("new", f"nearest known function: {found.nearest}, relative distance {found.distance:.3f} after the best scaling"))
    else:
        lines.append(("new", "no known layer is equal to it"))
    return lines
