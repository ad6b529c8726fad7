"""What is measured on a trained network besides its score (`judging.objectives.OBJECTIVES` says what each is), on the validation split alone.

The network is left as it was. What is drawn comes from the training's seed, so that on one thread every number is repeated.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from evosearch.judging.architectures import Layers, MakeLayer
from evosearch.judging.tasks import Split

PART = 1024  # inputs that go through a network at once
NOISE = 0.1
NEAR_ZERO = 1e-3
BINS = 15


@dataclass(frozen=True)
class Network:
    """A trained network in evaluation mode: `slots` are its layers under judgment, `score` takes answers and targets."""

    model: nn.Module
    slots: Sequence[nn.Module]
    validation: Split
    score: Callable[[Tensor, Tensor], float]
    device: str
    seed: int


@torch.no_grad()
def measure(network: Network, names: Sequence[str]) -> dict[str, float]:
    """The objectives of these names, without those that are not finite here (a slot that is constant has no kurtosis)."""
    found = {name: _MEASURES[name](network) for name in names}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def noting(make_layer: MakeLayer | Layers, slots: list[nn.Module]) -> MakeLayer | Layers:
    """`make_layer`, which puts each layer that it makes into `slots` as well."""
    if isinstance(make_layer, Layers):
        return replace(make_layer, makers=[_noting(make, slots) for make in make_layer.makers])
    return _noting(make_layer, slots)


def _noting(make_layer: MakeLayer, slots: list[nn.Module]) -> MakeLayer:

    def make(*features: int, **options: bool) -> nn.Module:
        slots.append(make_layer(*features, **options))
        return slots[-1]

    return make


def answers(model: Callable[[Tensor], Tensor], inputs: Tensor, device: str) -> Tensor:
    """The model's answers on the CPU, `PART` inputs at a time."""
    return torch.cat([model(part.to(device)).cpu() for part in inputs.split(PART)])  # type: ignore[no-untyped-call]


def _score(network: Network, model: Callable[[Tensor], Tensor]) -> float:
    output = answers(model, network.validation[0], network.device)
    return network.score(output, network.validation[1]) if torch.isfinite(output).all() else math.nan


