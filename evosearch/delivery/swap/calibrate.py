"""Statistics of the old layers on some batches, and the new ones scaled so that they give the same. No training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.delivery.swap.rules import SwapError

MAX_BATCHES = 16
SAMPLES = 4096


@dataclass
class Moments:
    """Mean and deviation of a layer's output, a channel each, of some batches."""

    dim: int
    count: float = 0.0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, y: Tensor) -> None:
        """Takes a batch in."""
        rows = y.detach().double().movedim(self.dim if y.dim() > 1 else 0, 0).flatten(1) if y.dim() > 1 else y.detach().double()[None]
        self.count += rows.shape[1]
        self.total, self.squares = self.total + rows.sum(1), self.squares + rows.square().sum(1)

    def of(self, per_channel: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, or of the whole layer."""
        mean, square = torch.as_tensor(self.total) / self.count, torch.as_tensor(self.squares) / self.count
        if not per_channel:
            mean, square = mean.mean(), square.mean()
        return mean, (square - mean.square()).clamp(min=0).sqrt()


@dataclass
class Watched:
    """What a place saw and gave: some of its inputs, the moments of its output, its shape, and when it was first called."""

    order: int = -1
    inputs: list[Tensor] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    moments: Moments = field(default_factory=lambda: Moments(1))


def batches_of(calibrate: Any, model: nn.Module) -> list[Any]:
    """The first batches of a loader, on the model's device. Raises SwapError for what is no batch."""
    found = [calibrate] if isinstance(calibrate, (Tensor, Mapping)) else None
    if found is None:
        if not isinstance(calibrate, Iterable):
            raise SwapError(f"calibrate takes a batch, or a loader or list of batches; received {calibrate!r:.60}")
        found = [batch for batch, _ in zip(calibrate, range(MAX_BATCHES), strict=False)]
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    taken = [_moved(batch[0] if isinstance(batch, (tuple, list)) else batch, device) for batch in found]
    if not taken or not all(isinstance(batch, (Tensor, Mapping)) for batch in taken):
        received = type(found[0]).__name__ if found else "none"
        raise SwapError(f"a batch is a tensor, (tensor, target), or a dict of the model's arguments; received {received}")
    return taken


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()} if isinstance(batch, Mapping) else batch


class _Reached(Exception):
    """The layer that is looked at has been called; what comes after does not matter."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's mode is put back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def run(model: nn.Module, batch: Any) -> None:
    """One forward."""
    model(**batch) if isinstance(batch, Mapping) else model(batch)


def watch(model: nn.Module, places: Sequence[tuple[nn.Module, Callable[[Tensor], Tensor] | None, int]], batches: Sequence[Any]) -> list[Watched]:
    """What each place saw of the batches: a module, the activation behind it (of a pair), and where its channels are."""
    found = [Watched(moments=Moments(dim)) for _, _, dim in places]
    handles = [hook for place, seen in zip(places, found, strict=True) for hook in _hooks(place[0], place[1], seen, found)]
    try:
        with evaluating(model):
            for batch in batches:
                run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _hooks(module: nn.Module, behind: Callable[[Tensor], Tensor] | None, seen: Watched, every: list[Watched]) -> Iterator[Any]:
    def before(_: nn.Module, args: tuple[Any, ...]) -> None:  # an in-place layer overwrites what it was given
        x = args[0]
        seen.order = seen.order if seen.order >= 0 else sum(other.order >= 0 for other in every)
        seen.shapes.add(tuple(x.shape))
        if sum(map(len, seen.inputs)) < SAMPLES:
            flat = x.detach().flatten()
            seen.inputs.append(flat[:: max(1, len(flat) // 1024)][:1024].float().clone())

    def after(_: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
        seen.moments.add(y if behind is None else behind(y.clone()))

    yield module.register_forward_pre_hook(before)
    yield module.register_forward_hook(after)


def estimate(model: nn.Module, layer: nn.Module, batches: Sequence[Any]) -> None:
    """Running statistics of a new layer that had none to carry over: the mean over the batches."""
    handle = layer.register_forward_hook(_stop)
    momentum = layer.momentum
    try:
        with evaluating(model):
            layer.train()
            for number, batch in enumerate(batches):
                layer.momentum = 1 / (number + 1)  # type: ignore[assignment]
                _until(model, batch)
    finally:
        layer.momentum = momentum
        handle.remove()


def measured(model: nn.Module, layer: nn.Module, dim: int, batches: Sequence[Any], calls: int = 1) -> Moments:
    """The moments of a layer's output in the model as it is now; the forward stops when the layer has been called that often."""
    moments, left = Moments(dim), [calls]

    def after(_: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
        moments.add(y)
        left[0] -= 1
        if not left[0]:
            raise _Reached

    handle = layer.register_forward_hook(after)
    try:
        with evaluating(model):
            for batch in batches:
                left[0] = calls
                _until(model, batch)
    finally:
        handle.remove()
    return moments


def _until(model: nn.Module, batch: Any) -> None:
    try:
        run(model, batch)
    except _Reached:
        return


def _stop(*_: Any) -> None:
    raise _Reached
