"""Data from inside libraries, or made by a seed, one file a task: fixed train / validation / test regions, loss, score, tuned rates. And the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from evosearch.judging import objectives

if TYPE_CHECKING:  # so that a plug-in's task is known to the driver without torch
    from torch import Tensor, nn

    from evosearch.judging.tasks.plugin import Loop

Split: TypeAlias = "tuple[Tensor, Tensor]"  # inputs and targets


@dataclass(frozen=True)
class Data:
    """Inputs and targets of the three regions; `outputs` is the size of the model's last layer."""

    train: Split
    validation: Split
    test: Split
    outputs: int


@dataclass(frozen=True)
class Task:
    """A task: what it is, where its data comes from, how it is scored, and the tuned learning rate of each architecture.

    `objective` is for a loss that needs the network and not only its answers (derivatives); `loop` for a whole training
    loop of the user's, whose text is `source`.
    """

    name: str
    license: str
    load: Callable[[str], Data]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    batch_size: int
    rates: Mapping[str, float]
    what: str = ""
    objective: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    loop: Loop | None = None
    source: bytes = b""


_own: dict[str, Task] = {}  # the user's; filled when a plug-in or a data file is loaded, before any training


def register(task: Task, measure: objectives.Measure) -> None:
    """Adds a user's task. Raises ValueError for a name that is taken."""
    if task.name in objectives.TASKS and task.name not in _own and not objectives.TASKS[task.name].from_file:
        raise ValueError(f"there is a built-in task `{task.name}`; give yours another name")
    objectives.register(task.name, measure)
    _own[task.name] = task


def task(name: str) -> Task:
    """The task of that name (see judging.objectives.TASKS)."""
    return _own[name] if name in _own else _builtin()[name]


def _builtin() -> dict[str, Task]:
    from evosearch.judging.tasks import charlm, denoise, digits, ood, photo, pinn, recall, series, tabular, textures

    everyone = (charlm, denoise, digits, ood, photo, pinn, recall, series, tabular, textures)
    return {t.name: t for t in (module.TASK for module in everyone)}


def accuracy(output: Tensor, target: Tensor) -> float:
    """Share of right answers, in percent; `output` has shape `(N, classes)`."""
    return float((output.argmax(1) == target).double().mean() * 100)


def relative_error(output: Tensor, target: Tensor) -> float:
    """Root mean square error over the target's deviation, per column, then their mean: 1 is as good as knowing the mean."""
    spread = target.double().std(0, correction=0).clamp_min(1e-9)
    return float(((output.double() - target.double()).square().mean(0).sqrt() / spread).mean())
