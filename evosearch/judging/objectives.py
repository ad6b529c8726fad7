"""Named measures with direction and unit, and the names of (task, architecture) pairs. Torch-free, so the driver can read them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a task's score is: `direction` +1 where higher is better, -1 where lower is."""

    name: str
    unit: str
    direction: int
    architectures: tuple[str, ...]
    variants: tuple[str, ...] = ()


TASKS: dict[str, Measure] = {
    "textures": Measure("accuracy", "%", +1, ("plain-cnn", "resnet", "mobilenet", "mlp")),
    "photo": Measure("PSNR", "dB", +1, ("inr",), ("astronaut", "coffee", "chelsea")),
    "charlm": Measure("cross-entropy", "nats", -1, ("transformer",)),
    "digits": Measure("accuracy", "%", +1, ("mlp", "deep-mlp")),
}

OBJECTIVES: dict[str, tuple[str, int]] = {
    "mean": ("baseline spreads", +1),
    "worst": ("baseline spreads", +1),
    "complexity": ("cost units", -1),
    "saved_per_element": ("tensors", -1),
}


@dataclass(frozen=True)
class Pair:
    """A task (of a variant) on an architecture (of a width): `task[.variant]/architecture[.width]`."""

    task: str
    variant: str
    architecture: str
    width: int | None


def parse_pair(text: str) -> Pair:
    """The pair that the text names. Raises ValueError with the nearest name."""
    task_part, slash, architecture_part = text.partition("/")
    task, _, variant = task_part.partition(".")
    architecture, _, width = architecture_part.partition(".")
    if not slash:
        raise ValueError(f"a pair reads task/architecture, e.g. textures/plain-cnn; received `{text[:60]}`")
    measure = TASKS.get(task)
    if measure is None:
        raise ValueError(f"unknown task `{task[:40]}`; {_nearest(task, tuple(TASKS))}")
    if architecture not in measure.architectures:
        raise ValueError(f"unknown architecture `{architecture[:40]}` for {task}; {_nearest(architecture, measure.architectures)}")
    if variant and variant not in measure.variants:
        raise ValueError(f"unknown variant `{variant[:40]}` of {task}; {_nearest(variant, measure.variants or ('none',))}")
    if width and not (width.isdigit() and 4 <= int(width) <= 4096):
        raise ValueError(f"a width is a whole number from 4 to 4096; received `{width[:20]}` in `{text[:60]}`")
    return Pair(task, variant, architecture, int(width) if width else None)


def direction(pair: str) -> int:
    """+1 where a higher score of the pair is better, -1 where a lower one is."""
    return TASKS[parse_pair(pair).task].direction


def unit(pair: str) -> str:
    """The unit of the pair's score."""
    return TASKS[parse_pair(pair).task].unit


def _nearest(name: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}"
