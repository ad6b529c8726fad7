"""What there is, as tables: tasks, operators, known layers. Torch-free."""

from __future__ import annotations

import math

import numpy as np

from evosearch.delivery.layout import Column, grid, prose
from evosearch.judging.networks import KNOBS
from evosearch.judging.objectives import OBJECTIVES, TASKS
from evosearch.language.formula import parse
from evosearch.language.graph import Graph, make, variable
from evosearch.language.library import known, unsayable
from evosearch.language.library import library as layers
from evosearch.language.operators import AXIS_SETS, OPERATORS, STATISTIC_COST, Operator
from evosearch.meaning.numeric import evaluate


def tasks(width: int | None) -> list[str]:
    """Every task with its variants, architectures, metric, unit and direction."""
    rows = list(TASKS.items())
    columns = [
        Column("task", [name for name, _ in rows], right=False),
        Column("metric", [m.name for _, m in rows], drop=1, right=False),
        Column("unit", [m.unit for _, m in rows], drop=2, right=False),
        Column("better", ["higher" if m.direction > 0 else "lower" for _, m in rows], drop=3, right=False),
        Column("architectures", [", ".join(m.architectures) for _, m in rows], right=False, flexible=True),
        Column("variants", [", ".join(m.variants) or "-" for _, m in rows], drop=4, right=False),
    ]
    note = "A pair for the YAML reads task[.variant]/architecture[.width], e.g. textures/resnet, photo.coffee/inr.48; "
    note += "an architecture may be a model of your own, module:function."
    return [*_table(columns, width), *prose(note, width), "", *choices(width), "", *objectives(width)]


def choices(width: int | None) -> list[str]:
    """What a network may choose, by architecture."""
    rows = [(architecture, name, knob) for architecture, there in KNOBS.items() for name, knob in there.items()]
    columns = [
        Column("architecture", [architecture for architecture, _, _ in rows], drop=1, right=False),
        Column("choice", [name for _, name, _ in rows], right=False),
        Column("usual", [str(knob.usual) for _, _, knob in rows], drop=2, right=False),
        Column("may be", [str(knob) for _, _, knob in rows], right=False, flexible=True),
        Column("what", [knob.what for _, _, knob in rows], drop=3, right=False),
    ]
    return _table(columns, width)


def objectives(width: int | None) -> list[str]:
    """Every objective with its unit and direction, and what it is."""
    rows = list(OBJECTIVES.items())
    better = {0: "as the task's", +1: "higher", -1: "lower"}
    columns = [
        Column("objective", [name for name, _ in rows], right=False),
        Column("measured", ["when asked for" if o.asked else "always" for _, o in rows], drop=1, right=False),
        Column("unit", [o.unit or ("-" if o.direction else "the task's") for _, o in rows], drop=2, right=False),
        Column("better", [better[o.direction] for _, o in rows], drop=3, right=False),
        Column("what", [o.what for _, o in rows], right=False, flexible=True),
        Column("source", [o.source or "-" for _, o in rows], drop=4, right=False),
    ]
    note = "judging.objectives of the YAML and `evosearch evaluate --objectives` ask for them. All but the times are of the validation split or of the formula."
    return [*_table(columns, width), *prose(note, width)]


def operators(width: int | None, latex: bool = False) -> list[str]:
    """The operator table, with the gradient that training uses at each kink."""
    rows = [row for row in OPERATORS.values() if row.searchable]
    columns = [
        Column("operator", [r.name for r in rows], right=False),
        Column("inputs", [str(r.arity) for r in rows], drop=2),
        Column("cost", [str(r.cost) for r in rows]),
        Column("smooth", ["yes" if r.smooth else "no" for r in rows], drop=3, right=False),
        Column("gradient at kinks", [gradient_at_kinks(r) for r in rows], drop=1, right=False),
    ]
    if latex:
        columns.append(Column("LaTeX", [r.latex.format(a="a", b="b") for r in rows], right=False, flexible=True))
    else:
        columns.append(Column("derivative (a, b inputs, f value)", ["; ".join(r.derivative) for r in rows], right=False, flexible=True))
    statistics = ", ".join(f"{name} {cost}" for name, cost in STATISTIC_COST.items())
    return [*_table(columns, width), *prose(f"statistics and their cost: {statistics}; over {', '.join(AXIS_SETS)}", width)]


def _table(columns: list[Column], width: int | None) -> list[str]:
    lines, left_out = grid(columns, width)
    return [*lines, *(prose(f"left out at {width} columns: {', '.join(left_out)}", width) if left_out else [])]


def gradient_at_kinks(row: Operator) -> str:
    """`0 at 0` for relu, `0.5, 0.5 where a = b` for max: what the derivative templates give there."""
    return "; ".join(_gradient_at(row, parse(kink, inputs=("a", "b"))) for kink in row.kinks)


def _gradient_at(row: Operator, kink: Graph) -> str:
    at_zero, at_one = _value(kink, 0.0, 1.0), _value(kink, 1.0, 1.0)
    names = "ab"[: row.arity]
    if at_zero != at_one:  # kinks are linear in an input: the secant meets them
        a, b = at_zero / (at_zero - at_one) + 0.0, 1.0
    else:
        low, high = _value(kink, 1.0, 0.0), _value(kink, 1.0, 1.0)
        a, b = 1.0, low / (low - high) if low != high else math.nan
    f = _value(make(row.name, *(variable(n) for n in names)), a, b)
    slopes = [_value(parse(text, inputs=("a", "b", "f")), a, b, f) for text in row.derivative]
    where = f"at {a:g}" if row.arity == 1 else f"where {_equation(str(kink))}"
    return f"{', '.join(f'{s + 0.0:g}' for s in slopes) if all(map(math.isfinite, slopes)) else 'not finite'} {where}"


def _equation(kink: str) -> str:
    return "a = b" if kink == "a - b" else f"{kink} = 0"


def _value(graph: Graph, a: float, b: float, f: float = 0.0) -> float:
    inputs = {name: np.array([value]) for name, value in (("x", a), ("a", a), ("b", b), ("f", f))}
    with np.errstate(all="ignore"):
        return float(evaluate(graph, inputs)[0])


def library(width: int | None) -> list[str]:
    """Every known layer, by kind."""
    lines: list[str] = []
    for kind in dict.fromkeys(layer.kind for layer in layers().values()):
        members = [layer for layer in layers().values() if layer.kind == kind]
        names = Column(kind.upper(), [layer.name for layer in members], right=False)
        formulas = Column("formula", [layer.formula for layer in members], right=False, flexible=True)
        lines += [*grid([names, formulas], width)[0], ""]
    return [*lines, *prose(f"{len(layers())} layers; `library NAME` shows one with its source, `library --unsayable` what no formula can say", width)]


def layer(name: str, width: int | None) -> list[str]:
    """All that is known of one layer."""
    found = known(name)
    fields = [
        ("name", found.name), ("kind", found.kind), ("formula", found.formula), ("aliases", ", ".join(found.aliases)),
        ("without act", found.without_activation), ("affine", "weight and bias per channel follow" if found.affine else ""),
        ("variance", f"running variances are {found.tracked_variance}" if "batch" in found.formula else ""),
        ("note", found.note), ("source", found.source),
    ]  # fmt: skip
    return [line for label, text in fields if text for line in prose(f"{label:<12} {text}", width, 13)]


def cannot_say(width: int | None) -> list[str]:
    """Published layers that are no formula of the language, and why."""
    names, reasons = list(unsayable()), list(unsayable().values())
    columns = [Column("layer", names, right=False), Column("why no formula says it", reasons, right=False, flexible=True)]
    return grid(columns, width)[0]
