"""Facts against independent values: Gaussian moments, gains, criticality, shape, saved tensors, invariances."""

from __future__ import annotations

import math
import time

import pytest
import torch
from hypothesis import given, settings

from evosearch.compiler.module import compile_graph
from evosearch.language.formula import parse
from evosearch.language.graph import depends_on
from evosearch.language.operators import OPERATORS
from evosearch.meaning.explain import described, explain
from evosearch.meaning.facts import describe, nearest, novelty, saved_tensors
from evosearch.meaning.gaussian import edge_of_chaos, fixed_point, moments
from evosearch.meaning.shape import shape
from tests.strategies import graphs

# E f, E f^2, E f'^2 under N(0, 1), by high-precision quadrature outside this project
GOLDEN = [
    ("relu(x)", 0.3989422804, 0.5, 0.5),
    ("relu6(x)", 0.3989422802, 0.4999999981, 0.499999999),
    ("leaky_relu(x)", 0.3949528576, 0.50005, 0.50005),
    ("max(x, 0) + a * min(x, 0) where a: channel = 0.25", 0.2992067103, 0.53125, 0.53125),
    ("hardtanh(x)", 0.0, 0.516058551, 0.6826894921),
    ("hardsigmoid(x)", 0.5, 0.2776390911, 0.0277027851),
    ("x * step(abs(x) - 0.5)", 0.0, 0.9691404042, 0.6170750775),
    ("relu(x - 0.5) - relu(-x - 0.5)", 0.0, 0.4192785201, 0.6170750775),
    ("softsign(x)", 0.0, 0.1830140213, 0.2276713404),
    ("step(x)", 0.5, 0.5, 0.0),
    ("sigmoid(x)", 0.5, 0.2933790359, 0.0448362414),
    ("logsigmoid(x)", -0.8060591833, 0.9212459089, 0.2933790359),
    ("tanh(x)", 0.0, 0.3942944904, 0.4644029024),
    ("softplus(x)", 0.8060591833, 0.9212459089, 0.2933790359),
    ("0.5 * (x + sqrt(square(x) + 4))", 1.1093055138, 1.5, 0.2893153854),
    ("elu(x)", 0.1605205723, 0.6449454175, 0.6681020012),
    ("selu(x)", 0.0, 1.0, 1.0715749925),
    ("gelu(x)", 0.2820947918, 0.4252214826, 0.4558508656),
    ("min(max(gelu(x), -10), 10)", 0.2820947918, 0.4252214826, 0.4558508656),
    ("silu(x)", 0.2066209641, 0.3557755198, 0.3794823516),
    ("hardswish(x)", 0.1662167007, 0.3315673751, 0.3585315172),
    ("mish(x)", 0.2404038884, 0.4523421924, 0.4790837584),
    ("x * tanh(x)", 0.6057055096, 0.7578898667, 0.8657002194),
    ("x * tanh(log1p(sigmoid(x)))", 0.1200570227, 0.1583546579, 0.1675504174),
    ("x * tanh(gelu(x))", 0.3252833379, 0.3610534886, 0.4411801592),
    ("0.5 * (sqrt(square(x) + 1) - 1) + x", 0.1772654032, 1.0727345968, 1.0860801144),
    ("square(relu(x))", 0.5, 1.5, 2.0),
    ("symlog(x)", 0.0, 0.3868436014, 0.4127551003),
    ("relu(x) + 0.01 * x * exp(-0.5 * square(x))", 0.3989422804, 0.5035547789, 0.5035740239),
    ("relu(x - 1)", 0.0833154706, 0.0753397833, 0.1586552539),
    ("relu(x - 1) - relu(-x - 1)", 0.0, 0.1506795667, 0.3173105079),
    ("x + square(sin(x))", 0.4323323584, 1.3073742912, 1.4998322687),
    ("sin(x)", 0.0, 0.4323323584, 0.5676676416),
    ("sin(30 * x)", 0.0, 0.5, 450.0),
    ("sinc(x)", 0.3982719312, 0.3482816886, 0.8293543594),
    ("cos(x) - x", 0.6065306597, 1.5676676416, 1.4323323584),
    ("min(x, sin(x))", -0.1097975092, 0.7161661792, 0.7838338208),
    ("sin(x) / x + x", 0.8556243919, 1.7639556549, 1.0654293378),
    ("max(relu(x), cosh(elu(x)))", 1.3998351386, 2.7676787514, 1.6187226704),
    ("square(erfc(softplus(x)))", 0.1921799545, 0.0826119142, 0.0560573276),
    ("softplus(elu(x))", 0.8476273025, 0.9494663845, 0.265857675),
    ("gelu(x) + 0.1 * sin(x)", 0.2820947918, 0.4901978721, 0.522180608),
    ("1 / (1 + abs(x) ** 4)", 0.6767627067, 0.5746302684, 0.3496080056),
    ("tanh(0.5 * x)", 0.0, 0.1735161434, 0.1793449654),
    ("gelu(x) * (1 + 0.5 * sinc(x))", 0.2852028187, 0.4248549629, 0.4774824849),
    ("0.47140452079103168 * max(max(1, x + 1), max(2 * x + 1, 3 * x + 1))", 1.0355941043, 1.7541452628, 1.0),
    # by mpmath at 20 digits, split at the implicit kinks x = 0.659... and x = 1.0507...
    ("max(x, sigmoid(x))", 0.6253096605347, 0.6082038779899, 0.2916944871635),
    ("min(square(x), selu(x))", -0.0658670191204, 0.9457914857611, 1.1293088891001),
    # by mpmath: a cusp of width 1e-12
    ("sign(0.5 * x) * -expm1(-sqrt(abs(0.5 * x) + 1e-12))", 0.0, 0.1995878687935, 2.4775912279685),
    # closed forms: E |x|^(1/2) = 2^(1/4) Gamma(3/4) / sqrt(pi), E |x| = sqrt(2 / pi), E exp(2 x) = e^2
    ("sqrt(abs(x))", 0.8221789586624, 0.7978845608029, math.inf),
    ("exp(x)", 1.6487212707001, 7.3890560989307, 7.3890560989307),
    ("exp(square(x))", math.inf, math.inf, math.inf),
    ("exp(0.1 * square(x))", 1.1180339887499, 1.2909944487358, 0.08606629658239),
    ("1 / x", math.nan, math.inf, math.inf),
    ("cube(x)", 0.0, 15.0, 27.0),
    ("sin(100 * x)", 0.0, 0.5, 5000.0),
    ("log(x)", math.nan, math.nan, math.nan),
    ("0 * x + 2", 2.0, 4.0, 0.0),
]


