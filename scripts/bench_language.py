"""What the language promises, measured: equality on published spaces, fingerprint cost beside sympy, the lean backward beside eager.

    python scripts/bench_language.py [equality | fingerprint | lean | refusal]

Correctness is checked before anything is timed. Times are medians of interleaved runs on one thread, with their quartiles.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph
from evosearch.language.operators import OPERATORS
from evosearch.meaning.numeric import equal, evaluate_all, fingerprints
from evosearch.space.operators import OperatorSpace

if TYPE_CHECKING:
    import torch

# AQuaSurF's 27 unary and 7 binary operators (arXiv 2301.05785); its hard_sigmoid is Keras 2's
UNARY = (
    "0", "1", "x", "-x", "abs(x)", "reciprocal(x)", "square(x)", "exp(x)", "erf(x)", "erfc(x)", "sinh(x)", "cosh(x)", "tanh(x)", "expm1(x)",
    "sigmoid(x)", "logsigmoid(x)", "asinh(x)", "atan(x)", "i0e(x)", "i1e(x)", "relu(x)", "elu(x)", "selu(x)", "silu(x)", "softplus(x)",
    "softsign(x)", "max(min(0.2 * x + 0.5, 1), 0)",
)  # fmt: skip
BINARY = ("({}) + ({})", "({}) - ({})", "({}) * ({})", "({}) / ({})", "({}) ** ({})", "max({}, {})", "min({}, {})")
LAYERS = {
    "10-op activation": "tanh(x) * sin(x) + sigmoid(x * x) * exp(-square(x)) + erf(x) * cos(x)",
    "EvoNorm-S0": "x * sigmoid(v * x) / std(x, group) where v: channel = 1",
    "EvoNorm-B0": "x / max(std(x, batch, eps=1e-3), v * x + std(x, instance, eps=1e-3)) where v: channel = 1",
}


def classes(graphs: list[Graph]) -> list[list[Graph]]:
    """Graphs grouped by fingerprint, then split by dense confirmation."""
    buckets: dict[bytes | None, list[list[Graph]]] = {}
    for graph, key in zip(graphs, fingerprints(graphs), strict=True):
        found = buckets.setdefault(key, [])
        for members in found:
            if equal(graph, members[0]):
                members.append(graph)
                break
        else:
            found.append([graph])
    return [members for found in buckets.values() for members in found]


def worst_gap(groups: list[list[Graph]]) -> tuple[float, int]:
    """The largest gap within a class on an independent grid of +-30, relative above 1, and the number of classes that exceed 1e-4.

    Isolated values do not count: `x ** sinh(x)` is real at a negative x only where rounding makes the exponent a whole number.
    """
    grid = np.linspace(-29.9973, 29.9981, 6000)
    worst, wrong = 0.0, 0
    for members in groups:
        distinct = list(dict.fromkeys(members))
        if len(distinct) == 1:
            continue
        first, *others = evaluate_all(distinct, {"x": grid})
        for other in others:
            both = np.isfinite(first) & np.isfinite(other)
            both &= np.roll(both, 1) | np.roll(both, -1)
            gap = np.abs(first[both] - other[both]) / np.maximum(1.0, np.abs(first[both]))
            largest = float(gap.max()) if gap.size else 0.0
            worst, wrong = max(worst, largest), wrong + (largest > 1e-4)
    return worst, wrong


def equality() -> None:
    start = time.process_time()
    texts = [form.format(a, b) for form in BINARY for a in UNARY for b in UNARY]
    # 0 ** 0 and its like are numbers: the language wants the number, and all four of them are 0 or 1
    graphs = [parse("0" if t == "(0) ** (1)" else "1" if t.replace("0", "1") == "(1) ** (1)" else t) for t in texts]
    groups = classes(graphs)
    seconds = time.process_time() - start
    nowhere = max((g for g in groups if not np.isfinite(evaluate_all(g[:1], {"x": np.linspace(-5, 5, 64)})[0]).any()), key=len, default=[])
    print(f"AQuaSurF's space: {len(texts)} texts, {len(set(graphs))} distinct graphs, {len(groups)} functions in {seconds:.1f} s of one core")
    print(f"  finite nowhere: {len(nowhere)} texts, one class")
    worst, wrong = worst_gap(groups)
    print(f"  largest gap within a class on 6,000 points of +-30: {worst:.1e}; classes that exceed 1e-4: {wrong}")
    unary = tuple(o for o in OPERATORS if OPERATORS[o].searchable)
    population = [OperatorSpace(unary, 12, 3).sample(random.Random(seed)).graph for seed in range(8000)]
    groups = classes(population)
    keys = len(set(fingerprints(population)))
    worst, wrong = worst_gap(groups)
    print(f"8,000 random graphs: {len(set(population))} distinct, {keys} fingerprints, {len(groups)} functions after confirmation")
    print(f"  false merges: {wrong}; largest gap within a class {worst:.1e}")


def fingerprint() -> None:
    from evosearch.meaning.symbolic import simplify

    space = OperatorSpace(tuple(o for o in OPERATORS if OPERATORS[o].searchable), 12, 3)
    population = [space.sample(random.Random(seed)).graph for seed in range(8000)]
    fingerprints(population[:100])
    runs = []
    for _ in range(7):
        start = time.perf_counter()
        fingerprints(population)
        runs.append((time.perf_counter() - start) / len(population) * 1e6)
    some = population[:40]
    start = time.perf_counter()
    simplify(some, seconds=5.0)
    child = (time.perf_counter() - start) / len(some) * 1e6
    print(f"fingerprint at 64 points: {_spread(runs, 'us')} a graph (8,000 graphs); sympy.simplify in its child: {child:.0f} us a graph (40 graphs)")


def _by_hand() -> dict[str, Callable[..., torch.Tensor]]:
    """The three layers as a user would write them in torch: the peers, eager and compiled."""
    import torch

    def activation(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * torch.sin(x) + torch.sigmoid(x * x) * torch.exp(-x.square()) + torch.erf(x) * torch.cos(x)

    v = torch.ones(1, 64, 1, 1, requires_grad=True)

    def s0(x: torch.Tensor) -> torch.Tensor:
        n, c = x.shape[:2]
        std = (x.reshape(n, 32, -1).var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * torch.sigmoid(v * x) / std.expand(n, 32, c // 32).reshape(n, c, 1, 1)

    def b0(x: torch.Tensor) -> torch.Tensor:
        left = (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-3).sqrt()
        right = v * x + (x.var((2, 3), unbiased=False, keepdim=True) + 1e-3).sqrt()
        return x / torch.maximum(left, right)

    return dict(zip(LAYERS, (activation, s0, b0), strict=True))


def lean() -> None:
    import torch

    import evosearch

    torch.set_num_threads(1)
    x = torch.randn(32, 64, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def step(layer: Callable[..., torch.Tensor]) -> None:
        layer(x).backward(upstream)
        x.grad = None

    for name, formula in LAYERS.items():
        layer = evosearch.compile(formula, 64)
        by_hand = _by_hand()[name]
        forms: dict[str, Callable[..., torch.Tensor]] = {
            "eager": layer._plain, "by hand": by_hand, "lean": layer,
            "ours compiled": torch.compile(evosearch.compile(formula, 64)), "hand compiled": torch.compile(by_hand),
        }  # fmt: skip
        values, slopes = [], []
        for form in forms.values():
            out = form(x)
            values.append(out.detach())
            slopes.append(torch.autograd.grad(out, x, upstream)[0])
        for value, slope in zip(values[1:], slopes[1:], strict=True):
            torch.testing.assert_close(value, values[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(slope, slopes[0], rtol=1e-3, atol=1e-4)
        times: dict[str, list[float]] = {key: [] for key in forms}
        for _ in range(15):
            for key, form in forms.items():
                start = time.perf_counter()
                step(form)
                times[key].append((time.perf_counter() - start) * 1e3)
        for key, form in forms.items():
            ratios = [t / e for t, e in zip(times[key], times["eager"], strict=True)]
            print(f"{name:<18} {key:<14} {_spread(times[key], 'ms')}, {_spread(ratios, 'x eager')}, saves {_saved(form, x):.1f} x the input")


def _saved(form: object, x: object) -> float:
    import torch

    assert isinstance(x, torch.Tensor)
    kept: dict[tuple[int, int], int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        kept[(t.untyped_storage().data_ptr(), t.numel())] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = form(x)  # type: ignore[operator]
    del out
    return sum(kept.values()) / x.numel()


def refusal() -> None:
    texts = [
        "x.__class__", "x[0]", "(lambda: x)()", "__import__('os')", "foo(x)", "x * \u0445", "9**9**9", "1" * 5000, "1e400", "-" * 100_000 + "x",
        "+".join(["x"] * 20_000), "(" * 10_000 + "x" + ")" * 10_000, "-" * 4000 + "x", "+".join(["x"] * 2000),
    ]  # fmt: skip
    slowest = 0.0
    for text in texts:
        start = time.perf_counter()
        try:
            parse(text)
        except FormulaError as error:
            said = str(error)
        else:
            sys.exit(f"bench_language: not refused: {text[:40]}")
        milliseconds = (time.perf_counter() - start) * 1e3
        slowest = max(slowest, milliseconds)
        print(f"  {text[:24]!a:<28} {milliseconds:6.2f} ms  {said[:110]}")
    print(f"refusals: {len(texts)} texts, the slowest in {slowest:.1f} ms")


def _spread(values: list[float], unit: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}] {unit}"


if __name__ == "__main__":
    parts = {"equality": equality, "fingerprint": fingerprint, "lean": lean, "refusal": refusal}
    unknown = [name for name in sys.argv[1:] if name not in parts]
    if unknown:
        sys.exit(f"bench_language: unknown part `{unknown[0]}`; there are {', '.join(parts)}")
    for name in sys.argv[1:] or parts:
        parts[name]()
