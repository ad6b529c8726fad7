"""THE operator table: one row adds an operator to the language, the compiler, the search and the reports.

Columns of a row, all of them text except the cost:

- ``torch``: the emitted expression; ``{a}``, ``{b}`` are the inputs. Always the numerically stable form.
- ``numpy`` and ``sympy``: a function of that library (``special.`` is scipy.special), or a formula over ``a``, ``b`` in our own language.
- ``derivative``: the partial derivative for each input, a formula over ``a``, ``b`` and the value ``f``. At a kink it is the
  gradient that torch's own operator has there, because eager training must equal the lean backward.
- ``cost``: integer, roughly nanoseconds per 10 elements of the float32 forward on one core; deterministic, so that it may steer a search.
- ``smooth``: whether all derivatives exist everywhere on the domain.
"""

from __future__ import annotations

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
    latex: str
    smooth: bool = True
    commutative: bool = False
    searchable: bool = True


def _unary(
    name: str, torch: str, numpy: str, sympy: str, derivative: str, cost: int, latex: str = "", *, smooth: bool = True
) -> Operator:
    shown = latex or rf"\operatorname{{{{{name.replace('_', ' ')}}}}}\left({{a}}\right)"
    return Operator(name, 1, torch, numpy, sympy, (derivative,), cost, shown, smooth)


_SELU_SCALE, _SELU_ALPHA = "1.0507009873554805", "1.6732632423543772"

