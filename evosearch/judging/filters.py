"""The torch-side filters before any training, cheap to dear: each says a reason code, or lets the layer pass.

A gate takes two inputs: where a filter has a linear map or a convolution before the layer, a gate has two, as in a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from evosearch.compiler.module import differentiable_twice
from evosearch.language.candidate import inputs_of

MakeLayer = Callable[[int], nn.Module]

_SHAPE = (4, 8, 6, 6)
LARGE_SCORES = 30.0  # deviation


@dataclass(frozen=True)
class Limits:
    """Thresholds of the filters before training; None switches a filter off."""

    dtypes: tuple[str, ...] = ("float32", "bfloat16")  # finite values and gradients in each
    saved_per_element: float | None = None  # full-size tensors that eager autograd keeps
    dead_units: float | None = None  # share
    propagation: float | None = None  # the input's gradient after 50 layers within 1 / limit to limit
    stability: float | None = None  # EvoNorms' 1e8


def finite(make_layer: MakeLayer, dtype: torch.dtype = torch.float32, inputs: int = 1, deviation: float = 3.0) -> str | None:
    """Values and gradients on a probe of `_SHAPE` (one zero channel) are finite in `dtype`."""
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(_SHAPE, generator=generator) * deviation for _ in range(inputs)]
    for x in given:
        x[:, 0] = 0
    layer = make_layer(_SHAPE[1]).to(dtype)
    leaves = [*(x.to(dtype).requires_grad_() for x in given), *layer.parameters()]
    out = layer(*leaves[:inputs])
    if not torch.isfinite(out).all():
        return f"nonfinite:forward:{_short(dtype)}"
    grads = torch.autograd.grad(out.float().sum(), leaves, allow_unused=True)
    if any(g is not None and not torch.isfinite(g).all() for g in grads):
        return f"nonfinite:gradient:{_short(dtype)}"
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def saved_per_element(layer: nn.Module, channels: int = 8, inputs: int = 1) -> float:
    """Tensors the size of an input that eager autograd keeps for the backward, counted once each, on the plain form.

    That is what the scripted and exported forms cost; eager training by the lean backward always keeps one an input.
    """
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(4, channels, 6, 6, generator=generator).requires_grad_() for _ in range(inputs)]
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.data_ptr(), tensor)
        return tensor

    plain = getattr(layer, "_plain", layer)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        plain(*given)
    return round(sum(t.numel() for t in kept.values()) / given[0].numel(), 3)


@dataclass(frozen=True)
class Finding:
    """What a filter found: a reason code when the layer is rejected, else None, and the figure that decided."""

    reason: str | None
    figure: float


def all_filters(make_layer: MakeLayer, limits: Limits, slot: str = "act") -> Iterator[Finding]:
    """The filters that are switched on, cheap to dear, each as it is asked for.

    Attention has to be finite on scores of `LARGE_SCORES` too: training makes them large, and exp(x) without a shift overflows.
    """
    inputs, deviations = len(inputs_of(slot)), (3.0, LARGE_SCORES) if slot == "attention" else (3.0,)
    for dtype in limits.dtypes:
        for deviation in deviations:
            yield Finding(finite(make_layer, getattr(torch, dtype), inputs, deviation), math.nan)
    if limits.saved_per_element is not None:
        kept = saved_per_element(make_layer(8), inputs=inputs)
        yield Finding("saved_tensors" if kept > limits.saved_per_element else None, kept)
    if limits.dead_units is not None:
        yield dead_units(make_layer, limits.dead_units, inputs=inputs)
    if limits.propagation is not None:
        yield propagation(make_layer, smallest=1 / limits.propagation, largest=limits.propagation, inputs=inputs)
    if limits.stability is not None:
        yield stability(make_layer, limit=limits.stability, inputs=inputs)


def propagation(make_layer: MakeLayer, depth: int = 50, width: int = 64, smallest: float = 1e-8, largest: float = 1e8, inputs: int = 1) -> Finding:
    """Signal and gradient through `depth` random layers, each scaled to keep the variance of its input (arXiv 1611.01232).

    The figure is the norm of the input's gradient relative to the output's. Rejected outside `smallest` to `largest`, or when the
    signal itself breaks: `signal:nonfinite`, `signal:vanishing`, `signal:exploding`.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, width, generator=generator, dtype=torch.double).requires_grad_()
    h = x
    for _ in range(depth):
        maps = [torch.randn(width, width, generator=generator, dtype=torch.double) / math.sqrt(width) for _ in range(inputs)]
        h = make_layer(width).double()(*(h @ w for w in maps))
        size = h.detach().square().mean().sqrt()
        if not torch.isfinite(size):
            return Finding("signal:nonfinite", math.nan)
        h = h / size.clamp(min=1e-30)  # what an initialization gain does, layer by layer
    upstream = torch.randn(h.shape, generator=generator, dtype=torch.double)
    (slope,) = torch.autograd.grad(h, x, upstream, allow_unused=True, materialize_grads=True)
    ratio = float(slope.norm() / upstream.norm())
    if not math.isfinite(ratio):
        return Finding("signal:nonfinite", ratio)
    return Finding("signal:vanishing" if ratio < smallest else "signal:exploding" if ratio > largest else None, ratio)


