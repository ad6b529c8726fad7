"""The only file with sympy: simplify, LaTeX. It runs in a child process of its own that can be killed.

`simplify` is for reading and for a smaller twin; it may never return (sympy#26453) and it breaks numerics
(1/(1+exp(-x)) becomes exp(x)/(exp(x)+1): NaN at x = 100). So stable operators stay opaque atoms, and what comes back
is used only if it is smaller, equal on a dense grid, and no less finite in float32.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Axes, Graph, Parameter, canonical, constant, make, number_text, parameters, variable, walk
from evosearch.language.operators import OPERATORS, Operator, register, registered
from evosearch.meaning.facts import complexity
from evosearch.meaning.numeric import equal, evaluate

_TRANSPARENT = {
    "add", "sub", "mul", "div", "pow", "neg", "square", "cube", "reciprocal", "sqrt", "max", "min", "abs", "sign",
    "exp", "log", "sin", "cos", "sinh", "cosh", "tanh", "atan", "asinh", "erf", "erfc",
}  # fmt: skip
_WIDE_GRID = np.array([s * v for v in (0.0, 1e-8, 1e-3, 1.0, 5.0, 30.0, 89.0, 100.0, 1e4) for s in (-1.0, 1.0)], dtype=np.float32)


@dataclass(frozen=True)
class Simplified:
    """A formula beside sympy's simplified form: `graph` is that form if it was accepted, else the original; `note` says which."""

    graph: Graph
    accepted: bool
    note: str


def simplify(graphs: Sequence[Graph], seconds: float = 5.0, rewrite: Callable[[Graph], Graph] | None = None) -> list[Simplified]:
    """Each graph simplified by sympy in a killable child, `seconds` a graph, then rewritten; checked before it replaces anything."""
    answers = _in_child([str(g) for g in graphs], seconds)
    return [_accept(graph, answer, rewrite) for graph, answer in zip(graphs, answers, strict=True)]


def _accept(graph: Graph, answer: str, rewrite: Callable[[Graph], Graph] | None = None) -> Simplified:
    if answer.startswith("!"):
        return Simplified(graph, False, answer[1:])
    try:
        simple = canonical(rewrite(parse(answer))) if rewrite else parse(answer)
    except FormulaError as error:
        return Simplified(graph, False, f"outside the language: {error}")
    if simple is graph:
        return Simplified(graph, False, "already simple")
    if (simple.size, complexity(simple)) >= (graph.size, complexity(graph)):
        return Simplified(graph, False, "no smaller")
    if {(p.kind, p.init) for p in parameters(simple)} != {(p.kind, p.init) for p in parameters(graph)} or not equal(graph, simple):
        return Simplified(graph, False, "not equal numerically")
    wide = _WIDE_GRID.reshape(2, 3, -1)  # statistics need samples, channels and more
    inputs: dict[str, Any] = {"x": wide, "y": wide}  # float32 on purpose
    if (np.isfinite(evaluate(graph, inputs)) & ~np.isfinite(evaluate(simple, inputs))).any():
        return Simplified(graph, False, "less finite in float32")
    return Simplified(simple, True, "simplified by sympy")


def written_out(graph: Graph, seconds: float = 5.0) -> tuple[str | None, str]:
    """The text of the graph for sympy, every operator by its definition, a line each for value and surrogate, and after `#` what the names
    of statistics mean; or None and the reason. In the killable child: sympy compares the arguments of Max as long as it likes."""
    answer = _in_child([str(graph)], seconds, "write")[0]
    return (None, answer[1:]) if answer.startswith("!") else (answer, "")


def _written(graph: Graph) -> str:
    atoms: dict[str, Graph] = {}
    lines = [str(to_sympy(part, atoms, opaque=False)) for part in (graph.args if graph.op == "surrogate" else (graph,))]
    return "\n".join([*lines, *(f"# {name}(e) = {make(node.op, variable('e'), value=node.value)}" for name, node in atoms.items() if node.args)])