@pytest.mark.parametrize(("text", "mean", "square", "slope_square"), GOLDEN)
def test_gaussian_moments(text, mean, square, slope_square):
    found = moments(parse(text))
    for value, expected in ((found.mean, mean), (found.square, square), (found.slope_square, slope_square)):
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 4.0), (0.7, 0.3), (-2.0, 9.0)])
def test_moments_under_another_gaussian_are_those_of_the_rescaled_function(mean, variance):
    found = moments(parse("relu(x)"), variance, mean)
    rescaled = moments(parse(f"relu({math.sqrt(variance)!r} * x + {mean})"))
    assert (found.mean, found.square) == pytest.approx((rescaled.mean, rescaled.square), abs=1e-9)
    assert found.slope_square * variance == pytest.approx(rescaled.slope_square, abs=1e-9)


# forward gain^2, backward gain^2, 1 / std f
GAINS = [("relu", 2, 2, 1.712859), ("elu", 1.550519, 1.496777, 1.270843), ("selu", 1, 0.933206, 1), ("gelu", 2.351716, 2.193700, 1.700926),
         ("silu", 2.810761, 2.635169, 1.787187), ("mish", 2.210716, 2.087318, 1.592025), ("tanh", 2.536175, 2.153303, 1.592537),
         ("sigmoid", 3.408560, 22.303386, 4.801313), ("softplus", 1.085487, 3.408560, 1.919126)]  # fmt: skip


@pytest.mark.parametrize(("name", "forward", "backward", "gamma"), GAINS)
def test_initialization_gains(name, forward, backward, gamma):
    found = moments(parse(f"{name}(x)"))
    assert found.gain_squared == pytest.approx(forward, abs=6e-7)
    assert found.gain**2 == pytest.approx(forward, abs=6e-7)
    assert found.backward_gain**2 == pytest.approx(backward, abs=6e-7)
    assert 1 / math.sqrt(found.variance) == pytest.approx(gamma, abs=6e-7)


