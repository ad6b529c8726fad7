"""Text to graph and back. Size limits come first, then a whitelist over Python's syntax tree; nothing is ever evaluated.

formula     = expression [ "~" expression ] [ "where" declaration { "," declaration } ]
declaration = name ":" ("channel" | "layer") "=" number
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Mapping

from evosearch.language.graph import Graph, canonical, constant, make, parameter, statistic, surrogate, variable, walk
from evosearch.language.operators import AXIS_SETS, OPERATORS, STATISTICS

MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, MAX_EXPONENT, MAX_DIGITS = 4096, 64, 512, 64, 32

_BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
_DECLARATION = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*)\s*:\s*([a-z]+)\s*=\s*(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_LITERAL = re.compile(r"(?<![\w.])(?:\d|\.\d)(?:[eE][-+]|[\w.])*")
_DECIMAL = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_RESERVED = {"where", "lambda", *OPERATORS, *STATISTICS, *AXIS_SETS}


class FormulaError(ValueError):
    """The text is not a formula of the language; says the rule, the column and, where there is one, the likely fix."""


def parse(text: str, inputs: tuple[str, ...] = ("x", "y"), keep_names: bool = False) -> Graph:
    """The canonical graph of a formula such as `x * sigmoid(v * x) where v: layer = 1`: `parse(str(g)) is g`.

    An expression is made of the input `x` (and `y`, the second input of gated forms), numbers, `+ - * / **`, operators
    (`evosearch operators` lists them) and statistics such as `std(x, group, eps=1e-5)`; `~` sets a surrogate whose gradient
    is used, `where` declares learnable parameters with their initial values. Parameters are renamed v0, v1, ... in order of
    use, unless `keep_names`. Raises FormulaError, with the column, for anything else.
    """
    _check_text(text)
    body, offset_where, declared = text, len(text), {}
    split = re.search(r"\bwhere\b", text)
    if split:
        body, offset_where = text[: split.start()], split.end()
        declared = _declarations(text[offset_where:], offset_where)
    parts = body.split("~")
    if len(parts) > 2:
        raise FormulaError(f"a formula has at most one `~`; received {len(parts) - 1}")
    names = {**{name: variable(name) for name in inputs}, **declared}
    graph = _expression(parts[0], 0, names)
    if len(parts) == 2:
        graph = surrogate(graph, _expression(parts[1], len(parts[0]) + 1, names))
    used = set(walk(graph))
    for name, node in declared.items():
        if node not in used:
            raise FormulaError(f"parameter `{name}` is declared but not used; drop it from `where`")
    return graph if keep_names else canonical(graph)


def _check_text(text: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise FormulaError("a formula is a line of text such as `x * sigmoid(x)`; received nothing")
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"a formula has at most {MAX_CHARACTERS} characters; received {len(text)}")
    for column, character in enumerate(text, 1):
        if not (" " <= character <= "~"):
            raise FormulaError(f"column {column}: only printable ASCII is allowed; received {character!a}")
    for literal in _LITERAL.finditer(text):
        column, number = literal.start() + 1, literal.group()
        if len(number) > MAX_DIGITS:
            raise FormulaError(f"column {column}: a number has at most {MAX_DIGITS} digits")
        if not _DECIMAL.fullmatch(number):
            raise FormulaError(f"column {column}: a number reads 2, 0.5 or 1e-5; received `{number}`")
        if not 1e-30 <= float(number) <= 1e30 and re.match(r"[0.]*[1-9]", number):
            raise FormulaError(f"column {column}: a number must be finite, 0 or 1e-30 to 1e30 in size; received `{number}`")


def _declarations(text: str, offset: int) -> dict[str, Graph]:
    declared: dict[str, Graph] = {}
    position = 0
    for piece in text.split(","):
        match = _DECLARATION.fullmatch(piece)
        if match is None:
            raise FormulaError(f"column {offset + position + 1}: a declaration reads `v: channel = 1` or `v: layer = 0.5`; received `{piece.strip()}`")
        name, kind, number = match.groups()
        if name in _RESERVED or name in ("x", "y"):
            raise FormulaError(f"column {offset + position + 1}: `{name}` is a word of the language; name the parameter otherwise")
        if name in declared:
            raise FormulaError(f"column {offset + position + 1}: parameter `{name}` is declared twice")
        try:
            declared[name] = parameter(name, kind, float(number))
        except ValueError as error:
            raise FormulaError(f"column {offset + position + 1}: {error}") from None
        position += len(piece) + 1
    return declared


def _expression(text: str, offset: int, names: Mapping[str, Graph]) -> Graph:
    stripped = text.strip()
    if not stripped:
        raise FormulaError(f"column {offset + 1}: an expression is missing")
    offset += len(text) - len(text.lstrip())
    try:
        with warnings.catch_warnings():  # Python warns of `x is 1` and the like, which is refused below
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        raise FormulaError(f"column {offset + (error.offset or 1)}: not an expression ({error.msg})") from None
    except (MemoryError, RecursionError):
        raise FormulaError(f"a formula is at most {MAX_DEPTH} levels deep; this one is deeper") from None
    graph = _convert(tree, names, offset, 1)
    if graph.size > MAX_NODES:
        raise FormulaError(f"a formula has at most {MAX_NODES} nodes; received {graph.size}")
    return graph


def _convert(node: ast.expr, names: Mapping[str, Graph], offset: int, level: int) -> Graph:
    column = offset + node.col_offset + 1
    if level > MAX_DEPTH:
        raise FormulaError(f"column {column}: a formula is at most {MAX_DEPTH} levels deep")
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return constant(node.value)
    if isinstance(node, ast.Name):
        return _name(node.id, names, column)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return make("neg", _convert(node.operand, names, offset, level + 1))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = (_convert(side, names, offset, level + 1) for side in (node.left, node.right))
        if isinstance(node.op, ast.Pow):
            _check_power(left, right, column)
        return make(_BINARY[type(node.op)], left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id, names, offset, level)
    hint = "; write a power as `x ** 2`" if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor) else ""
    hint = "; step(x), max(x, y) and min(x, y) compare" if isinstance(node, (ast.Compare, ast.IfExp, ast.BoolOp)) else hint
    raise FormulaError(f"column {column}: a formula has numbers, names, + - * / ** and calls of operators; received {_kind(node)}{hint}")


def _kind(node: ast.expr) -> str:
    """What the user wrote, in a word."""
    if isinstance(node, (ast.BinOp, ast.UnaryOp)):
        return f"another operator ({type(node.op).__name__.lower()})"
    named = {ast.Compare: "a comparison", ast.IfExp: "an if-expression", ast.BoolOp: "and / or"}
    return named.get(type(node), type(node).__name__.lower())


def _check_power(left: Graph, right: Graph, column: int) -> None:
    if left.op == "constant" and not any(n.op in ("input", "parameter") for n in walk(right)):
        raise FormulaError(f"column {column}: a power of two numbers is a number; write that number")
    if isinstance(right.value, float) and abs(right.value) > MAX_EXPONENT:
        raise FormulaError(f"column {column}: an exponent is at most {MAX_EXPONENT} in size; received {right.value:g}")


def _name(name: str, names: Mapping[str, Graph], column: int) -> Graph:
    if name in names:
        return names[name]
    if name in OPERATORS or name in STATISTICS:
        raise FormulaError(f"column {column}: `{name}` is an operator; call it, as in `{name}(x)`")
    raise FormulaError(
        f"column {column}: unknown name `{name[:40]}`; inputs are {', '.join(n for n in names if n in ('x', 'y'))}, "
        f"parameters are declared as in `where {name[:12]}: channel = 1`"
    )


def _call(node: ast.Call, name: str, names: Mapping[str, Graph], offset: int, level: int) -> Graph:
    column = offset + node.col_offset + 1
    if name in STATISTICS and (name not in OPERATORS or _names_axes(node)):
        return _statistic_call(node, name, names, offset, level)
    row = OPERATORS.get(name)
    if row is None:
        raise FormulaError(f"column {column}: unknown operator `{name[:40]}`; {_hint(name)}")
    if node.keywords:
        raise FormulaError(f"column {column}: `{name}` takes no keyword arguments")
    if len(node.args) != row.arity:
        raise FormulaError(f"column {column}: `{name}` takes {row.arity} input{'s' * (row.arity > 1)}; received {len(node.args)}")
    args = [_convert(arg, names, offset, level + 1) for arg in node.args]
    if name == "pow":
        _check_power(args[0], args[1], column)
    return make(name, *args)


def _hint(name: str) -> str:
    from evosearch.language.library import library  # the library is made of formulas

    if name.lower() in library():
        return f"`{name.lower()}` is a known layer: write its formula, `{library()[name.lower()].formula}`"
    close = difflib.get_close_matches(name.lower(), [*OPERATORS, *STATISTICS], n=1)
    return f"did you mean `{close[0]}`?" if close else "`evosearch operators` lists them, and --plugin FILE adds your own"


def _names_axes(node: ast.Call) -> bool:
    """`max(x, row)` is a statistic, `max(x, 0)` the operator of two inputs."""
    return len(node.args) == 2 and isinstance(node.args[1], ast.Name) and node.args[1].id in AXIS_SETS


def _statistic_call(node: ast.Call, name: str, names: Mapping[str, Graph], offset: int, level: int) -> Graph:
    column = offset + node.col_offset + 1
    usage = f"`{name}(expression, axes)` with axes one of {', '.join(AXIS_SETS)}"
    if len(node.args) != 2 or not isinstance(node.args[1], ast.Name):
        raise FormulaError(f"column {column}: a statistic reads {usage}")
    options: dict[str, float] = {}
    for keyword in node.keywords:
        value = keyword.value
        if keyword.arg not in ("eps", "groups") or not isinstance(value, ast.Constant) or type(value.value) not in (int, float):
            raise FormulaError(f"column {column}: a statistic takes only eps=<number> and groups=<number>")
        options[keyword.arg] = value.value  # type: ignore[assignment]
    if not float(options.get("groups", 1)).is_integer():
        raise FormulaError(f"column {column}: groups is a whole number; received {options['groups']}")
    groups = int(options["groups"]) if "groups" in options else None
    argument = _convert(node.args[0], names, offset, level + 1)
    try:
        return statistic(name, argument, node.args[1].id, options.get("eps"), groups)
    except ValueError as error:
        raise FormulaError(f"column {column}: {error}") from None
