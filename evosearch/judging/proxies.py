"""Training-free scores of a network at initialization. Each is a number, NaN where it cannot be computed; none is trusted alone.

What they measure, and whether they rank activation functions at all, is shown by `scripts/rank_known.py`: the published
uses compare architectures with one activation.

| score | what it is | source |
|---|---|---|
| `grad_norm` | norm of the loss gradient over all weights | arXiv 2101.08134 |
| `snip` | sum of abs(weight * gradient) | arXiv 1810.02340 |
| `grasp` | -sum of weight * (Hessian gradient) | arXiv 2002.07376 |
| `fisher` | sum over slots of (activation * its gradient)^2, per channel | arXiv 1801.05787 |
| `synflow` | log of the sum of abs(weight * slope) of a network of absolute weights fed with ones | arXiv 2006.05467 |
| `jacob_cov` | how little the input Jacobians of a batch correlate | arXiv 2006.04647 |
| `slope_kernel` | log-determinant of the kernel of the slots' slopes; for ReLU a NASWOT (arXiv 2006.04647), defined for smooth functions too | |
| `ntk_condition` | -log of the condition number of the neural tangent kernel | arXiv 2102.11535 |
| `entropy` | differential entropy (nats) of the slots' outputs at unit variance | arXiv 2405.12954 |
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evosearch.judging.architectures import MakeLayer, build
from evosearch.judging.objectives import parse_pair
from evosearch.judging.tasks import task

Loss = Callable[[Tensor, Tensor], Tensor]


def scores(model: nn.Module, slots: list[nn.Module], inputs: Tensor, targets: Tensor, loss: Loss) -> dict[str, float]:
    """Every score of a freshly initialized model, in double precision; `slots` are its activation modules.

    `inputs` and `targets` are one batch of the task. The model is left with its weights as they were.
    """
    model = model.double().train()
    x = inputs.double() if inputs.is_floating_point() else inputs
    y = targets.double() if targets.is_floating_point() else targets
    found = {}
    for name, score in _SCORES.items():
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
                value = score(model, slots, x, y, loss)
        except (RuntimeError, ArithmeticError, ValueError):  # a slope that torch does not have, a matrix without an inverse
            value = math.nan
        found[name] = value if math.isfinite(value) else math.nan
        model.zero_grad(set_to_none=True)
    return found


def measure(pair: str, make_layer: MakeLayer, seed: int, batch: int = 64) -> dict[str, float]:
    """Every score of the pair's network with this layer, freshly initialized by `seed`, on one batch of training data."""
    named, slots = parse_pair(pair), []
    job = task(named.task)
    data = job.load(named.variant)

    def slot(features: int) -> nn.Module:
        slots.append(make_layer(features))
        return slots[-1]

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(named.architecture, slot, named.width, data.train[0][:2], data.outputs, depth=named.depth)
    rows = torch.randint(len(data.train[0]), (batch,), generator=torch.Generator().manual_seed(seed))
    return scores(model, slots, data.train[0][rows], data.train[1][rows], job.loss)


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad and p.dim() > 1]


def _gradients(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, create_graph: bool = False) -> list[Tensor]:
    weights = _weights(model)
    return list(torch.autograd.grad(loss(model(x), y), weights, create_graph=create_graph, allow_unused=True, materialize_grads=True))


