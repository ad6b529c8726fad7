"""What an exported layer costs: memory kept for the backward by every activation of the library, and EvoNorm-S0 under torch.compile beside BN + ReLU.

    python scripts/bench_export.py [memory | compiled] [--rounds N]

Correctness first: every export is loaded, compared with the formula in NumPy, and compiled without a graph break (fullgraph=True).
Times are medians of interleaved rounds with the 95 % interval of the median.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from evosearch.compiler.module import load
from evosearch.delivery.papers.benchmark import kept_per_byte, machine, median_interval
from evosearch.delivery.source import whole
from evosearch.judging.timing import interleaved_seconds
from evosearch.language.graph import Graph, depends_on, with_affine
from evosearch.language.library import KnownLayer, known, library
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.numeric import evaluate

SHAPE = (32, 64, 32, 32)
MOST = 1.25  # times BN + ReLU, eager


class ByHand(nn.Module):
    """EvoNorm-S0 with its affine part as timm writes it: eager, statistics by torch.var in groups."""

    def __init__(self, features: int, groups: int = 32) -> None:
        super().__init__()
        self.groups = groups
        self.v, self.weight, self.bias = (nn.Parameter(torch.full((1, features, 1, 1), start)) for start in (1.0, 1.0, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        grouped = x.view(n, self.groups, -1)
        std = (grouped.float().var(2, unbiased=False, keepdim=True) + 1e-5).sqrt().to(x.dtype)
        std = std.view(n, self.groups, 1, 1, 1).expand(n, self.groups, c // self.groups, h, w).reshape(x.shape)
        return x * (x * self.v).sigmoid() / std * self.weight + self.bias


def exported(layer: KnownLayer, features: int) -> tuple[Graph, nn.Module]:
    """The formula as `evosearch export` takes it, and the class of NAME.py for so many channels."""
    graph = with_affine(layer.graph) if layer.affine else layer.graph
    module = load(whole(graph, "Exported", "exported", layer.tracked_variance))
    return graph, module.__dict__["Exported"](features)


def check(name: str, graph: Graph, run: Callable[..., Tensor], features: int = 8) -> None:
    """Raises SystemExit where the layer does not give what the formula gives in NumPy (float32, train mode)."""
    generator = torch.Generator().manual_seed(0)
    inputs = {n: torch.randn(4, features, 6, 6, generator=generator) for n in ("x", "y") if depends_on(graph, n)}
    with np.errstate(all="ignore"):
        wanted = np.broadcast_to(evaluate(graph, {n: t.double().numpy() for n, t in inputs.items()}), (4, features, 6, 6))
    found = run(*(t.requires_grad_() for t in inputs.values())).detach().double().numpy()
    if not np.allclose(found, wanted, rtol=2e-4, atol=2e-5, equal_nan=True):
        raise SystemExit(f"{name} is wrong by {np.nanmax(np.abs(found - wanted)):.3g}; nothing was measured")


def memory() -> bool:
    """Bytes kept an input byte, and the loads under torch.compile: whether every activation keeps its input's size and has no graph break."""
    warnings.filterwarnings("ignore", module="torch")
    above, broken, count = {}, {}, 0
    for name, layer in library().items():
        if layer.kind != "activation" or has_statistics(layer.graph):
            continue
        graph, module = exported(layer, 8)
        check(name, graph, module)
        x = torch.randn(16, 8, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        kept = kept_per_byte(module, (x,))
        if kept > 1.0:
            above[name] = kept
        try:
            torch._dynamo.reset()
            check(f"{name} in one graph", graph, torch.compile(module, fullgraph=True, backend="aot_eager"))
        except Exception as error:  # whatever dynamo raises of what it cannot follow
            broken[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        count += 1
    for name, kept in above.items():
        print(f"  above 1.0x: {name} keeps {kept:.2f} x its input")
    for name, why in broken.items():
        print(f"  graph break: {name}: {why}")
    print(f"{count} activations, exported: {count - len(above)} keep 1.0 x their input or less for the backward; {count - len(broken)} compile in one graph")
    return not above and not broken


def compiled(rounds: int) -> bool:
    """Forward and backward on one thread; whether EvoNorm-S0, compiled, takes at most `MOST` times BN + ReLU."""
    features = SHAPE[1]
    graph, s0 = exported(known("evonorm_s0"), features)
    check("EvoNorm-S0", graph, exported(known("evonorm_s0"), 8)[1])
    torch.set_num_threads(1)
    by_hand, bn = ByHand(features), nn.Sequential(nn.BatchNorm2d(features), nn.ReLU())
    layers: Mapping[str, nn.Module] = {
        "BN + ReLU, eager": bn, "EvoNorm-S0 export, compiled": compile_whole(exported(known("evonorm_s0"), features)[1]), "EvoNorm-S0 export, eager": s0,
        "EvoNorm-S0 by hand as timm's, eager": by_hand, "BN + ReLU, compiled": compile_whole(nn.Sequential(nn.BatchNorm2d(features), nn.ReLU())),
    }  # fmt: skip
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    _check_same(layers["EvoNorm-S0 export, compiled"], s0, x, upstream)
    _check_same(by_hand, s0, x, upstream)
    seconds = interleaved_seconds(layers, dict.fromkeys(layers, (x,)), rounds)
    usual = seconds["BN + ReLU, eager"]
    print(f"forward and backward, float32 {SHAPE}, one thread, {rounds} interleaved rounds: median [95 % interval]; {machine()}")
    ratios = {}
    for name, own in seconds.items():
        median, low, high = median_interval([1e3 * s for s in own])
        ratio, below, above = median_interval([a / b for a, b in zip(own, usual, strict=True)])
        ratios[name] = ratio
        print(f"  {name:<36} {median:8.2f} ms [{low:.2f}, {high:.2f}]   {ratio:5.2f} x BN + ReLU [{below:.2f}, {above:.2f}]")
    print(f"  kept for the backward: export, eager {kept_per_byte(s0, (x,)):.2f} x its input, as timm's {kept_per_byte(by_hand, (x,)):.2f} x")
    found = ratios["EvoNorm-S0 export, compiled"]
    print(f"EvoNorm-S0, compiled: {found:.2f} x eager BN + ReLU, {'within' if found <= MOST else 'ABOVE'} {MOST}")
    return found <= MOST


def compile_whole(module: nn.Module) -> nn.Module:
    """The module under torch.compile; an error where it is not one graph."""
    found: nn.Module = torch.compile(module, fullgraph=True)
    return found


def _check_same(one: nn.Module, other: nn.Module, x: Tensor, upstream: Tensor) -> None:
    """Raises SystemExit unless both give the same values and slopes on the input that is timed."""
    found = []
    for layer in (one, other):
        out = layer(x)
        found.append((out.detach(), *torch.autograd.grad(out, [x], upstream)))
    for what, a, b in zip(("value", "slope"), *found, strict=True):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-4):
            raise SystemExit(f"the {what} differs by {(a - b).abs().max():.3g}; nothing was timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("memory", "compiled"))
    parser.add_argument("--rounds", type=int, default=41)
    given = parser.parse_args()
    kept = [memory() if what == "memory" else compiled(given.rounds) for what in ("memory", "compiled") if given.what in (None, what)]
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