_ROWS = (
    # arithmetic
    Operator("add", 2, "{a} + {b}", "add", "Add", ("1", "1"), 1, "{a} + {b}", commutative=True),
    Operator("sub", 2, "{a} - {b}", "subtract", "a + -1 * b", ("1", "-1"), 1, "{a} - {b}"),
    Operator("mul", 2, "{a} * {b}", "multiply", "Mul", ("b", "a"), 1, r"{a} \, {b}", commutative=True),
    Operator("div", 2, "{a} / {b}", "divide", "a * b ** -1", ("1 / b", "-f / b"), 2, r"\frac{{{a}}}{{{b}}}", smooth=False),
    Operator("pow", 2, "torch.pow({a}, {b})", "power", "Pow", ("b * a ** (b - 1)", "f * log(a)"), 12, "{{{a}}}^{{{b}}}", smooth=False),
    Operator("max", 2, "torch.maximum({a}, {b})", "maximum", "Max", ("greater(a, b)", "greater(b, a)"), 1,
             r"\max\left({a}, {b}\right)", smooth=False, commutative=True),
    Operator("min", 2, "torch.minimum({a}, {b})", "minimum", "Min", ("greater(b, a)", "greater(a, b)"), 1,
             r"\min\left({a}, {b}\right)", smooth=False, commutative=True),
    Operator("greater", 2, "0.5 * (({a} > {b}).to({x}.dtype) + ({a} >= {b}).to({x}.dtype))", "(step(a - b) + 1 - step(b - a)) / 2",
             "(step(a - b) + 1 - step(b - a)) / 2", ("0", "0"), 3, r"\left[{a} > {b}\right]", smooth=False, searchable=False),
    _unary("neg", "-{a}", "negative", "-1 * a", "-1", 1, "-{a}"),
    # powers, roots, exponentials, logarithms
    _unary("abs", "torch.abs({a})", "abs", "Abs", "sign(a)", 1, r"\left|{a}\right|", smooth=False),
    _unary("sign", "torch.sign({a})", "sign", "sign", "0", 1, smooth=False),
    _unary("step", "({a} > 0).to({x}.dtype)", "(sign(a) + abs(sign(a))) / 2", "(sign(a) + abs(sign(a))) / 2", "0", 2, smooth=False),
    _unary("square", "torch.square({a})", "square", "a ** 2", "2 * a", 1, "{{{a}}}^{{2}}"),
    _unary("cube", "{a} * torch.square({a})", "a * a * a", "a ** 3", "3 * square(a)", 2, "{{{a}}}^{{3}}"),
    _unary("reciprocal", "torch.reciprocal({a})", "reciprocal", "a ** -1", "-square(f)", 2, r"\frac{{1}}{{{a}}}", smooth=False),
    _unary("sqrt", "torch.sqrt({a})", "sqrt", "sqrt", "0.5 / f", 2, r"\sqrt{{{a}}}", smooth=False),
    _unary("exp", "torch.exp({a})", "exp", "exp", "f", 5, "e^{{{a}}}"),
    _unary("expm1", "torch.expm1({a})", "expm1", "exp(a) - 1", "exp(a)", 6, "e^{{{a}}} - 1"),
    _unary("log", "torch.log({a})", "log", "log", "1 / a", 5, r"\log\left({a}\right)", smooth=False),
    _unary("log1p", "torch.log1p({a})", "log1p", "log(1 + a)", "1 / (1 + a)", 6, r"\log\left(1 + {a}\right)", smooth=False),
    _unary("symlog", "torch.sign({a}) * torch.log1p(torch.abs({a}))", "sign(a) * log1p(abs(a))", "sign(a) * log(1 + abs(a))",
           "1 / (1 + abs(a))", 9, smooth=False),
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
    _unary("gaussian", "torch.exp(-torch.square({a}))", "exp(-square(a))", "exp(-1 * a ** 2)", "-2 * a * f", 6, "e^{{-{{{a}}}^2}}"),
    # sigmoidal
    _unary("sigmoid", "torch.sigmoid({a})", "special.expit", "(1 + exp(-1 * a)) ** -1", "f * (1 - f)", 6, r"\sigma\left({a}\right)"),
    _unary("logsigmoid", "F.logsigmoid({a})", "special.log_expit", "-1 * log(1 + exp(-1 * a))", "sigmoid(-a)", 9,
           r"\log\sigma\left({a}\right)"),
    _unary("softplus", "F.softplus({a})", "max(a, 0) + log1p(exp(-abs(a)))", "log(1 + exp(a))", "sigmoid(a)", 9),
    _unary("softsign", "{a} / (1.0 + torch.abs({a}))", "a / (1 + abs(a))", "a * (1 + abs(a)) ** -1", "1 / square(1 + abs(a))", 4, smooth=False),
    _unary("hardtanh", "F.hardtanh({a})", "max(min(a, 1), -1)", "max(min(a, 1), -1)", "step(a + 1) * step(1 - a)", 2, smooth=False),
    _unary("hardsigmoid", "F.hardsigmoid({a})", "max(min(a / 6 + 0.5, 1), 0)", "max(min(a / 6 + 1 / 2, 1), 0)",
           "step(a + 3) * step(3 - a) / 6", 2, smooth=False),
    # rectifiers and self-gated units
    _unary("relu", "F.relu({a})", "max(a, 0)", "max(a, 0)", "step(a)", 1, smooth=False),
    _unary("relu6", "F.relu6({a})", "max(min(a, 6), 0)", "max(min(a, 6), 0)", "step(a) * step(6 - a)", 2, smooth=False),
    _unary("leaky_relu", "F.leaky_relu({a}, 0.01)", "max(a, 0.01 * a)", "max(a, 0.01 * a)", "0.01 + 0.99 * step(a)", 1, smooth=False),
    _unary("elu", "F.elu({a})", "max(a, 0) + expm1(min(a, 0))", "max(a, 0) + exp(min(a, 0)) - 1", "exp(min(a, 0))", 7, smooth=False),
    _unary("selu", "F.selu({a})", f"{_SELU_SCALE} * (max(a, 0) + {_SELU_ALPHA} * expm1(min(a, 0)))",
           f"{_SELU_SCALE} * (max(a, 0) + {_SELU_ALPHA} * (exp(min(a, 0)) - 1))",
           f"{_SELU_SCALE} * (step(a) + (1 - step(a)) * {_SELU_ALPHA} * exp(min(a, 0)))", 7, smooth=False),
    _unary("gelu", "F.gelu({a})", "0.5 * a * erfc(-0.7071067811865476 * a)", "a * (1 + erf(a * sqrt(2) / 2)) / 2",
           "0.5 * erfc(-0.7071067811865476 * a) + 0.3989422804014327 * a * exp(-0.5 * square(a))", 8),
    _unary("silu", "F.silu({a})", "a * sigmoid(a)", "a * (1 + exp(-1 * a)) ** -1", "sigmoid(a) * (1 + a * sigmoid(-a))", 7),
    _unary("mish", "F.mish({a})", "a * tanh(softplus(a))", "a * tanh(log(1 + exp(a)))",
           "tanh(softplus(a)) + a * sigmoid(a) * (1 - square(tanh(softplus(a))))", 18),
    _unary("hardswish", "F.hardswish({a})", "a * hardsigmoid(a)", "a * max(min(a / 6 + 1 / 2, 1), 0)",
           "hardsigmoid(a) + a * step(a + 3) * step(3 - a) / 6", 3, smooth=False),
)  # fmt: skip

OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}

STATISTICS = ("mean", "var", "std", "rms")
AXIS_SETS = ("batch", "instance", "layer", "group", "channel")
STATISTIC_COST = {"mean": 4, "var": 8, "std": 9, "rms": 7}
DEFAULT_EPS = 1e-5
DEFAULT_GROUPS = 32