def test_edge_of_chaos():
    relu, tanh, sigmoid = (edge_of_chaos(parse(f"{n}(x)")) for n in ("relu", "tanh", "sigmoid"))
    assert (relu.q, relu.weight_variance, relu.bias_variance) == pytest.approx((1, 2, 0))
    assert (tanh.q, tanh.weight_variance, tanh.bias_variance) == pytest.approx((1, 2.153303, 0.150965), abs=1e-6)
    there = moments(parse("sigmoid(x)"), sigmoid.q)  # none at q = 1: the equations hold where it was found
    assert sigmoid.q > 1
    assert sigmoid.weight_variance * there.slope_square == pytest.approx(1)
    assert sigmoid.weight_variance * there.square + sigmoid.bias_variance == pytest.approx(sigmoid.q)
    assert edge_of_chaos(parse("step(x)")) is None


def test_depth_scale_of_the_variance_preserving_initialization():
    assert moments(parse("relu(x)")).depth_scale == math.inf
    assert moments(parse("relu(x)")).phase == "critical"
    tanh, sigmoid = moments(parse("tanh(x)")), moments(parse("sigmoid(x)"))
    assert (tanh.phase, sigmoid.phase) == ("chaotic", "ordered")
    assert tanh.depth_scale == pytest.approx(1 / math.log(0.4644029024 / 0.3942944904), rel=1e-6)
    assert moments(parse("exp(x ** 2)")).phase == "undefined"


def test_self_normalizing_fixed_point():
    selu = fixed_point(parse("selu(x)"))
    assert (selu.variance, selu.mean) == pytest.approx((1, 0), abs=1e-9)
    assert selu.self_normalizing
    assert 0 < selu.rate < 1
    assert fixed_point(parse("relu(x)")) is None  # the variance dies out
    assert fixed_point(parse("x")) is None  # every variance is kept, none attracts
    biased = fixed_point(parse("selu(x) + 0.5"))
    assert biased.mean == pytest.approx(0.5, abs=1e-9)
    assert not biased.self_normalizing


# range, parity, monotonicity, kinks, zeros, Lipschitz bound and place
SHAPES = [
    ("relu(x)", (0, math.inf), "none", "increasing", [(0, "corner")], [(-math.inf, 0)], 1, (0, math.inf)),
    ("relu6(x)", (0, 6), "none", "increasing", [(0, "corner"), (6, "corner")], [(-math.inf, 0)], 1, (0, 6)),
    ("hardswish(x)", (-0.375, math.inf), "none", "no", [(-3, "corner"), (3, "corner")], [(-math.inf, -3), (0, 0)], 1.5, (3, 3)),
    ("gelu(x)", (-0.1699712075, math.inf), "none", "no", [], [(0, 0)], 1.1289041452, (math.sqrt(2), math.sqrt(2))),
    ("silu(x)", (-0.2784645428, math.inf), "none", "no", [], [(0, 0)], 1.0998393, (2.3993573, 2.3993573)),
    ("selu(x)", (-1.7580993408, math.inf), "none", "increasing", [(0, "corner")], [(0, 0)], 1.7580993408, (0, 0)),
    ("tanh(x)", (-1, 1), "odd", "increasing", [], [(0, 0)], 1, (0, 0)),
    ("softsign(x)", (-1, 1), "odd", "increasing", [(0, "curvature")], [(0, 0)], 1, (0, 0)),
    ("sigmoid(x)", (0, 1), "none", "increasing", [], [], 0.25, (0, 0)),
    ("softplus(x)", (0, math.inf), "none", "increasing", [], [], 1, None),
    ("gaussian(x)", (0, 1), "even", "no", [], [], math.sqrt(2 / math.e), (math.sqrt(0.5), math.sqrt(0.5))),
    ("abs(x)", (0, math.inf), "even", "no", [(0, "corner")], [(0, 0)], 1, (0, math.inf)),
    ("square(x)", (0, math.inf), "even", "no", [], [(0, 0)], math.inf, None),
    ("sqrt(abs(x))", (0, math.inf), "even", "no", [(0, "cusp")], [(0, 0)], math.inf, None),
    ("step(x) - 0.5", (-0.5, 0.5), "none", "increasing", [(0, "jump")], [], math.inf, None),
    ("1 / x", (-math.inf, math.inf), "odd", "no", [(0, "pole")], [], math.inf, None),
    ("sin(x) / x - 2", (-2.2172336282, -1), "even", "no", [(0, "hole")], [], 0.4361818, (2.0815758, 2.0815758)),
    ("relu(x - 0.3) - relu(-x - 0.3)", (-math.inf, math.inf), "odd", "increasing", [(-0.3, "corner"), (0.3, "corner")], [(-0.3, 0.3)], 1, (0.3, math.inf)),
    ("square(x - 0.3)", (0, math.inf), "none", "no", [], [(0.3, 0.3)], math.inf, None),
    ("max(x, sigmoid(x))", (0, math.inf), "none", "increasing", [(0.6590460684, "corner")], [], 1, (0.6590460684, math.inf)),
    ("exp(-x)", (0, math.inf), "none", "decreasing", [], [], math.inf, None),
    ("x - x", (0, 0), "even", "constant", [], [(-math.inf, math.inf)], 0, (-math.inf, math.inf)),
    ("x + square(sin(x))", (-math.inf, math.inf), "none", "increasing", [], [(0, 0)], 2, (math.pi / 4, math.pi / 4)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "span", "parity", "monotonic", "kinks", "zeros", "bound", "place"), SHAPES)
