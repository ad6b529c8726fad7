"""THE operator table: one row adds an operator to the language, the compiler, the search and the reports.

Columns of a row, all of them text except the cost:

- ``torch``: the emitted expression; ``{a}``, ``{b}`` are the inputs. Always the numerically stable form.
- ``numpy`` and ``sympy``: a function of that library (``special.`` is scipy.special), or a formula over ``a``, ``b`` in our own language.
- ``derivative``: the partial derivative for each input, a formula over ``a``, ``b`` and the value ``f``. At a kink it is the
  gradient that torch's own operator has there, because eager training must equal the lean backward.
- ``cost``: integer, roughly nanoseconds per 10 elements of the float32 forward on one core; deterministic, so that it may steer a search.
- ``latex``: with ``{a}`` and ``{b}``; by default the name applied to its inputs.
- ``kinks``: expressions whose zeros are the places where some derivative does not exist; none for a smooth operator.

No operator is silently protected: ``div``, ``log`` and ``sqrt`` are what they say; ``div_eps``, ``signed_log`` and ``signed_sqrt`` are
the safe variants of the published search spaces, under names of their own. `OPERATORS` is the table of the process: `register` adds the
rows of a user's plug-in file to it, before anything is parsed.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Operator:
    """One row of the table: an elementwise operator and its meaning in every system we speak to."""

    name: str
    arity: int
    torch: str
    numpy: str
    sympy: str
    derivative: tuple[str, ...]
    cost: int
    latex: str = ""
    kinks: tuple[str, ...] = ()
    commutative: bool = False
    searchable: bool = True

    @property
    def latex_form(self) -> str:
        """The LaTeX column, or the operator's name applied to its inputs where that is empty."""
        inputs = ", ".join(("{a}", "{b}")[: self.arity])
        return self.latex or rf"\operatorname{{{{{self.name.replace('_', ' ')}}}}}\left({inputs}\right)"

    @property
    def smooth(self) -> bool:
        """Whether all derivatives exist everywhere."""
        return not self.kinks


def _unary(name: str, torch: str, numpy: str, sympy: str, derivative: str, cost: int, latex: str = "", *kinks: str) -> Operator:
    return Operator(name, 1, torch, numpy, sympy, (derivative,), cost, latex, kinks)


_SELU_SCALE, _SELU_ALPHA = "1.0507009873554805", "1.6732632423543772"

