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


IMAGES = ("plain-cnn", "resnet", "mobilenet", "efficientnet", "convnext", "vit", "mlp")  # what takes an image `(N, C, H, W)`
ROWS = ("mlp", "deep-mlp")  # what takes any input

TASKS: dict[str, Measure] = {
    "textures": Measure("accuracy", "%", +1, ("plain-cnn", "resnet", "mobilenet", "mlp", "efficientnet", "convnext", "vit")),
    "photo": Measure("PSNR", "dB", +1, ("inr",), ("astronaut", "coffee", "chelsea")),
    "charlm": Measure("cross-entropy", "nats", -1, ("transformer",)),
    "digits": Measure("accuracy", "%", +1, ("mlp", "deep-mlp")),
    "tabular": Measure("accuracy (diabetes: R2)", "%", +1, ROWS, ("cancer", "wine", "diabetes")),
    "series": Measure("error", "spreads", -1, ("mlp",), ("coins", "horse")),
    "ood": Measure("error", "spreads", -1, ROWS, ("poly", "harmonic", "feynman")),
    "pinn": Measure("error of the wave function", "%", -1, ("mlp",), ("box", "harmonic")),
    "denoise": Measure("PSNR", "dB", +1, ("dncnn", "mlp")),
}

# The places of an architecture that a layer can be searched for; those that are not here have the slot `act` alone.
SLOTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("plain-cnn", "resnet", "mobilenet", "efficientnet", "dncnn"), ("act", "norm_act")),
    **dict.fromkeys(("transformer", "vit"), ("act", "gate")),
}

WIDTHS = {
    "mlp": 64, "deep-mlp": 24, "inr": 64, "transformer": 48, "vit": 24, "plain-cnn": 16, "resnet": 16, "mobilenet": 16, "dncnn": 16,
    "efficientnet": 12, "convnext": 16,
}  # fmt: skip

OBJECTIVES: dict[str, tuple[str, int]] = {
    "mean": ("baseline spreads", +1),
    "worst": ("baseline spreads", +1),
    "complexity": ("cost units", -1),
    "saved_per_element": ("tensors", -1),
}


@dataclass(frozen=True)
class Pair:
    """A task (of a variant) on an architecture (of a width and depth) by batches: `task[.variant]/architecture[.WIDTH[xDEPTH]][@BATCH]`."""

    task: str
    variant: str
    architecture: str
    width: int | None
    depth: int | None = None
    batch: int | None = None


def parse_pair(text: str) -> Pair:
    """The pair that the text names. Raises ValueError with the nearest name."""
    task_part, slash, architecture_part = text.partition("/")
    task, _, variant = task_part.partition(".")
    architecture_part, at, batch = architecture_part.partition("@")
    architecture, _, size = architecture_part.partition(".")
    if not slash:
        raise ValueError(f"a pair reads task/architecture, e.g. textures/plain-cnn; received `{text[:60]}`")
    measure = TASKS.get(task)
    if measure is None:
        raise ValueError(f"unknown task `{task[:40]}`; {_nearest(task, tuple(TASKS))}")
    if architecture not in measure.architectures:
        raise ValueError(f"unknown architecture `{architecture[:40]}` for {task}; {_nearest(architecture, measure.architectures)}")
    if variant and variant not in measure.variants:
        raise ValueError(f"unknown variant `{variant[:40]}` of {task}; {_nearest(variant, measure.variants or ('none',))}")
    if at and not (_whole(batch) and 2 <= int(batch) <= 4096):
        raise ValueError(f"a batch size is a whole number from 2 to 4096; received `{batch[:20]}` in `{text[:60]}`")
    return Pair(task, variant, architecture, *_sizes(size, text), int(batch) if at else None)


def widened(text: str, factor: int) -> str:
    """The pair with an architecture so many times as wide."""
    pair = parse_pair(text)
    task = f"{pair.task}.{pair.variant}" if pair.variant else pair.task
    size = f"{(pair.width or WIDTHS[pair.architecture]) * factor}" + (f"x{pair.depth}" if pair.depth else "")
    return f"{task}/{pair.architecture}.{size}" + (f"@{pair.batch}" if pair.batch else "")


def _sizes(size: str, text: str) -> tuple[int | None, int | None]:
    """Width and depth out of `WIDTH` or `WIDTHxDEPTH`; None where the text leaves it to the architecture."""
    width, times, depth = size.partition("x")
    if size and not (_whole(width) and 4 <= int(width) <= 4096):
        raise ValueError(f"a width is a whole number from 4 to 4096; received `{size[:20]}` in `{text[:60]}`")
    if times and not (_whole(depth) and 1 <= int(depth) <= 100):
        raise ValueError(f"a depth is a whole number from 1 to 100, after the width, e.g. .24x30; received `{size[:20]}` in `{text[:60]}`")
    return int(width) if size else None, int(depth) if times else None


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def check_slot(pair: str, slot: str) -> None:
    """Raises ValueError if the pair's architecture has no such slot."""
    architecture = parse_pair(pair).architecture
    slots = SLOTS.get(architecture, ("act",))
    if slot not in slots:
        raise ValueError(f"{architecture} has the slots {', '.join(slots)}; received `{slot[:40]}` for `{pair}`; {_nearest(slot, slots)}")


def register(task: str, measure: Measure) -> None:
    """Adds a user's task to the table. Raises ValueError for a name that a pair cannot hold or that is taken by another measure."""
    if not task.replace("-", "_").isidentifier():
        raise ValueError(f"a task's name is letters, digits, underscores and hyphens, as in `my-data`; received `{task[:40]}`")
    if measure.direction not in (1, -1):
        raise ValueError(f"a task's direction is +1 (higher is better) or -1 (lower is); received {measure.direction!r} for `{task}`")
    if TASKS.setdefault(task, measure) != measure:
        raise ValueError(f"there is a task `{task}` already; give yours another name")


def direction(pair: str) -> int:
    """+1 where a higher score of the pair is better, -1 where a lower one is."""
    return TASKS[parse_pair(pair).task].direction


def unit(pair: str) -> str:
    """The unit of the pair's score."""
    return TASKS[parse_pair(pair).task].unit


def _nearest(name: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}"