def test_shape(text, span, parity, monotonic, kinks, zeros, bound, place):
    found = shape(parse(text))
    assert (found.infimum, found.supremum) == pytest.approx(span, abs=1e-9)
    assert (found.parity, found.monotonic) == (parity, monotonic)
    assert [k.kind for k in found.kinks] == [kind for _, kind in kinks]
    assert [k.x for k in found.kinks] == pytest.approx([x for x, _ in kinks], abs=1e-10)
    assert len(found.zeros) == len(zeros)
    for ours, expected in zip(found.zeros, zeros, strict=True):
        assert ours == pytest.approx(expected, abs=1e-9)
    assert found.lipschitz == pytest.approx(bound, abs=1e-7)
    assert found.lipschitz_at == (None if place is None else pytest.approx(place, abs=1e-4))


# kind, slope, intercept, power on the left and on the right
TAILS = [
    ("gelu(x)", ("line", 0, 0, 0), ("line", 1, 0, 0)),
    ("softsign(x)", ("line", 0, -1, 0), ("line", 0, 1, 0)),
    ("x * atan(x)", ("line", -math.pi / 2, -1, 0), ("line", math.pi / 2, -1, 0)),
    ("1 - exp(-sqrt(abs(x)))", ("line", 0, 1, 0), ("line", 0, 1, 0)),
    ("0.5 * (x + sqrt(square(x) + 4))", ("line", 0, 0, 0), ("line", 1, 0, 0)),
    ("sin(x)", ("oscillation", 0, 0, 0), ("oscillation", 0, 0, 0)),
    ("x + square(sin(x))", ("oscillation", 1, 0.5, 0), ("oscillation", 1, 0.5, 0)),
    ("abs(sin(x)) + sin(30 * x)", ("oscillation", 0, 2 / math.pi, 0), ("oscillation", 0, 2 / math.pi, 0)),
    ("x * sin(x)", ("oscillation", 0, 0, 1), ("oscillation", 0, 0, 1)),
    ("sinc(x)", ("line", 0, 0, 0), ("line", 0, 0, 0)),
    ("cube(x)", ("power", 0, 0, 3), ("power", 0, 0, 3)),
    ("sqrt(x)", ("undefined", 0, 0, 0), ("power", 0, 0, 0.5)),
    ("asinh(x)", ("logarithm", 0, 0, 0), ("logarithm", 0, 0, 0)),
    ("exp(x)", ("line", 0, 0, 0), ("exponential", 0, 0, 0)),
    ("cosh(x)", ("exponential", 0, 0, 0), ("exponential", 0, 0, 0)),
]


