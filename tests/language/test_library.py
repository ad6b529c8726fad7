"""Known layers equal the published code's values, are finite in float32, and are differentiated rightly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

import evosearch
from evosearch.language.formula import parse
from evosearch.language.graph import Axes, Graph, depends_on, make, parameters, statistic, walk
from evosearch.language.library import KnownLayer, known, library, unsayable
from evosearch.language.operators import OPERATORS
from evosearch.meaning.derive import bind, derivative, has_statistics
from evosearch.meaning.numeric import equal, evaluate

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "data" / "golden_layers.json").read_text())
CURVES = [record for record in GOLDEN if "checks" in record]
TENSORS = [record for record in GOLDEN if "check_value" in record]
ELEMENTWISE = [layer for layer in library().values() if not has_statistics(layer.graph) and not depends_on(layer.graph, "y")]
GRID = [0.0, *(sign * size for size in (1e4, 100.0, 89.0, 30.0, 1.0, 1e-8) for sign in (1, -1))]
TOLERANCE = {"rms_norm_torch": 1e-6}  # the published epsilon depends on the dtype


def names(records: list[Any]) -> list[str]:
    return [record["name"] if isinstance(record, dict) else record.name for record in records]


def compiled(layer: KnownLayer, graph: Graph, channels: int, channel_dim: int = 1) -> torch.nn.Module:
    """The layer as its users get it, in training mode."""
    options = {"affine": layer.affine, "tracked_variance": layer.tracked_variance}
    return evosearch.compile(str(graph), channels, channel_dim, **options)


def exact(layer: KnownLayer, graph: Graph, channels: int, channel_dim: int = 1) -> torch.nn.Module:
    """The same in float64: parameters that were made in float32 start where the formula says."""
    module = compiled(layer, graph, channels, channel_dim).double()
    with torch.no_grad():
        for p in parameters(graph):
            getattr(module, p.name).fill_(p.init)
    return module


def at(name: str, **initial: float) -> Graph:
    """The layer with some parameters declared to start elsewhere; names are those of the library's formula."""
    formula = known(name).formula
    for parameter, value in initial.items():
        formula, count = re.subn(rf"(\b{parameter}: \w+ = )[-.e0-9]+", rf"\g<1>{value}", formula)
        assert count == 1, f"{name} has no parameter {parameter}"
    return parse(formula)


def graph_of(record: dict[str, Any]) -> Graph:
    return with_groups(at(record["name"], **record.get("check_params", {})), record.get("groups"))


def with_groups(graph: Graph, groups: int | None) -> Graph:
    built: dict[Graph, Graph] = {}
    for node in walk(graph):
        args = tuple(built[a] for a in node.args)
        if isinstance(node.value, Axes) and node.value.groups and groups:
            built[node] = statistic(node.op, args[0], "group", node.value.eps, groups)
        else:
            built[node] = make(node.op, *args, value=node.value)
    return built[graph]


# elementwise layers: values, moments under N(0, 1), finiteness, derivatives


