"""Real data from inside libraries, one file a task: fixed train / validation / test regions, loss, score, tuned rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Split = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Data:
    """Inputs and targets of the three regions; `outputs` is the size of the model's last layer."""

    train: Split
    validation: Split
    test: Split
    outputs: int


@dataclass(frozen=True)
class Task:
    """A task: where its data comes from, how it is scored, and the tuned learning rate of each architecture."""

    name: str
    license: str
    load: Callable[[str], Data]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    batch_size: int
    rates: Mapping[str, float]


def task(name: str) -> Task:
    """The task of that name (see judging.objectives.TASKS)."""
    from evosearch.judging.tasks import charlm, digits, photo, textures

    tasks = {t.name: t for t in (charlm.TASK, digits.TASK, photo.TASK, textures.TASK)}
    return tasks[name]


def accuracy(output: Tensor, target: Tensor) -> float:
    """Share of right answers, in percent; `output` has shape `(N, classes)`."""
    return float((output.argmax(1) == target).double().mean() * 100)