@pytest.mark.parametrize(("text", "left", "right"), TAILS)
def test_asymptotes(text, left, right):
    found = shape(parse(text))
    for tail, (kind, slope, intercept, power) in ((found.left, left), (found.right, right)):
        assert tail.kind == kind
        assert (tail.slope, tail.intercept, tail.power) == pytest.approx((slope, intercept, power), abs=1e-3)


def test_saturation_and_where_nothing_is_finite():
    assert shape(parse("relu(x)")).saturates == ("left",)
    assert shape(parse("tanh(x)")).saturates == ("left", "right")
    assert shape(parse("symlog(x)")).saturates == ()
    far = shape(parse("exp(min(x, 80))"))
    assert [(k.x, k.kind) for k in far.kinks] == [(80.0, "corner")]
    assert far.supremum == pytest.approx(math.exp(80))
    assert shape(parse("log(x)")).nonfinite == ((-math.inf, 0.0),)
    ((low, high),) = shape(parse("exp(x)")).nonfinite
    assert (low, high) == pytest.approx((709.782712893384, math.inf))


def kept(layer, graph) -> int:
    """Distinct full-shape tensors that torch's autograd keeps for the plain form."""
    x, y = (torch.rand(2, 6, 5, 3, generator=torch.Generator().manual_seed(s)).add_(0.3).requires_grad_() for s in (0, 1))
    found: dict[int, torch.Tensor] = {}

    def pack(tensor):
        if tensor.numel() == x.numel():
            found.setdefault(tensor.data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer._plain(*([x, y] if depends_on(graph, "y") else [x]))
    return len(found)


SAVED = [
    "x + sin(x)", "2 * x", "x * x", "x * sigmoid(x)", "square(relu(x))", "exp(x) * sin(x)", "tanh(exp(x))", "x / (1 + abs(x))", "1.7 / x", "max(x, 0)",
    "0.5 * x * (1 + tanh(0.8 * (x + 0.04 * cube(x))))", "min(x, sin(x)) * sigmoid(x)", "x * tanh(softplus(x))", "x * sigmoid(y)", "gate(1.7, x)",
    "x ** 1.7", "1.7 ** x", "x ** p where p: layer = 2", "p / x where p: layer = 0.5", "x * sigmoid(v * x) where v: channel = 1",
    "(x - mean(x, layer)) / std(x, layer)", "(x - mean(x, batch)) / std(x, batch)", "x / rms(x, layer)",
    "x * sigmoid(v * x) / std(x, group) where v: channel = 1", "exp(x - max(x, row)) / sum(exp(x - max(x, row)), row)",
]  # fmt: skip


@pytest.mark.parametrize("text", SAVED)
def test_saved_tensors_are_what_torch_keeps(text):
    graph = parse(text)
    assert saved_tensors(graph).eager == kept(compile_graph(graph, 6), graph)


def test_saved_tensors_of_every_operator():
    """In the middle of others, so that inputs and results are not the layer's own."""
    for name, row in OPERATORS.items():
        if row.searchable:
            graph = parse(f"square({name}(sin(x)))" if row.arity == 1 else f"square({name}(sin(x), cos(x)))")
            assert saved_tensors(graph).eager == kept(compile_graph(graph), graph), name


def test_saved_tensors_of_the_lean_backward_are_the_inputs():
    assert saved_tensors(parse("mish(x) * sin(x)")).lean == 1
    assert saved_tensors(parse("x * sigmoid(y)")).lean == 2
    # a surrogate's plain form also runs the forward under autograd, whose tensors are freed at once: torch's hooks count 2
    assert saved_tensors(parse("relu(x) ~ relu(x + 0.1)")).eager == 1


# scale invariant, scale equivariant, shift invariant, samples independent, batch dependent
LAYERS = [
    ("(x - mean(x, batch)) / std(x, batch)", (True, False, True, False, True)),
    ("(x - mean(x, group)) / std(x, group)", (True, False, True, True, False)),
    ("x / rms(x, channel)", (True, False, False, True, False)),
    ("x - mean(x, instance)", (False, True, True, True, False)),
    ("x * sigmoid(v * x) / std(x, group) where v: channel = 1", (False, False, False, True, False)),
    ("x / max(std(x, batch, eps=1e-3), v * x + std(x, instance)) where v: channel = 1", (False, False, False, False, True)),
]


@pytest.mark.parametrize(("text", "expected"), LAYERS)
def test_invariances(text, expected):
    s = describe(parse(text)).statistics
    assert (s.scale_invariant, s.scale_equivariant, s.shift_invariant, s.samples_independent, s.batch_dependent) == expected


def test_statistics_name_their_axes_buffers_and_parameters():
    found = describe(parse("w * (x - mean(x, batch)) / std(x, batch) + b + rms(x, row) where w: channel = 1, b: layer = 0"))
    assert found.statistics.axes == ("batch", "row")
    assert found.statistics.buffers == ("mean of x", "variance of x")
    assert found.parameters == (("channel", 1), ("layer", 1))
    assert found.shape is None


def test_a_surrogate_has_the_facts_of_its_forward_and_the_moments_of_its_gradient():
    found = describe(parse("relu(x) ~ relu(x + 0.05)"))
    assert found.moments == moments(parse("relu(x)"))
    assert found.surrogate_moments.slope_square == pytest.approx(0.5199388, abs=1e-6)


def test_the_nearest_known_functions_leave_out_the_function_itself():
    found = describe(parse("x * tanh(softplus(x))"))
    assert found.novelty.nearest == "mish"
    assert "mish" not in {n.name for n in found.nearest}
    assert [n.distance for n in found.nearest] == sorted(n.distance for n in found.nearest)
    assert nearest(parse("2.5 * tanh(0.3 * x)"), 1)[0].distance < 1e-6


@given(graphs())
@settings(max_examples=12)
def test_any_graph_has_facts(graph):
    found = describe(graph)
    assert all(label and text for label, text in described(found))
    assert found.shape is not None
    assert found.shape.infimum <= found.shape.supremum or math.isnan(found.shape.infimum)


@given(graphs(statistics=True))
@settings(max_examples=20)
def test_any_layer_has_facts(graph):
    assert all(label and text for label, text in described(describe(graph)))


@pytest.mark.parametrize("text", ["2", "log(x - x)", "exp(exp(exp(x)))", "1 / sin(x)", "sin(exp(x))", "x ** 64", "sqrt(x) ~ x", "y", "signed_log(x)", "x ** x"])
def test_awkward_functions_have_facts(text):
    assert dict(described(describe(parse(text))))["cost"]


def test_describe_is_quick():
    describe(parse("gelu(x)"))  # the known curves are computed once
    start = time.process_time()
    describe(parse("x * tanh(softplus(x)) + 0.1 * sin(x)"))
    assert time.process_time() - start < 1.0


def test_explain_says_it_in_labeled_lines():
    lines = dict(explain(parse("selu(x)")))
    assert lines["fixed point"].endswith("self-normalizing")
    assert lines["range"] == "-1.7581 to inf  (unbounded above)"
    assert lines["saved"].startswith("1 per element in eager autograd, 1 in the lean")
    lines = dict(described(describe(parse("x / rms(x, channel)"))))
    assert lines["scaling"].startswith("x -> 3 x: invariant")
    assert lines["buffers"] == "none"


@pytest.mark.parametrize(
    ("text", "name"),
    [("silu(x) * y", "swiglu"), ("y * sigmoid(x)", "glu"), ("(x - mean(x, batch)) / std(x, batch)", "batch_norm"),
     ("(x - mean(x, layer)) / std(x, layer)", "layer_norm_chw"), ("relu((x - mean(x, batch)) / std(x, batch))", "bn_relu")],
)  # fmt: skip
def test_conventions_do_not_make_a_layer_new(text, name):
    found = novelty(parse(text))
    assert (found.label, found.nearest) == ("known", name)


@pytest.mark.parametrize("text", ["min(relu(x), 20)", "relu(x) * step(7 - x)", "max(x, -25)", "sin(0.01 * x)", "x - x"])
def test_what_agrees_near_zero_only_is_not_rescaled(text):
    assert novelty(parse(text)).label == "new"


def test_a_gate_from_other_samples_is_seen():
    assert not describe(parse("x - mean(y, batch)")).statistics.samples_independent