@pytest.mark.parametrize("record", CURVES, ids=names(CURVES))
def test_a_curve_has_its_published_values(record):
    x, expected = np.array(record["checks"]).T
    graph = graph_of(record)
    np.testing.assert_allclose(evaluate(graph, {"x": x}), expected, rtol=1e-7, atol=1e-12)
    value = exact(known(record["name"]), graph, 1)(torch.tensor(x).reshape(-1, 1))
    np.testing.assert_allclose(value.detach().numpy().ravel(), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("record", [r for r in CURVES if "gauss" in r], ids=lambda r: r["name"])
def test_a_curve_has_its_published_gaussian_moments(record):
    t = np.arange(-2.3, 2.3, 4e-5) + 2e-5
    x, graph = t**3, graph_of(record)  # dense at 0, where some slopes are infinite
    weight = np.exp(-np.square(x) / 2) * 3 * np.square(t) * 4e-5 / np.sqrt(2 * np.pi)
    value = graph.args[0] if graph.op == "surrogate" else graph  # the published moments are those of the forward
    f, slope = evaluate(value, {"x": x}), evaluate(derivative(value), {"x": x})
    moments = {"mean": f, "second_moment": np.square(f), "deriv_second_moment": np.square(slope)}
    for name, expected in record["gauss"].items():
        np.testing.assert_allclose((weight * moments[name]).sum(), expected, rtol=4e-4, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=names(ELEMENTWISE))
def test_value_and_gradient_are_finite_in_float32(layer):
    x = torch.tensor(GRID).reshape(-1, 1).requires_grad_()
    module = compiled(layer, layer.graph, 1)
    value = module(x)
    assert torch.isfinite(value).all()
    for gradient in torch.autograd.grad(value.sum(), [x, *module.parameters()]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=names(ELEMENTWISE))
def test_the_gradient_is_the_slope_away_from_kinks(layer):
    if layer.graph.op == "surrogate":
        pytest.skip("the gradient is that of another function by design")
    module = exact(layer, layer.graph, 1)
    given = dict(module.named_parameters())

    def function(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = functional_call(module, dict(zip(given, weights, strict=True)), (x,))
        return out

    x = torch.tensor([-6.37, -2.71, -1.23, -0.61, -0.17, 0.13, 0.43, 0.77, 1.57, 2.3, 7.1], dtype=torch.float64)
    # a parameter may start at a kink of its own: it is moved off there
    weights = [(p.detach() + 0.0137 * (1 + p.detach().abs())).requires_grad_() for p in given.values()]
    assert torch.autograd.gradcheck(function, (x.reshape(-1, 1).requires_grad_(), *weights), atol=1e-6, rtol=1e-4)


def test_ties_have_the_slope_of_the_published_code():
    ties = {"relu": [(0, 0)], "relu6": [(0, 0), (6, 0)], "leaky_relu": [(0, 0.01)], "elu": [(0, 1)], "hardtanh": [(-1, 0), (1, 0)]}
    ties |= {"smelu": [(-1, 0), (0, 0.5), (1, 1)], "smelu_2": [(-2, 0), (0, 0.5), (2, 1)], "helu": [(0, 1), (-0.1, 0)]}
    for name, places in ties.items():
        x = torch.tensor([float(place) for place, _ in places]).reshape(-1, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(compiled(known(name), known(name).graph, 1)(x).sum(), x)
        np.testing.assert_allclose(gradient.ravel().numpy(), [slope for _, slope in places], rtol=1e-6, err_msg=name)


# the stable form in the library is the plain one of the paper, where that one is finite
PLAIN = {
    "thresholded_relu": lambda x: F.threshold(x, 1.0, 0.0),
    "tanhshrink": F.tanhshrink,
    "celu": F.celu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "nlrelu": lambda x: torch.log(1 + F.relu(x)),
    "elish": lambda x: torch.where(x < 0, torch.exp(x) - 1, x) / (1 + torch.exp(-x)),
    "hard_elish": lambda x: torch.where(x < 0, torch.exp(x) - 1, x) * ((x + 1) / 2).clamp(0, 1),
    "isrlu": lambda x: torch.where(x < 0, x / torch.sqrt(1 + x**2), x),
    "isru": lambda x: x / torch.sqrt(1 + x**2),
    "penalized_tanh": lambda x: torch.where(x > 0, torch.tanh(x), 0.25 * torch.tanh(x)),
    "lecun_tanh": lambda x: 1.7159 * torch.tanh(2 * x / 3),
    "hard_sigmoid_keras2": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "hard_sigmoid_elish": lambda x: ((x + 1) / 2).clamp(0, 1),
    "sqnl": lambda x: torch.where(x.abs() > 2, torch.sign(x), x - torch.sign(x) * x**2 / 4),
    "symexp": lambda x: torch.sign(x) * (torch.exp(x.abs()) - 1),
    "laplace": lambda x: 0.5 * (1 + torch.erf((x - 0.5**0.5) / ((1 / (4 * torch.pi)) ** 0.5 * 2**0.5))),
    "dsilu": lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))),
    "hard_mish": lambda x: 0.5 * x * (x + 2).clamp(0, 2),
    "tanhsoft_1": lambda x: torch.tanh(0.87 * x) * torch.log(1 + torch.exp(x)),
    "tanh_exp": lambda x: x * torch.tanh(torch.exp(x)),
    "serf": lambda x: x * torch.erf(torch.log(1 + torch.exp(x))),
    "logish": lambda x: x * torch.log(1 + torch.sigmoid(x)),
    "gish": lambda x: x * torch.log(2 - torch.exp(-torch.exp(x))),
    "golu": lambda x: x * torch.exp(-torch.exp(-x)),
    "colu": lambda x: x / (1 - x * torch.exp(-(x + torch.exp(x)))),
    "atlu": lambda x: x * (torch.atan(x) + torch.pi / 2) / torch.pi,
    "smu": lambda x: (1.25 * x + 0.75 * x * torch.erf(1e6 * 0.75 * x)) / 2,
    "sinc_unnormalized": lambda x: torch.sin(x) / x,
    "derf": lambda x: torch.erf(0.5 * x),
    "dy_expsign": lambda x: torch.sign(x) * (1 - torch.exp(-(0.5 * x).abs())),
    "rama_x_asinh2": lambda x: x * torch.asinh(x) ** 2,
    "max_tanh": lambda x: torch.maximum(x, torch.tanh(x)),
    "layer_norm_2d": lambda x: F.layer_norm(x.movedim(1, -1), (4,), eps=1e-6).movedim(-1, 1),
    "layer_norm_chw": lambda x: F.layer_norm(x, (4, 3, 2)),
    "positional_norm": lambda x: F.layer_norm(x.movedim(1, -1), (4,)).movedim(-1, 1),
    "pixel_norm": lambda x: x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-8),
    "mean_only_batch_norm": lambda x: x - x.mean((0, 2, 3), keepdim=True),
    "batch_instance_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "bn_relu": lambda x: F.relu(F.batch_norm(x, None, None, training=True)),
    "gn_relu": lambda x: F.relu(F.group_norm(x, 2)),
    "frn_relu": lambda x: F.relu(x / torch.sqrt((x**2).mean((2, 3), keepdim=True) + 1e-6)),
    "frn_tlu": lambda x: F.relu(x / torch.sqrt((x**2).mean((2, 3), keepdim=True) + 1e-6)),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "softmax_1": lambda x: torch.exp(x) / (1 + torch.exp(x).sum(-1, keepdim=True)),
    "solu": lambda x: x * torch.softmax(x, -1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_stable_form_equals_the_plain_one(name):
    x = torch.linspace(-6.03, 6.01, 48, dtype=torch.float64)[torch.randperm(48, generator=torch.Generator().manual_seed(0))]
    x = x.reshape(2, 4, 3, 2)
    layer = known(name)
    value = exact(layer, with_groups(layer.graph, 2), 4)(x)
    torch.testing.assert_close(value.detach(), PLAIN[name](x), rtol=1e-7, atol=1e-9)


# layers of tensors


def tensor(record: dict[str, Any]) -> np.ndarray:
    shape = {"T3": (2, 3, 4), "T4": (2, 4, 2, 2)}[record["check_x"]]
    i = np.arange(np.prod(shape))
    return (np.sin(i + 1.0) + 0.1 * ((7 * i) % 5)).reshape(shape)


def inputs_of(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inputs with channels first: a layer over the last axis sees it as channels, `attention` as the row, a gate halved."""
    x, layer = tensor(record), known(record["name"])
    if layer.kind == "gated":
        first, second = np.split(x, 2, axis=-1)
        return {"x": first, "y": second} if record["x_half"] == "first" else {"x": second, "y": first}
    return {"x": np.moveaxis(x, -1, 1) if over_channels(record) else x}


def over_channels(record: dict[str, Any]) -> bool:
    return record["check_x"] == "T3" and known(record["name"]).kind not in ("gated", "attention")


def assert_matches(record: dict[str, Any], value: np.ndarray) -> None:
    expected = record["check_value"]
    assert list(value.shape) == expected["shape"]
    found = [value.flat[0], value.flat[-1], value.sum(), np.square(value).sum()]
    tolerance = TOLERANCE.get(record["name"], 1e-7)
    np.testing.assert_allclose(found, [expected[k] for k in ("first", "last", "sum", "sumsq")], rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("record", TENSORS, ids=names(TENSORS))
def test_a_tensor_layer_has_its_published_values(record):
    inputs, layer, graph = inputs_of(record), known(record["name"]), graph_of(record)
    value = evaluate(graph, inputs)
    assert_matches(record, np.moveaxis(value, 1, -1) if over_channels(record) else value)
    if over_channels(record):
        module, arguments = exact(layer, graph, 4, -1), [torch.tensor(tensor(record))]
    else:
        module, arguments = exact(layer, graph, inputs["x"].shape[1]), [torch.tensor(inputs[name]) for name in inputs]
    assert_matches(record, module(*arguments).detach().numpy())
    for name in ("running_mean", "running_var"):
        if name in record:
            np.testing.assert_allclose(getattr(module, name).numpy(), record[name], rtol=1e-7)


@pytest.mark.parametrize("layer", [v for v in library().values() if v not in ELEMENTWISE], ids=lambda v: v.name)
def test_a_tensor_layer_is_finite_and_differentiated_rightly(layer):
    gated = depends_on(layer.graph, "y")
    module = exact(layer, with_groups(layer.graph, 2), 4)
    i = torch.arange(64, dtype=torch.float64)
    x = (1.3 * torch.sin(2.3 * i + 0.4) + 0.21 * torch.cos(i)).reshape(2, 4, 4, 2).requires_grad_()
    both = (x, (0.7 * x.detach().flip(0) + 0.3).requires_grad_()) if gated else (x,)
    assert torch.autograd.gradcheck(module, both, atol=1e-6, rtol=1e-4)
    module = module.float()
    for case in (torch.zeros(2, 4, 4, 2), torch.full((2, 4, 4, 2), -100.0), 30 * x.detach().float()):
        leaf = case.clone().requires_grad_()
        value = module(*(leaf for _ in both))
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()


# what is one function and what is not

# what is one function and what is not


def ones(name: str) -> Graph:
    return bind(at(name), {p.name: 1.0 for p in parameters(at(name))})


TROPICAL = "0.47140452079103173 * max(max(1, x + 1), max(2 * x + 1, 3 * x + 1))"
SAME = {
    "silu = swish(1)": ("silu", "swish"),
    "silu = ACON-A": ("silu", "acon_a"),
    "silu = AGLU(1, 1)": ("silu", ones("aglu")),
    "silu = ACON-C(1, 0, 1)": ("silu", at("acon_c", p=1, q=0)),
    "gelu = SMU(0, sqrt(1/2))": ("gelu", "0.5 * (x + x * erf(0.7071067811865476 * x))"),
    "tanh = tempered sigmoid(2, 2, 1)": ("tanh", "tempered_sigmoid"),
    "tanh = the unified function": ("tanh", "mittag_leffler_unified_tanh"),
    "sigmoid = APA(1, 1)": ("sigmoid", ones("apa")),
    "sigmoid = tempered sigmoid(1, 1, 0)": ("sigmoid", "1 * sigmoid(1 * x) - 0"),
    "TeLU = TanhExp": ("telu", "tanh_exp"),
    "TanhExp = TanhSoft-2(1, 1)": ("tanh_exp", ones("tanhsoft_2")),
    "softplus = PANGAEA ResNet-v1(1, 1, 1)": ("softplus", "pangaea_resnet_v1"),
    "squared ReLU = StarReLU(1, 0)": ("squared_relu", "star_relu"),
    "squared ReLU = PolyReLU(0, 1, 0)": ("squared_relu", at("poly_relu", p=0, q=1, r=0)),
    "snake(1)": ("snake", "snake_learned"),
    "snake(1) = snake_beta(1, 1)": ("snake", "snake_beta"),
    "snake(1) = x + sin(x)^2": ("snake", "x + sin(x) * sin(x)"),
    "smelu(1) = sparse_plus": ("smelu", "sparse_plus"),
    "hardtanh = linear_clip": ("hardtanh", "linear_clip"),
    "softsign = smoothsign": ("softsign", "smoothsign"),
    "softsign = smoothsign_clip": ("softsign", "smoothsign_clip"),
    "softshrink = soft_threshold": ("softshrink", "x - max(min(x, 0.5), -0.5)"),
    "soft_threshold = softshrink": ("soft_threshold", "x - max(min(x, 1), -1)"),
    "quick_gelu = swish(1.702)": ("quick_gelu", at("swish", b=1.702)),
    "relu = CRReLU(0)": ("relu", at("crrelu", e=0)),
    "relu = an affine tropical polynomial": ("relu", f"({TROPICAL} - 0.47140452079103173) / 1.4142135623730951"),
    "elu = celu": ("elu", "celu"),
    "xSiLU(0), xGELU(0), xATLU(0)": ("xsilu", "silu"),
    "xGELU(0) = gelu": ("xgelu", "gelu"),
    "xATLU(0) = atlu": ("xatlu", "atlu"),
    "EvoNorm-S1 = S0 at v = 1": ("evonorm_s1", "evonorm_s0"),
    "ScaleNorm(1) = simple RMSNorm": ("scale_norm", "simple_rms_norm"),
}  # fmt: skip
APART = [
    ("relu", "helu"), ("gelu", "gelu_tanh"), ("gelu", "quick_gelu"), ("relu", "relu6"), ("gelu", "gelu_10"),
    ("hardsigmoid", "hard_sigmoid_keras2"), ("hardsigmoid", "hard_sigmoid_elish"), ("hard_sigmoid_keras2", "hard_sigmoid_elish"),
    ("sinc", "sinc_unnormalized"), ("rational_a", "rational_b"), ("rational_b", "rational_c"), ("rational_a", "rational_c"),
    ("kat_gelu", "gelu"), ("kat_swish", "kat_gelu"), ("kat_swish", "silu"), ("softmax", "softmax_1"), ("swiglu", "geglu"),
    ("evonorm_b0", "evonorm_b0_official"), ("evonorm_s0", "evonorm_s0a"), ("batch_norm", "instance_norm"),
]  # fmt: skip


def at_start(named: str | Graph) -> Graph:
    """A layer by name, a formula or a graph, with its parameters as numbers."""
    if isinstance(named, str):
        named = at(named) if named.isidentifier() else parse(named)
    return bind(named)


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_one_function_under_several_names_merges(pair):
    assert equal(at_start(pair[0]), at_start(pair[1]))


@pytest.mark.parametrize("pair", APART, ids=" / ".join)
def test_functions_that_look_alike_stay_apart(pair):
    assert not equal(at_start(pair[0]), at_start(pair[1]))


def test_group_norm_with_one_group_is_layer_norm_over_channels_and_places():
    x = tensor({"check_x": "T4"})
    one_group = evaluate(with_groups(at("group_norm"), 1), {"x": x})
    np.testing.assert_allclose(one_group, evaluate(at("layer_norm_chw"), {"x": x}), rtol=1e-12)


# the table itself


def test_the_library_is_large_and_every_name_is_one_layer():
    assert len(library()) >= 120
    spoken = [*library(), *(alias for layer in library().values() for alias in layer.aliases), *unsayable()]
    assert len(spoken) == len(set(spoken))
    assert all(known(alias) is layer for layer in library().values() for alias in (layer.name, *layer.aliases))


@pytest.mark.parametrize("layer", library().values(), ids=lambda layer: layer.name)
def test_a_kind_is_what_the_formula_says(layer):
    statistics, gated, rowwise = has_statistics(layer.graph), depends_on(layer.graph, "y"), has_statistics(layer.graph, "row")
    channels = any(p.kind == "channel" for p in parameters(layer.graph))
    assert layer.source
    assert gated is (layer.kind == "gated")
    assert rowwise is (layer.kind == "attention")
    assert statistics is (layer.kind in ("norm_activation", "attention") or (layer.kind == "normalization" and statistics))
    assert layer.kind != "normalization" or statistics or channels
    assert not layer.affine or layer.kind == "norm_activation"
    assert layer.tracked_variance == "unbiased" or (layer.tracked_variance == "biased" and has_statistics(layer.graph, "batch"))
    assert not layer.without_activation or parse(layer.without_activation) is not layer.graph


def test_every_golden_record_is_of_a_known_layer():
    assert len(GOLDEN) >= 120
    assert all(("checks" in record) != ("check_value" in record) for record in GOLDEN)
    assert all(known(record["name"]) for record in GOLDEN)
    assert not set(OPERATORS) & set(unsayable())


def test_what_cannot_be_said_has_a_reason():
    with pytest.raises(ValueError, match="cannot say `gdn`: a C x C matrix parameter"):
        known("gdn")
    with pytest.raises(ValueError, match="did you mean `evonorm_b0"):
        known("evonrm_b0")
    assert known("simple_gate").formula == "x * y"


def test_what_is_left_without_the_activation():
    assert parse(known("bn_relu").without_activation) is known("batch_norm").graph
    assert parse(known("frn_tlu").without_activation) is known("frn").graph
    assert [known(f"evonorm_{v}").without_activation for v in ("b0", "s0", "s2")] == ["x", "x", "x"]
    assert known("evonorm_s2a").without_activation == "x / rms(x, group, eps=1e-3)"
    assert known("evonorm_b0_official").tracked_variance == "biased"
