"""A user's task out of a plug-in file: a whole training loop by `@task`, or a function that loads data by `@data`. Torch-free.

    @evosearch.task(name="my-loop", metric="accuracy", unit="%")
    def train(make_layer, seed, budget):
        model = Net(make_layer)                       # make_layer(num_features) -> nn.Module
        ...                                           # budget.steps steps at budget.rate times your own learning rate
        return {"accuracy": validation_accuracy, "test": lambda: score(model, test_set)}

The pair of a loop is `my-loop/own`; of data, `my-data/ARCHITECTURE` for each architecture that is named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evosearch.judging.objectives import IMAGES, OWN, Measure
from evosearch.judging.tasks import Data, Task, register

if TYPE_CHECKING:
    from torch import Tensor

    from evosearch.judging.architectures import MakeLayer


@dataclass(frozen=True)
class Budget:
    """What a loop may use: `steps` optimizer steps, at `rate` times its own base learning rate, on `device`."""

    steps: int
    rate: float
    device: str


Loop = Callable[["MakeLayer", int, Budget], Mapping[str, Any]]


def task(name: str, metric: str, unit: str = "", direction: int = +1, license: str = "the user's own") -> Callable[[Loop], Loop]:
    """Registers `train(make_layer, seed, budget) -> metrics` as the task `name`.

    `metrics[metric]` is the validation score, which chooses; `metrics["test"]`, a number or a function without arguments
    that is asked only for who is reported, is the test score (without it the validation score stands for it). torch's
    generator is seeded by `seed` before the call; a loop must draw from no other. Raises ValueError for a name that is taken.
    """
    if not isinstance(name, str):
        raise ValueError('write @evosearch.task(name="...", metric="...", unit="...", direction=+1) above the function, with its parentheses')

    def registered(loop: Loop) -> Loop:
        takes = list(inspect.signature(loop).parameters)
        if len(takes) != 3:
            raise ValueError(f"a loop is train(make_layer, seed, budget) -> metrics; `{name}` takes ({', '.join(takes)})")
        own = Task(name, license, _no_data, _no_loss, _no_score, 0, {OWN: 1.0}, _first_line(loop), loop=_checked(name, metric, loop), source=_source(loop))
        register(own, Measure(metric, unit, direction, (OWN,)))
        return loop

    return registered


def data(
    name: str, kind: str, architectures: tuple[str, ...] = IMAGES, variants: tuple[str, ...] = (),
    rates: Mapping[str, float] | None = None, batch_size: int = 64, license: str = "the user's own",
) -> Callable[[Callable[[str], Data]], Callable[[str], Data]]:  # fmt: skip
    """Registers `load(variant) -> Data` as the task `name`; `kind` is `classes` (whole numbers `(N,)`) or `numbers` (`(N, K)`).

    `rates` are base learning rates by architecture, for those that differ from the defaults. What `load` returns is
    checked before training. Raises ValueError for a name that is taken or an architecture that cannot take any data.
    """
    unknown = [a for a in architectures if a not in IMAGES]
    if kind not in ("classes", "numbers") or unknown:
        raise ValueError(f"data is of kind `classes` or `numbers`, for architectures of {', '.join(IMAGES)}; received {kind!r} and {unknown}")

    def registered(load: Callable[[str], Data]) -> Callable[[str], Data]:
        @cache
        def checked(variant: str = "") -> Data:
            from evosearch.judging.tasks.supervised import check

            return check(load(variant), f"{name}.{variant}" if variant else name, classes=kind == "classes")

        from evosearch.judging.tasks.supervised import task_of

        measure = Measure("accuracy" if kind == "classes" else "R2", "%", +1, architectures, variants, ("", *variants) if kind == "classes" else ())
        register(task_of(name, checked, architectures, rates or {}, batch_size, _first_line(load), license), measure)
        return load

    return registered


def _checked(name: str, metric: str, loop: Loop) -> Loop:
    """The loop, whose answer must hold the metric. Raises ValueError with what it held instead."""

    def run(make_layer: MakeLayer, seed: int, budget: Budget) -> Mapping[str, Any]:
        metrics = loop(make_layer, seed, budget)
        if not isinstance(metrics, Mapping) or metric not in metrics:
            held = ", ".join(map(str, metrics)) if isinstance(metrics, Mapping) else type(metrics).__name__
            raise ValueError(f"the loop `{name}` must return a dict with `{metric}`, as its @task says; received {held or 'an empty dict'}")
        return {"validation": metrics[metric], "test": metrics.get("test", metrics[metric])}

    return run


def _source(function: Callable[..., Any]) -> bytes:
    """The file that the function is in: what a run's scores depend on in place of data."""
    file = inspect.getsourcefile(function)
    return Path(file).read_bytes() if file else b""


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "the user's own").splitlines()[0]


def _no_data(variant: str) -> Data:
    import torch

    nothing = (torch.empty(0), torch.empty(0))
    return Data(nothing, nothing, nothing, 0)


def _no_loss(output: Tensor, target: Tensor) -> Tensor:
    raise TypeError("a loop has its own loss")


def _no_score(output: Tensor, target: Tensor) -> float:
    raise TypeError("a loop has its own score")
