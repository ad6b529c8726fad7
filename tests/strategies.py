"""Random graphs for property tests: every feature of the language enters here."""

from __future__ import annotations

from hypothesis import strategies as st

from evosearch.language.graph import Graph, canonical, constant, make, parameter, statistic, variable, walk
from evosearch.language.operators import AXIS_SETS, OPERATORS, STATISTICS

SEARCHABLE = sorted(name for name, row in OPERATORS.items() if row.searchable)
NUMBERS = st.floats(-8, 8, allow_nan=False).map(lambda v: round(v, 3))


def _leaf(statistics: bool) -> st.SearchStrategy[Graph]:
    kinds = ["layer", "channel"] if statistics else ["layer"]
    parameters = st.builds(parameter, st.sampled_from(["p", "q"]), st.sampled_from(kinds), st.just(0.5))
    return st.one_of(st.just(variable("x")), st.just(variable("x")), NUMBERS.map(constant), parameters)


def graphs(statistics: bool = False, operators: list[str] = SEARCHABLE, max_leaves: int = 8) -> st.SearchStrategy[Graph]:
    """Canonical graphs over the operators; with statistics, over all axis sets as well."""

    def extend(inner: st.SearchStrategy[Graph]) -> st.SearchStrategy[Graph]:
        def node(name: str) -> st.SearchStrategy[Graph]:
            return st.tuples(*[inner] * OPERATORS[name].arity).map(lambda args: make(name, *args))

        built = st.sampled_from(operators).flatmap(node)
        if not statistics:
            return built
        pairs = [(op, axes) for op in STATISTICS for axes in AXIS_SETS if not (axes == "batch" and op in ("sum", "max"))]
        return st.one_of(built, st.builds(lambda pair, arg: statistic(pair[0], arg, pair[1]), st.sampled_from(pairs), inner))

    return st.recursive(_leaf(statistics), extend, max_leaves=max_leaves).filter(_has_no_power_of_numbers).map(canonical)


def _has_no_power_of_numbers(graph: Graph) -> bool:
    """The language refuses `9 ** 9 ** 9`: a power of two numbers is to be written as that number."""

    def is_number(node: Graph) -> bool:
        return not any(leaf.op in ("input", "parameter") for leaf in walk(node))

    return not any(node.op == "pow" and node.args[0].op == "constant" and is_number(node.args[1]) for node in walk(graph))
