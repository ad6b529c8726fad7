"""The inputs on which exported files are compared with the layer that was judged, what it gives there, and how exact that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.delivery.formats.comparison import judged
from evosearch.delivery.formats.format import Layer, first_line

_SHAPE = (4, 3, 5)  # batch, height, width
_ORDINARY = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0, 0.5, -0.5, 1e-4, -1e-4)  # where rectifiers bend
_TINY = (1e-7, 1e-10, 1e-20, 1e-30, 1e-38, 0.0)
_LARGE = (17.0, 21.0, 30.0, 89.0, 100.0, 1e3, 1e4)
_HUGE = (1e10, 1e19, 1e30, 3e38)
_DRAWS = 2


@dataclass(frozen=True)
class Case:
    """Inputs with a name; of one type."""

    name: str
    inputs: list[Tensor]


def cases(layer: Layer) -> Iterator[Case]:
    """Every case, on as many channels as the comparison uses."""
    n, height, width = _SHAPE
    shape = (n, layer.channels, height, width)
    yield Case("ordinary", _drawn(layer, shape, _ORDINARY))
    yield Case("zeros", [torch.zeros(shape) for _ in layer.inputs])
    yield Case("tiny", _drawn(layer, shape, _TINY, 1e-6, both=True))
    yield Case("large", _drawn(layer, shape, _LARGE, 10.0, both=True))
    yield Case("huge", _drawn(layer, shape, _HUGE, 1e5, both=True))
    yield Case("infinite", _drawn(layer, shape, (torch.inf, -torch.inf)))
    yield Case("not a number", _drawn(layer, shape, (torch.nan,)))
    for name, type_ in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        yield Case(name, [t.to(type_) for t in _drawn(layer, shape, _ORDINARY)])
    yield Case("batch of one", _drawn(layer, (1, *shape[1:]), _ORDINARY))
    yield Case("one place", _drawn(layer, (n, layer.channels, 1, 1)))
    yield Case("one of each", _drawn(layer, (1, layer.channels, 1, 1)))
    yield Case("channels last", [t.to(memory_format=torch.channels_last) for t in _drawn(layer, shape, _ORDINARY)])
    yield Case("not contiguous", [t.transpose(2, 3) for t in _drawn(layer, (n, layer.channels, width, height))])
    yield Case("strided", [t[:, :, ::2] for t in _drawn(layer, (n, layer.channels, 2 * height, width))])
    yield Case("empty batch", [torch.zeros(0, *shape[1:]) for _ in layer.inputs])


def _drawn(layer: Layer, shape: tuple[int, ...], special: tuple[float, ...] = (), scale: float = 2.0, *, both: bool = False) -> list[Tensor]:
    """Normal values with the special ones among them, `both` with their negatives too, in other places of each input."""
    found = []
    values = [*special, *((-s for s in special) if both else ())]
    for i in range(len(layer.inputs)):
        generator = torch.Generator().manual_seed(100 + i)
        x = torch.randn(shape, generator=generator) * scale
        if values:
            at = torch.randperm(x.numel(), generator=generator)[: len(values)]
            x.view(-1)[at] = torch.tensor(values)[: at.numel()]
        found.append(x)
    return found


def state_of(layer: Layer) -> dict[str, Tensor]:
    """A state that is no start: every number of a layer's own, so that one in another's place shows."""
    generator = torch.Generator().manual_seed(7)
    state = layer.fresh().state_dict()
    return {name: t + 0.4 * torch.rand(t.shape, generator=generator) + 0.1 for name, t in state.items()}


def expected(layer: Layer) -> dict[str, Any]:
    """What a fresh process compares with: the state and, by case, inputs, upstream, results and how exact they are.

    A case that the layer itself refuses is told under `refused`.
    """
    return results_of(layer.fresh, state_of(layer), cases(layer))


def results_of(make: Callable[[], nn.Module], state: dict[str, Tensor], given: Iterable[Case], rounding: tuple[float, float] | None = None) -> dict[str, Any]:
    """`expected` of any module."""
    made, double = make(), make().double()
    found: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for case in given:
        try:
            with torch.no_grad():
                out = made.eval()(*case.inputs)
            upstream = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.dtype)
            results = _results(lambda training, inputs, up: judged(made, training, state, inputs, up), case.inputs, upstream)
        except (RuntimeError, ValueError, IndexError) as error:
            refused[case.name] = first_line(error)
            continue
        noise = _noise(made, double, state, case.inputs, upstream, results)
        found[case.name] = {"inputs": case.inputs, "upstream": upstream, "expected": results, "noise": noise}
        found[case.name] |= {"rounding": rounding} if rounding else {}
    return {"state": state, "cases": found, "refused": refused}


_Compute = Callable[[bool, list[Tensor], Tensor], dict[str, Tensor]]


def _results(compute: _Compute, inputs: list[Tensor], upstream: Tensor) -> dict[str, Tensor]:
    return {**compute(False, inputs, upstream), **compute(True, inputs, upstream)}


def _noise(
    made: nn.Module, double: nn.Module, state: dict[str, Tensor], inputs: list[Tensor], upstream: Tensor, results: dict[str, Tensor]
) -> dict[str, Tensor]:
    """How far each result moves where the last bit of the inputs does, and how far it is from that in float64: what no other
    order of the same operations can be held to. 0 where one of them is not finite."""
    plain = [t.float() if t.is_floating_point() else t for t in inputs]
    wide = {name: t.double() for name, t in state.items()}
    near = [_results(lambda t, x, u: judged(double, t, wide, x, u), [t.double() if t.is_floating_point() else t for t in plain], upstream.double())]
    generator = torch.Generator().manual_seed(3)
    for _ in range(_DRAWS):
        nudged = [t * (1 + 1.2e-7 * torch.randint(-1, 2, t.shape, generator=generator)) if t.is_floating_point() else t for t in plain]
        near.append(_results(lambda t, x, u: judged(made, t, state, x, u), nudged, upstream.float()))
    half = inputs[0].dtype in (torch.float16, torch.bfloat16)
    middle = _results(lambda t, x, u: judged(made, t, state, x, u), plain, upstream.float()) if half else results
    noise = {}
    for key in results:
        gaps = torch.stack([(other[key].double() - middle[key].double()).abs() for other in near])
        noise[key] = torch.nan_to_num(gaps, nan=0.0, posinf=0.0, neginf=0.0).amax(0).float().nan_to_num(posinf=3e38)
    return noise