@contextmanager
def _outputs_through(network: Network, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Each slot's output goes through `change`; None leaves it as it is."""
    handles = [slot.register_forward_hook(lambda module, given, out: change(out)) for slot in network.slots]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_noise(network: Network, size: float = NOISE) -> float:
    """The score with noise of deviation `size` times that of the slot's output (over the inputs that go through at once)."""
    generator = torch.Generator().manual_seed(network.seed + 2)  # training drew from `seed` and `seed + 1`

    def noisy(out: Tensor) -> Tensor:
        return out + size * out.std(correction=0) * torch.randn(out.shape, generator=generator, dtype=out.dtype).to(out.device)

    with _outputs_through(network, noisy):
        return _score(network, network.model)


def quantized(out: Tensor, bits: int) -> Tensor:
    """The tensor on `2^bits` equidistant values from its least to its greatest, 0 being one of them and in the range (arXiv 1712.05877)."""
    low, high, most = min(float(out.min()), 0.0), max(float(out.max()), 0.0), 2**bits - 1
    step = (high - low) / most
    if not 0 < step < math.inf:
        return out
    return torch.fake_quantize_per_tensor_affine(out, step, round(-low / step), 0, most)


def with_bits(network: Network, bits: int) -> float:
    """The score with every slot's output quantized, per tensor of the inputs that go through at once."""
    with _outputs_through(network, partial(quantized, bits=bits)):
        return _score(network, network.model)


def without_weights(network: Network, share: float) -> float:
    """The score with the least `share` of the weights of all linear maps and convolutions together at zero, by magnitude; of equal ones the first.

    A copy is pruned: a weight that several layers share counts once, one that is computed (weight norm) as what it comes to. NaN without any.
    """
    model = copy.deepcopy(network.model)
    maps = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    layers = {id(m) if parametrize.is_parametrized(m, "weight") else id(m.weight): m for m in maps}.values()  # a computed weight is a new one each time
    if not layers:
        return math.nan
    sizes = torch.cat([layer.weight.abs().flatten() for layer in layers])
    kept = torch.ones_like(sizes)
    kept[sizes.argsort(stable=True)[: round(share * len(sizes))]] = 0
    for layer, mask in zip(layers, kept.split([layer.weight.numel() for layer in layers]), strict=True):  # type: ignore[no-untyped-call]
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.register_parametrization(layer, "weight", _Times(mask.view_as(layer.weight)))
        else:
            layer.weight.mul_(mask.view_as(layer.weight))
    return _score(network, model)


class _Times(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def _each_slot(network: Network, statistic: Callable[[Tensor], float]) -> list[float]:
    """The statistic of every slot's output, in double precision, on the first `PART` validation inputs."""
    found: list[float] = []

    def note(out: Tensor) -> None:
        found.append(statistic(out.double()))

    with _outputs_through(network, note):
        network.model(network.validation[0][:PART].to(network.device))
    return found


def kurtosis(out: Tensor) -> float:
    """The fourth central moment over the squared second; NaN for a constant."""
    if float(out.min()) == float(out.max()):
        return math.nan
    squares = (out - out.mean()).square()
    return float(squares.square().mean() / squares.mean().square())


def largest_over_median(out: Tensor) -> float:
    """The largest size over the (lower) median size of what is not 0: of more than half of a ReLU's outputs the median is 0. NaN for zeros."""
    sizes = out[out != 0].abs()
    return float(sizes.max() / sizes.median()) if len(sizes) else math.nan


def near_zero(out: Tensor) -> float:
    """The share, in percent, of at most `NEAR_ZERO` of the deviation in size."""
    return 100 * float((out.abs() <= NEAR_ZERO * out.std(correction=0)).double().mean())


def _predictions(network: Network) -> tuple[Tensor, Tensor]:
    """Probabilities `(N, classes)` and classes `(N,)`; a sequence counts as that many examples."""
    inputs, targets = network.validation
    output = answers(network.model, inputs, network.device)
    return output.double().flatten(0, -2).softmax(1), targets.flatten()


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Expected calibration error in percent: `BINS` bins of equal width of the confidence, each closed above (arXiv 1706.04599)."""
    confidence, predicted = probabilities.max(1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = confidence - (predicted == targets).double()
    return 100 * float(torch.zeros(BINS, dtype=torch.double).index_add(0, bins, gaps).abs().sum()) / len(targets)


def roc_area(probabilities: Tensor, targets: Tensor) -> float:
    """Area under the ROC curve of each class against the rest, mean over the classes that are there; of two classes it is the usual one."""
    from sklearn.metrics import roc_auc_score

    present = [k for k in range(probabilities.shape[1]) if 0 < int((targets == k).sum()) < len(targets)]
    if not present:
        return math.nan
    return fmean(float(roc_auc_score((targets == k).numpy(), probabilities[:, k].numpy())) for k in present)


def _e_param(network: Network) -> float:
    return roc_area(*_predictions(network)) / math.log10(sum(p.numel() for p in network.model.parameters()))


def multiply_adds(network: Network) -> float:
    """Of one input: of a map, its outputs times the weights that each of them is a sum over; what activations and norms cost is not in it."""
    found: list[int] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        found.append(out.numel() * module.weight[0].numel())  # type: ignore[union-attr, index]

    maps = [m for m in network.model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    handles = [m.register_forward_hook(note) for m in maps]
    try:
        network.model(network.validation[0][:1].to(network.device))
    finally:
        for handle in handles:
            handle.remove()
    return float(sum(found))


_MEASURES: dict[str, Callable[[Network], float]] = {
    "score": lambda network: _score(network, network.model),
    "noise": with_noise,
    "quant8": partial(with_bits, bits=8),
    "quant4": partial(with_bits, bits=4),
    "pruned90": partial(without_weights, share=0.9),
    "pruned99": partial(without_weights, share=0.99),
    "kurtosis": lambda network: fmean(_each_slot(network, kurtosis)),
    "massive": lambda network: float(torch.tensor(_each_slot(network, largest_over_median)).max()),  # of which one NaN is the largest
    "sparsity": lambda network: fmean(_each_slot(network, near_zero)),
    "calibration": lambda network: calibration_error(*_predictions(network)),
    "params": lambda network: float(sum(p.numel() for p in network.model.parameters())),
    "macs": multiply_adds,
    "e_param": _e_param,
}