def grad_norm(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    return float(torch.stack([g.square().sum() for g in _gradients(model, x, y, loss)]).sum().sqrt())


def snip(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    return float(sum((w.detach() * g).abs().sum() for w, g in zip(_weights(model), _gradients(model, x, y, loss), strict=True)))


def grasp(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    weights = _weights(model)
    first = _gradients(model, x, y, loss, create_graph=True)
    product = sum((g * g.detach()).sum() for g in first)
    second = torch.autograd.grad(product, weights, allow_unused=True, materialize_grads=True)  # type: ignore[arg-type]
    return -float(sum((w.detach() * h).sum() for w, h in zip(weights, second, strict=True)))


def fisher(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    _, outputs, value = _watched(model, slots, x, lambda out: loss(out, y))
    total = 0.0
    for a, g in zip(outputs, torch.autograd.grad(value, outputs, allow_unused=True, materialize_grads=True), strict=True):
        per_channel = (a * g).transpose(0, 1).flatten(2).sum(2) if a.dim() > 2 else (a * g).T
        total += float(per_channel.detach().square().mean(1).sum())
    return total


def synflow(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    if not x.is_floating_point():
        return math.nan  # tokens: there is no input of ones
    weights = _weights(model)
    signs = [w.detach().sign() for w in weights]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for w in weights:
                w.abs_()
        out = model(torch.ones_like(x[:1]))
        slopes = torch.autograd.grad(out.sum(), weights, allow_unused=True, materialize_grads=True)
        return math.log(max(float(sum((w.detach() * g).abs().sum() for w, g in zip(weights, slopes, strict=True))), 1e-300))
    finally:
        with torch.no_grad():
            for w, sign in zip(weights, signs, strict=True):
                w.mul_(torch.where(sign == 0, 1.0, sign))
        model.train(training)


def jacob_cov(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    if not x.is_floating_point():
        return math.nan
    x = x[:32].clone().requires_grad_()
    jacobian = torch.autograd.grad(model(x).sum(), x)[0].flatten(1)
    values = torch.linalg.eigvalsh(torch.corrcoef(jacobian)).clamp(min=0) + 1e-5
    return float(-(values.log() + 1 / values).sum())


def slope_kernel(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    inputs, outputs, _ = _watched(model, slots, x[:32], torch.sum)
    rows = []
    for z, a in zip(inputs, outputs, strict=True):
        (slope,) = torch.autograd.grad(a.sum(), z, retain_graph=True, allow_unused=True, materialize_grads=True)
        slope = slope.reshape(len(x[:32]), -1)
        rows.append(slope - slope.mean(0))
    features = torch.cat(rows, 1).detach()
    features = features / features.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return float(torch.logdet(features @ features.T + 1e-3 * torch.eye(len(features), dtype=features.dtype)))


def ntk_condition(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    weights = _weights(model)
    outputs = model(x[:16]).flatten(1).sum(1)
    rows = []
    for i in range(len(outputs)):
        slopes = torch.autograd.grad(outputs[i], weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in slopes]))
    values = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)
    return -math.log(float(values[-1]) / max(float(values[0]), 1e-12 * float(values[-1])))


def entropy(model: nn.Module, slots: list[nn.Module], x: Tensor, y: Tensor, loss: Loss) -> float:
    _, outputs, _ = _watched(model, slots, x, torch.sum)
    found = []
    for a in outputs:
        values = a.detach().flatten()
        values = (values - values.mean()) / values.std().clamp(min=1e-12)
        counts = torch.histc(values, bins=64, min=-4, max=4)
        share = counts[counts > 0] / counts.sum()
        found.append(float(-(share * share.log()).sum()) + math.log(8 / 64))
    return sum(found) / len(found)


def _watched(model: nn.Module, slots: list[nn.Module], x: Tensor, reduce: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Inputs and outputs of every slot in one forward pass, and the reduced output of the model."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # a leaf of the slot's own, so that slopes can be taken at the slot even where nothing before it has weights
        inputs.append(given[0] if given[0].requires_grad else given[0].requires_grad_())
        return (inputs[-1], *given[1:])

    def after(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        outputs.append(out)

    handles = [h for slot in slots for h in (slot.register_forward_pre_hook(before), slot.register_forward_hook(after))]
    try:
        value = reduce(model(x))
    finally:
        for handle in handles:
            handle.remove()
    return inputs, outputs, value


_SCORES = {
    "grad_norm": grad_norm, "snip": snip, "grasp": grasp, "fisher": fisher, "synflow": synflow, "jacob_cov": jacob_cov,
    "slope_kernel": slope_kernel, "ntk_condition": ntk_condition, "entropy": entropy,
}  # fmt: skip
NAMES = tuple(_SCORES)