def dead_units(make_layer: MakeLayer, most: float = 0.5, width: int = 256, inputs: int = 1) -> Finding:
    """The share of units of a random layer whose slopes are below 1e-6 on a whole batch of 256: `dead:units` above `most`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, width, generator=generator)
    given = []
    for _ in range(inputs):
        bias = torch.randn(width, generator=generator)
        given.append((x @ torch.randn(width, width, generator=generator) / math.sqrt(width) + bias).requires_grad_())
    slopes = torch.autograd.grad(make_layer(width)(*given).sum(), given, allow_unused=True, materialize_grads=True)
    share = float((torch.stack(slopes).abs() < 1e-6).all(0).all(0).double().mean())
    return Finding("dead:units" if share > most else None, share)


def stability(make_layer: MakeLayer, steps: int = 100, limit: float = 1e8, seed: int = 0, inputs: int = 1) -> Finding:
    """EvoNorms' stability test (arXiv 2004.02967, section 3.3): ascent on the weights' gradient norm, away from where training starts.

    A small convolutional network with the layer after each convolution; a step moves the weights by a tenth of their norm along
    the slope of the squared gradient norm. The figure is the largest gradient norm met; `stability` above `limit`. For layers that
    normalize: without any normalization the weights themselves grow until the gradient does.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 1, 16, 16, generator=generator)
    x = (x + F.avg_pool2d(x, 5, 1, 2) * 4) / 1.3  # neighbors correlate, as in images
    target = torch.arange(16) % 3
    shapes = ((8, 1, 3, 3), (16, 8, 3, 3), (16, 16, 3, 3))
    weights = [torch.randn(s, generator=generator).div_(math.sqrt(s[1] * 9)).requires_grad_() for s in shapes for _ in range(inputs)]
    head = torch.randn(3, 16, generator=generator) / 4
    layers = [differentiable_twice(make_layer(s[0]).train()) for s in shapes]
    largest = 0.0
    for _ in range(steps):
        h = x
        for i, (layer, stride) in enumerate(zip(layers, (2, 1, 2), strict=True)):
            h = layer(*(F.conv2d(h, w, stride=stride, padding=1) for w in weights[i * inputs : (i + 1) * inputs]))
        loss = F.cross_entropy(h.mean((2, 3)) @ head.T, target)
        slopes = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True, materialize_grads=True)
        squared = torch.stack([g.square().sum() for g in slopes]).sum()
        norm = float(squared.detach().sqrt())
        largest = max(largest, norm)
        if not norm <= limit:
            return Finding("stability", norm if norm > limit else math.inf)
        if not squared.requires_grad:
            break
        ascent = torch.autograd.grad(squared, weights, allow_unused=True, materialize_grads=True)
        size = math.sqrt(sum(float(a.square().sum()) for a in ascent))
        if size == 0:
            break
        if not math.isfinite(size):
            return Finding("stability", math.inf)
        reach = 0.1 * math.sqrt(sum(float(w.detach().square().sum()) for w in weights)) / size
        with torch.no_grad():
            for w, a in zip(weights, ascent, strict=True):
                w.add_(a, alpha=reach)
    return Finding(None, largest)