_ROWS = (
    # arithmetic
    Operator("add", 2, "{a} + {b}", "add", "Add", ("1", "1"), 1, "{a} + {b}", commutative=True),
    Operator("sub", 2, "{a} - {b}", "subtract", "a + -1 * b", ("1", "-1"), 1, "{a} - {b}"),
    Operator("mul", 2, "{a} * {b}", "multiply", "Mul", ("b", "a"), 1, r"{a} \, {b}", commutative=True),
    Operator("div", 2, "{a} / {b}", "divide", "a * b ** -1", ("1 / b", "-f / b"), 2, r"\frac{{{a}}}{{{b}}}", kinks=("b",)),
    Operator("pow", 2, "torch.pow({a}, {b})", "power", "Pow", ("b * a ** (b - 1)", "masked(abs(sign(a)), f * log(a))"), 12, "{{{a}}}^{{{b}}}", kinks=("a",)),
    Operator("max", 2, "torch.maximum({a}, {b})", "maximum", "Max", ("greater(a, b)", "1 - greater(a, b)"), 1,
             r"\max\left({a}, {b}\right)", kinks=("a - b",), commutative=True),
    Operator("min", 2, "torch.minimum({a}, {b})", "minimum", "Min", ("1 - greater(a, b)", "greater(a, b)"), 1,
             r"\min\left({a}, {b}\right)", kinks=("a - b",), commutative=True),
    Operator("greater", 2, "0.5 * torch.sign({a} - {b}) + 0.5", "0.5 * sign(a - b) + 0.5",
             "(sign(a - b) + 1) / 2", ("0", "0"), 3, r"\left[{a} > {b}\right]", kinks=("a - b",), searchable=False),
    Operator("equals", 2, "1.0 - torch.abs(torch.sign({a} - {b}))", "1 - abs(sign(a - b))", "1 - abs(sign(a - b))", ("0", "0"), 3,
             r"\left[{a} = {b}\right]", kinks=("a - b",), searchable=False),
    # what a backward needs where a factor is infinite: a slope of 0 stays 0 whatever it is multiplied by
    Operator("masked", 2, "torch.where({a} == 0.0, 0.0, {a} * {b})", "masked", "Mul", ("b", "a"), 2,
             r"{a} \, {b}", searchable=False),
    # Ramachandran et al.'s binary units (arXiv 1710.05941)
    Operator("gate", 2, "torch.sigmoid({a}) * {b}", "sigmoid(a) * b", "b * (1 + exp(-1 * a)) ** -1",
             ("f * sigmoid(-a)", "sigmoid(a)"), 7, r"\sigma\left({a}\right) {b}"),
    Operator("gaussian_distance", 2, "torch.exp(-torch.square({a} - {b}))", "exp(-square(a - b))", "exp(-1 * (a - b) ** 2)",
             ("-2 * (a - b) * f", "2 * (a - b) * f"), 7, r"e^{{-\left({a} - {b}\right)^2}}", commutative=True),
    Operator("laplace_distance", 2, "torch.exp(-torch.abs({a} - {b}))", "exp(-abs(a - b))", "exp(-1 * abs(a - b))",
             ("-sign(a - b) * f", "sign(a - b) * f"), 7, r"e^{{-\left|{a} - {b}\right|}}", kinks=("a - b",), commutative=True),
    _unary("neg", "-{a}", "negative", "-1 * a", "-1", 1, "-{a}"),
    # powers, roots, exponentials, logarithms
    _unary("abs", "torch.abs({a})", "abs", "Abs", "sign(a)", 1, r"\left|{a}\right|", "a"),
    _unary("sign", "torch.sign({a})", "sign", "sign", "0", 1, "", "a"),
    _unary("step", "torch.sign(F.relu({a}))", "(sign(a) + abs(sign(a))) / 2", "(sign(a) + abs(sign(a))) / 2", "0", 2, "", "a"),
    _unary("square", "torch.square({a})", "square", "a ** 2", "2 * a", 1, "{{{a}}}^{{2}}"),
    _unary("cube", "{a} * torch.square({a})", "a * a * a", "a ** 3", "3 * square(a)", 2, "{{{a}}}^{{3}}"),
    _unary("reciprocal", "torch.reciprocal({a})", "reciprocal", "a ** -1", "-square(f)", 2, r"\frac{{1}}{{{a}}}", "a"),
    _unary("sqrt", "torch.sqrt({a})", "sqrt", "sqrt", "0.5 / f", 2, r"\sqrt{{{a}}}", "a"),
    _unary("exp", "torch.exp({a})", "exp", "exp", "f", 5, "e^{{{a}}}"),
    _unary("expm1", "torch.expm1({a})", "expm1", "exp(a) - 1", "exp(a)", 6, "e^{{{a}}} - 1"),
    _unary("log", "torch.log({a})", "log", "log", "1 / a", 5, r"\log\left({a}\right)", "a"),
    _unary("log1p", "torch.log1p({a})", "log1p", "log(1 + a)", "1 / (1 + a)", 6, r"\log\left(1 + {a}\right)", "1 + a"),
    _unary("symlog", "torch.sign({a}) * torch.log1p(torch.abs({a}))", "sign(a) * log1p(abs(a))", "sign(a) * log(1 + abs(a))",
           "1 / (1 + abs(a))", 9, "", "a"),
    # the safe variants of the published spaces: EvoNorms' signed log and root (arXiv 2004.02967), log(|x| + eps) and x / (y + eps)
    _unary("signed_log", "torch.sign({a}) * torch.log(torch.clamp(torch.abs({a}), min=1e-7))", "sign(a) * log(max(abs(a), 1e-7))",
           "sign(a) * log(max(abs(a), 1e-7))", "step(abs(a) - 1e-7) / max(abs(a), 1e-7)", 8, "", "a", "abs(a) - 1e-7"),
    _unary("signed_sqrt", "{a} * torch.rsqrt(torch.abs({a}) + 1e-7)", "a / sqrt(abs(a) + 1e-7)", "a * (abs(a) + 1e-7) ** -0.5",
           "(0.5 * abs(a) + 1e-7) / ((abs(a) + 1e-7) * sqrt(abs(a) + 1e-7))", 4, "", "a"),
    _unary("log_abs", "torch.log(torch.abs({a}) + 1e-7)", "log(abs(a) + 1e-7)", "log(abs(a) + 1e-7)", "sign(a) / (abs(a) + 1e-7)", 7, "", "a"),
    Operator("div_eps", 2, "{a} / ({b} + 1e-7)", "a / (b + 1e-7)", "a * (b + 1e-7) ** -1", ("1 / (b + 1e-7)", "-f / (b + 1e-7)"), 3,
             r"\frac{{{a}}}{{{b} + \epsilon}}", kinks=("b + 1e-7",)),
    # trigonometric and hyperbolic
    _unary("sin", "torch.sin({a})", "sin", "sin", "cos(a)", 6, r"\sin\left({a}\right)"),
    _unary("cos", "torch.cos({a})", "cos", "cos", "-sin(a)", 6, r"\cos\left({a}\right)"),
    _unary("atan", "torch.atan({a})", "arctan", "atan", "1 / (1 + square(a))", 8, r"\arctan\left({a}\right)"),
    _unary("sinh", "torch.sinh({a})", "sinh", "sinh", "cosh(a)", 8, r"\sinh\left({a}\right)"),
    _unary("cosh", "torch.cosh({a})", "cosh", "cosh", "sinh(a)", 8, r"\cosh\left({a}\right)"),
    _unary("tanh", "torch.tanh({a})", "tanh", "tanh", "1 - square(f)", 7, r"\tanh\left({a}\right)"),
    _unary("asinh", "torch.asinh({a})", "arcsinh", "asinh", "1 / sqrt(1 + square(a))", 12),
    _unary("erf", "torch.erf({a})", "special.erf", "erf", "1.1283791670955126 * exp(-square(a))", 6),
    _unary("erfc", "torch.erfc({a})", "special.erfc", "erfc", "-1.1283791670955126 * exp(-square(a))", 12),
    # sin(pi a) / (pi a), as torch and numpy define it; its slope is a 0 / 0 at 0, which the tiny number resolves to 0
    _unary("sinc", "torch.sinc({a})", "sinc", "sin(3.141592653589793 * a) * (3.141592653589793 * a) ** -1",
           "a * (cos(3.141592653589793 * a) - f) / (square(a) + 1e-24)", 12),
    # Bessel functions; i0e and i1e are the exponentially scaled ones
    _unary("i0", "torch.special.i0({a})", "special.i0", "besseli:0", "i1(a)", 30, "I_0\\left({a}\\right)"),
    _unary("i1", "torch.special.i1({a})", "special.i1", "besseli:1", "i0(a) - (a * f + 5e-25) / (square(a) + 1e-24)", 30, "I_1\\left({a}\\right)"),
    _unary("i0e", "torch.special.i0e({a})", "special.i0e", "i0(a) * exp(-1 * abs(a))", "i1e(a) - sign(a) * f", 25, "", "a"),
    _unary("i1e", "torch.special.i1e({a})", "special.i1e", "i1(a) * exp(-1 * abs(a))",
           "i0e(a) - sign(a) * f - (a * f + 5e-25) / (square(a) + 1e-24)", 25, "", "a"),
    _unary("gaussian", "torch.exp(-torch.square({a}))", "exp(-square(a))", "exp(-1 * a ** 2)", "-2 * a * f", 6, "e^{{-{{{a}}}^2}}"),
    # sigmoidal
    _unary("sigmoid", "torch.sigmoid({a})", "special.expit", "(1 + exp(-1 * a)) ** -1", "f * (1 - f)", 6, r"\sigma\left({a}\right)"),
    _unary("logsigmoid", "F.logsigmoid({a})", "special.log_expit", "-1 * log(1 + exp(-1 * a))", "sigmoid(-a)", 9,
           r"\log\sigma\left({a}\right)"),
    _unary("softplus", "F.softplus({a})", "max(a, 0) + log1p(exp(-abs(a)))", "log(1 + exp(a))", "sigmoid(a)", 9),
    _unary("softsign", "{a} / (1.0 + torch.abs({a}))", "a / (1 + abs(a))", "a * (1 + abs(a)) ** -1", "1 / square(1 + abs(a))", 4, "", "a"),
    _unary("hardtanh", "F.hardtanh({a})", "max(min(a, 1), -1)", "max(min(a, 1), -1)", "step(a + 1) * step(1 - a)", 2, "", "a + 1", "a - 1"),
    _unary("hardsigmoid", "F.relu6({a} + 3.0) / 6.0", "max(min(a / 6 + 0.5, 1), 0)", "max(min(a / 6 + 1 / 2, 1), 0)",
           "step(a + 3) * step(3 - a) / 6", 2, "", "a + 3", "a - 3"),
    # rectifiers and self-gated units
    _unary("relu", "F.relu({a})", "max(a, 0)", "max(a, 0)", "step(a)", 1, "", "a"),
    _unary("negative_part", "-F.relu(-{a})", "min(a, 0)", "min(a, 0)", "step(-a)", 1, r"\min\left({a}, 0\right)", "a"),
    _unary("relu6", "F.relu6({a})", "max(min(a, 6), 0)", "max(min(a, 6), 0)", "step(a) * step(6 - a)", 2, "", "a", "a - 6"),
    _unary("leaky_relu", "F.leaky_relu({a}, 0.01)", "max(a, 0.01 * a)", "max(a, 0.01 * a)", "0.01 + 0.99 * step(a)", 1, "", "a"),
    _unary("elu", "F.elu({a})", "max(a, 0) + expm1(min(a, 0))", "max(a, 0) + exp(min(a, 0)) - 1", "exp(min(a, 0))", 7, "", "a"),
    _unary("selu", "F.selu({a})", f"{_SELU_SCALE} * (max(a, 0) + {_SELU_ALPHA} * expm1(min(a, 0)))",
           f"{_SELU_SCALE} * (max(a, 0) + {_SELU_ALPHA} * (exp(min(a, 0)) - 1))",
           f"{_SELU_SCALE} * (step(a) + (1 - step(a)) * {_SELU_ALPHA} * exp(min(a, 0)))", 7, "", "a"),
    _unary("elish", "F.elu({a}) * torch.sigmoid({a})", "elu(a) * sigmoid(a)", "(max(a, 0) + exp(min(a, 0)) - 1) * (1 + exp(-1 * a)) ** -1",
           "exp(min(a, 0)) * sigmoid(a) + f * sigmoid(-a)", 14, "", "a"),
    _unary("gelu", "F.gelu({a})", "0.5 * a * erfc(-0.7071067811865476 * a)", "a * (1 + erf(a * sqrt(2) / 2)) / 2",
           "0.5 * erfc(-0.7071067811865476 * a) + 0.3989422804014327 * a * exp(-0.5 * square(a))", 8),
    _unary("silu", "F.silu({a})", "a * sigmoid(a)", "a * (1 + exp(-1 * a)) ** -1", "sigmoid(a) * (1 + a * sigmoid(-a))", 7),
    _unary("mish", "F.mish({a})", "a * tanh(softplus(a))", "a * tanh(log(1 + exp(a)))",
           "tanh(softplus(a)) + a * sigmoid(a) * (1 - square(tanh(softplus(a))))", 18),
    _unary("hardswish", "F.hardswish({a})", "a * hardsigmoid(a)", "a * max(min(a / 6 + 1 / 2, 1), 0)",
           "hardsigmoid(a) + a * step(a + 3) * step(3 - a) / 6", 3, "", "a + 3", "a - 3"),
)  # fmt: skip

OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}


def registered() -> list[Operator]:
    """The rows that `register` has added in this process."""
    return [row for row in OPERATORS.values() if row not in _ROWS]


STATISTICS = ("mean", "var", "std", "rms", "sum", "max")
AXIS_SETS = ("batch", "instance", "layer", "group", "channel", "row")
STATISTIC_COST = {"mean": 4, "var": 8, "std": 9, "rms": 7, "sum": 4, "max": 4}
DEFAULT_EPS = 1e-5
DEFAULT_GROUPS = 32


def register(rows: Iterable[Operator]) -> None:
    """Adds a plug-in's rows to the table. Raises ValueError for a name that is taken or not a plain lower-case identifier."""
    for row in rows:
        if not isinstance(row.name, str):
            raise ValueError(f"an operator needs a lower-case name of its own; received {row.name!r:.60}")
        if OPERATORS.get(row.name) == row:
            continue
        taken = row.name in OPERATORS or row.name in (*STATISTICS, *AXIS_SETS, "x", "y", "where", "lambda")
        if taken or keyword.iskeyword(row.name) or not row.name.isidentifier() or not row.name.isascii() or row.name != row.name.lower():
            raise ValueError(f"an operator needs a lower-case name of its own; received `{row.name[:40]}`{' (taken)' * taken}")
        OPERATORS[row.name] = row