def _in_child(formulas: list[str], seconds: float, verb: str = "simplify") -> list[str]:
    """One line out a formula; `!reason` where there is none. A child that hangs is killed; the rest goes to a new one."""
    answers: list[str] = []
    while len(answers) < len(formulas):
        rest = formulas[len(answers) :]
        child = subprocess.Popen([sys.executable, "-m", "evosearch.meaning.symbolic"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            request = {"formulas": rest, "seconds": seconds, "verb": verb, "operators": [asdict(row) for row in registered()]}
            out, _ = child.communicate(json.dumps(request), timeout=seconds * len(rest) + 30)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
        lines = [str(json.loads(line)) for line in out.splitlines()]
        answers += lines if len(lines) == len(rest) else [*lines, f"!no answer within {seconds:g} s"]
    return answers


def _child() -> None:
    """Reads the formulas from standard input; one JSON string a line. An alarm ends one that takes too long."""
    import signal

    def too_long(*_: object) -> None:
        raise TimeoutError

    request = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, too_long)
    register(map(_row, request["operators"]))
    for formula in request["formulas"]:
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            graph = parse(formula, keep_names=True)
            answer = _written(graph) if request["verb"] == "write" else str(_simplified(graph))
        except TimeoutError:
            answer = f"!no answer within {request['seconds']:g} s"
        except (ValueError, TypeError, AttributeError, RecursionError, NotImplementedError, ZeroDivisionError) as error:
            answer = f"!sympy could not: {type(error).__name__}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(answer), flush=True)


def _row(fields: dict[str, Any]) -> Operator:
    columns: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Operator(**columns)


def _simplified(graph: Graph) -> Graph:
    import sympy

    if graph.op == "surrogate":
        raise ValueError("a surrogate is not one expression")
    atoms: dict[str, Graph] = {}
    return canonical(from_sympy(sympy.simplify(to_sympy(graph, atoms)), atoms))


def to_sympy(graph: Graph, atoms: dict[str, Graph] | None = None, opaque: bool = True) -> Any:
    """The graph as a sympy expression. With `opaque`, stable operators stay named functions; without it (the tests' oracle)
    every operator is written out by the table's sympy column. `atoms` takes the leaves and operators by their sympy name."""
    import sympy

    atoms = {} if atoms is None else atoms
    built: dict[Graph, Any] = {}
    for node in walk(graph):
        args = [built[a] for a in node.args]
        if isinstance(node.value, float):
            built[node] = _number(node.value)
        elif isinstance(node.value, (str, Parameter)):
            name = node.value if isinstance(node.value, str) else node.value.name
            atoms[name] = node
            built[node] = sympy.Symbol(name, real=True)
        elif isinstance(node.value, Axes) or (opaque and node.op not in _TRANSPARENT):
            name = node.op if not isinstance(node.value, Axes) else f"{node.op}_{len(atoms)}"
            atoms.setdefault(name, node)
            built[node] = sympy.Function(name, real=True)(*args)
        else:
            built[node] = _apply(node.op, args)
    return built[graph]


def exact(graph: Graph, points: Sequence[float], slope: bool = False) -> list[float | None]:
    """Values (or derivatives) of an elementwise graph at `points` by sympy with 30 digits; None where they are not real.

    Independent of the table's numpy, torch and derivative columns: the oracle of tests and of an operator's probe. May be
    slow for large graphs; callers bound the time.
    """
    import sympy

    x = sympy.Symbol("x", real=True)
    expression = to_sympy(graph, opaque=False)
    form = sympy.diff(expression, x) if slope else expression

    def at(point: float) -> float | None:
        try:
            value = sympy.N(form.subs(x, sympy.Float(str(point), 40)).doit(), 30)
        except ValueError:  # the maximum of complex numbers
            return None
        return float(value) if value.is_Float or value.is_Rational else None

    return [at(point) for point in points]


def _number(value: float) -> Any:
    import sympy

    text = number_text(value)
    return sympy.Rational(text) if len(text) <= 8 else sympy.Float(text, 17)


def _apply(op: str, args: list[Any]) -> Any:
    import sympy

    column = OPERATORS[op].sympy
    if ":" in column:  # a special function with an order, as in `besseli:0`
        name, order = column.split(":")
        return getattr(sympy, name)(int(order), *args)
    if column.isidentifier():
        return getattr(sympy, column)(*args)
    built: dict[Graph, Any] = {}
    names = dict(zip("ab", args, strict=False))
    for part in walk(parse(column, inputs=("a", "b"))):
        if isinstance(part.value, float):
            built[part] = _number(part.value)
        elif isinstance(part.value, str):
            built[part] = names[part.value]
        else:
            built[part] = _apply(part.op, [built[a] for a in part.args])
    return built[parse(column, inputs=("a", "b"))]


def from_sympy(expression: Any, atoms: dict[str, Graph]) -> Graph:
    """The graph of a sympy expression, quotients and differences restored. Raises ValueError for what the language lacks."""
    import sympy

    if expression.is_Symbol:
        return atoms[expression.name]
    if expression.is_Rational and not expression.is_Integer:
        return make("div", constant(float(expression.p)), constant(float(expression.q))) if _endless(expression) else constant(float(expression))
    if expression.is_number:
        return constant(float(expression))
    if isinstance(expression, sympy.Add):
        return _sum([from_sympy(t, atoms) for t in expression.as_ordered_terms()])
    if isinstance(expression, sympy.Mul):
        return _product(expression, atoms)
    if isinstance(expression, sympy.Pow):
        return _power(expression, atoms)
    args = [from_sympy(a, atoms) for a in expression.args]
    name = expression.func.__name__
    if name in atoms:
        return make(atoms[name].op, *args, value=atoms[name].value)
    ours = {row.sympy: row.name for row in OPERATORS.values() if row.sympy.isidentifier()}.get(name)
    if ours in ("max", "min"):
        folded = args[0]
        for arg in args[1:]:
            folded = make(ours, folded, arg)
        return folded
    if ours is None:
        raise ValueError(f"the language has no `{name}`")
    return make(ours, *args)


def _endless(number: Any) -> bool:
    q = int(number.q)
    while q % 2 == 0:
        q //= 2
    while q % 5 == 0:
        q //= 5
    return q != 1 and abs(int(number.p)) < 1000 and int(number.q) < 1000


def _sum(terms: list[Graph]) -> Graph:
    positive = [t for t in terms if not _negated(t)]
    negative = [n for t in terms if (n := _negated(t)) is not None]
    total = positive[0] if positive else make("neg", negative.pop(0))
    for term in positive[1:]:
        total = make("add", total, term)
    for term in negative:
        total = make("sub", total, term)
    return total


def _negated(term: Graph) -> Graph | None:
    """The graph of `-term` where `term` starts with a minus sign."""
    if term.op == "neg":
        return term.args[0]
    if isinstance(term.value, float) and term.value < 0:
        return constant(-term.value)
    if term.op == "mul" and isinstance(term.args[0].value, float) and term.args[0].value < 0:
        return make("mul", constant(-term.args[0].value), term.args[1])
    return None


def _product(expression: Any, atoms: dict[str, Graph]) -> Graph:
    above, below = expression.as_numer_denom()
    if below != 1 and not below.is_number:
        return make("div", from_sympy(above, atoms), from_sympy(below, atoms))
    coefficient, rest = expression.as_coeff_Mul()
    factors = [from_sympy(f, atoms) for f in rest.as_ordered_factors()]
    product = factors[0]
    for factor in factors[1:]:
        product = make("mul", product, factor)
    if coefficient == 1:
        return product
    if coefficient == -1:
        return make("neg", product)
    return make("mul", from_sympy(coefficient, atoms), product)


def _power(expression: Any, atoms: dict[str, Graph]) -> Graph:
    import sympy

    base, exponent = expression.base, expression.exp
    if base == sympy.E:
        return make("exp", from_sympy(exponent, atoms))
    if exponent.is_number and exponent.is_negative:
        return make("div", constant(1.0), from_sympy(base**-exponent, atoms))
    inner = from_sympy(base, atoms)
    named = {2: "square", 3: "cube", sympy.Rational(1, 2): "sqrt"}.get(exponent)
    return make(named, inner) if named else make("pow", inner, from_sympy(exponent, atoms))


def latex(graph: Graph) -> str:
    """LaTeX of the graph, from the table's own column; parameters as Greek-free symbols with an index."""
    text: dict[Graph, str] = {}
    for node in walk(graph):
        text[node] = _latex_node(node, [_bracketed(node, a, text) for a in node.args])
    return text[graph]


def _latex_node(node: Graph, args: list[str]) -> str:
    if isinstance(node.value, float):
        return number_text(node.value)
    if isinstance(node.value, Parameter):
        return f"{node.value.name[0]}_{{{node.value.name[1:]}}}" if len(node.value.name) > 1 else node.value.name
    if isinstance(node.value, str):
        return node.value
    if isinstance(node.value, Axes):
        return rf"\operatorname{{{node.op}}}_{{\mathrm{{{node.value.axes}}}}}\left({args[0]}\right)"
    if node.op == "surrogate":
        return rf"{args[0]} \sim {args[1]}"
    return OPERATORS[node.op].latex_form.format(**dict(zip("ab", args, strict=False)))


def _bracketed(parent: Graph, child: Graph, text: dict[Graph, str]) -> str:
    loose = child.op in ("add", "sub", "neg") or (isinstance(child.value, float) and child.value < 0)
    tight = parent.op in ("mul", "neg", "sub", "pow", "square", "cube")
    product = child.op in ("mul", "div") and parent.op in ("pow", "square", "cube")
    return rf"\left({text[child]}\right)" if tight and (loose or product) else text[child]


if __name__ == "__main__":
    _child()
