"""Named measures with direction and unit, and the names of (task, architecture) pairs. Torch-free, so the driver can read them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """What a task's score is: `direction` +1 where higher is better, -1 where lower is.

    `classes` are the variants whose targets are classes (`""` is the one that a pair without a variant means).
    """

    name: str
    unit: str
    direction: int
    architectures: tuple[str, ...]
    variants: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    from_file: bool = False  # of a data file of the user's


ROWS = ("mlp", "deep-mlp")  # what takes any input
IMAGES = ("plain-cnn", "resnet", "mobilenet", "efficientnet", "convnext", "vit", "stages", *ROWS)  # what takes an image `(N, C, H, W)`
OWN = "own"  # the architecture of a pair whose task is a user's whole training loop

TASKS: dict[str, Measure] = {
    "textures": Measure("accuracy", "%", +1, ("plain-cnn", "resnet", "mobilenet", "mlp", "efficientnet", "convnext", "vit", "stages"), classes=("",)),
    "photo": Measure("PSNR", "dB", +1, ("inr",), ("astronaut", "coffee", "chelsea")),
    "charlm": Measure("cross-entropy", "nats", -1, ("transformer",), classes=("",)),
    "digits": Measure("accuracy", "%", +1, ("mlp", "deep-mlp"), classes=("",)),
    "tabular": Measure("accuracy (diabetes: R2)", "%", +1, ROWS, ("cancer", "wine", "diabetes"), ("", "cancer", "wine")),
    "series": Measure("error", "spreads", -1, ("mlp",), ("coins", "horse")),
    "ood": Measure("error", "spreads", -1, ROWS, ("poly", "harmonic", "feynman")),
    "pinn": Measure("error of the wave function", "%", -1, ("mlp",), ("box", "harmonic")),
    "denoise": Measure("PSNR", "dB", +1, ("dncnn", "mlp")),
    "recall": Measure("accuracy", "%", +1, ("vit",), ("long",), ("", "long")),
}

# The places of an architecture that a layer can be searched for; those that are not here have the slot `act` alone.
SLOTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("plain-cnn", "resnet", "mobilenet", "efficientnet", "dncnn"), ("act", "norm_act")),
    **dict.fromkeys(("transformer", "vit"), ("act", "gate", "attention")),
}

WIDEST = 4096
WIDTHS = {
    "mlp": 64, "deep-mlp": 24, "inr": 64, "transformer": 48, "vit": 24, "plain-cnn": 16, "resnet": 16, "mobilenet": 16, "dncnn": 16,
    "efficientnet": 12, "convnext": 16, "stages": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """A measure of a candidate. Where unit and direction are empty and 0, they are those of the pair's task.

    `of` says what it is computed from: the `scores` of trainings, the `formula`, the trained `network` of each pair, or the `clock`.
    Those `asked` for under `judging.objectives` are measured only then, the others always. `classes` are alone where targets are classes.
    """

    unit: str
    direction: int
    of: Literal["scores", "formula", "network", "clock"]
    what: str
    source: str = ""
    asked: bool = True
    classes: bool = False


# Measured on the validation split by judging.measured, where what is said here is done.
OBJECTIVES: dict[str, Objective] = {
    "score": Objective("", 0, "network", "of a pair, as it is trained", asked=False),
    "mean": Objective("baseline spreads", +1, "scores", "mean standardized score over the pairs", asked=False),
    "worst": Objective("baseline spreads", +1, "scores", "least standardized score over the pairs", asked=False),
    "complexity": Objective("cost units", -1, "formula", "cost of the operators, and one for each learnable parameter", asked=False),
    "saved_per_element": Objective("tensors", -1, "formula", "kept for backward by the plain form, an element of the input", asked=False),
    "time": Objective("ReLU's", -1, "clock", "forward and backward of the layer", asked=False),
    "inference_time": Objective("ReLU's", -1, "clock", "forward of the layer, without gradients"),
    "flops": Objective("additions", -1, "formula", "forward of one element: an addition counts 1, exp 5, by the operators' costs"),
    "noise": Objective("", 0, "network", "score with Gaussian noise of 0.1 of each slot output's deviation added to it", "arXiv 2212.10430"),
    "quant8": Objective("", 0, "network", "score with slot outputs rounded to 8 bits over their range", "arXiv 1712.05877"),
    "quant4": Objective("", 0, "network", "score with slot outputs rounded to 4 bits over their range", "arXiv 1712.05877"),
    "pruned90": Objective("", 0, "network", "score without the least 90 % of the weights by magnitude, not retrained", "arXiv 2305.10964"),
    "pruned99": Objective("", 0, "network", "score without the least 99 % of the weights by magnitude, not retrained", "arXiv 2305.10964"),
    "kurtosis": Objective("", -1, "network", "of a slot's outputs, mean over slots; 3 for a Gaussian", "arXiv 2404.03605"),
    "massive": Objective("", -1, "network", "largest slot output over the median of those that are not 0, by size; the worst slot", "arXiv 2402.17762"),
    "sparsity": Objective("%", +1, "network", "slot outputs of at most 0.001 of their deviation in size, mean over slots", "arXiv 2210.06313"),
    "calibration": Objective("%", -1, "network", "expected calibration error, 15 bins", "arXiv 1706.04599", classes=True),
    "params": Objective("", -1, "network", "learnable numbers of the whole network"),
    "macs": Objective("", -1, "network", "multiply-adds of its convolutions and linear maps for one input"),
    "e_param": Objective("", +1, "network", "area under the ROC curve over log10 of the parameters", "arXiv 2601.10740", classes=True),
}


def check_objective(name: str, kinds: Collection[str] = ("formula", "network", "clock")) -> str:
    """The name, if it is of an objective of these kinds that is measured when asked for. Raises ValueError with the nearest name."""
    names = tuple(n for n, o in OBJECTIVES.items() if o.asked and o.of in kinds)
    if name in names:
        return name
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective `{name[:40]}`; {nearest(name, names)}")
    if not OBJECTIVES[name].asked:
        raise ValueError(f"`{name}` is measured always; leave it out")
    raise ValueError(f"`{name}` is not of trained networks, and is measured in a search alone (judging.objectives); here there are {', '.join(names)}")


def check_goal(name: str, measured: Iterable[str]) -> str:
    """The name, if a search may select by it. Raises ValueError for a time, for what is not known, and for what `measured` lacks."""
    if name in ("score", "mean"):
        raise ValueError("the mean is always a goal; leave it out")
    if name not in OBJECTIVES:
        steering = tuple(n for n, o in OBJECTIVES.items() if o.of != "clock" and n not in ("score", "mean"))
        raise ValueError(f"unknown objective `{name[:40]}`; {nearest(name, steering)}")
    if OBJECTIVES[name].of == "clock":
        raise ValueError(f"`{name}` cannot be a goal: a measured time would make the search depend on what else the machine does; take complexity or flops")
    if OBJECTIVES[name].asked and name not in measured:
        raise ValueError(f"the goal `{name}` is not measured; add it to judging.objectives")
    return name


def applies(name: str, pair: str) -> bool:
    """Whether the objective is measured on the pair's networks: no user's loop gives its network away, and some need classes."""
    named, objective = parse_pair(pair), OBJECTIVES[name]
    return objective.of == "network" and named.architecture != OWN and (not objective.classes or named.variant in TASKS[named.task].classes)


def check_applies(names: Iterable[str], pairs: Iterable[str]) -> None:
    """Raises ValueError for an objective of networks that none of the pairs has."""
    pairs = tuple(pairs)
    for name in names:
        if OBJECTIVES[name].of == "network" and not any(applies(name, pair) for pair in pairs):
            needs = "a pair whose targets are classes" if OBJECTIVES[name].classes else "a pair whose network evosearch trains"
            raise ValueError(f"the objective `{name}` needs {needs}; received {', '.join(pairs)[:120]}: leave it out")


def objective_unit(name: str, pair: str) -> str:
    """The unit of the objective on the pair; empty for a plain number."""
    objective = OBJECTIVES[name]
    return objective.unit if objective.direction else unit(pair)


@dataclass(frozen=True)
class Pair:
    """A task (of a variant) on an architecture (of a width and depth) by batches: `task[.variant]/architecture[.WIDTH[xDEPTH]][@BATCH]`.

    The architecture is a name of the task's, or `module:function`, a model of the user's (architectures.factory).
    """

    task: str
    variant: str
    architecture: str
    width: int | None
    depth: int | None = None
    batch: int | None = None

    @property
    def is_own_model(self) -> bool:
        """Whether the architecture is a function of the user's."""
        return ":" in self.architecture


def parse_pair(text: str) -> Pair:
    """The pair that the text names; a `module:function` is checked for its form and not imported. Raises ValueError with the nearest name."""
    task_part, slash, architecture_part = text.partition("/")
    task, _, variant = task_part.partition(".")
    architecture_part, at, batch = architecture_part.partition("@")
    module, colon, name = architecture_part.rpartition(":")
    name, _, size = name.partition(".")
    architecture = module + colon + name
    if not slash:
        raise ValueError(f"a pair reads task/architecture, e.g. textures/plain-cnn; received `{text[:60]}`")
    measure = TASKS.get(task)
    if measure is None:
        raise ValueError(f"unknown task `{task[:40]}`; {nearest(task, tuple(TASKS))}")
    if colon:
        _check_own_model(task, architecture)
    elif architecture not in measure.architectures:
        raise ValueError(f"unknown architecture `{architecture[:40]}` for {task}; {nearest(architecture, measure.architectures)}")
    if variant and variant not in measure.variants:
        raise ValueError(f"unknown variant `{variant[:40]}` of {task}; {nearest(variant, measure.variants or ('none',))}")
    if at and not (_whole(batch) and 2 <= int(batch) <= 4096):
        raise ValueError(f"a batch size is a whole number from 2 to 4096; received `{batch[:20]}` in `{text[:60]}`")
    return Pair(task, variant, architecture, *_sizes(size, text), int(batch) if at else None)


def widened(text: str, factor: int) -> str | None:
    """The pair with an architecture so many times as wide; None for a user's own without a width, and beyond the widest."""
    pair = parse_pair(text)
    if factor == 1:
        return text
    if (width := pair.width or WIDTHS.get(pair.architecture)) is None or width * factor > WIDEST:
        return None
    task = f"{pair.task}.{pair.variant}" if pair.variant else pair.task
    size = f"{width * factor}" + (f"x{pair.depth}" if pair.depth else "")
    return f"{task}/{pair.architecture}.{size}" + (f"@{pair.batch}" if pair.batch else "")


def _check_own_model(task: str, architecture: str) -> None:
    module, _, function = architecture.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ValueError(f"a model of your own reads module:function, e.g. textures/my_models:net; received `{architecture[:60]}`")
    if TASKS[task].architectures == (OWN,):
        raise ValueError(f"{task} is a training loop, which has its own model; its pair is {task}/{OWN}; received `{architecture[:60]}`")


def own_models(pairs: Iterable[str]) -> tuple[str, ...]:
    """Every `module:function` that the pairs name, once each."""
    return tuple(dict.fromkeys(named.architecture for named in map(parse_pair, pairs) if named.is_own_model))


def check_models_given(pairs: Iterable[str], given: Collection[str], modules: Collection[str], where: Path) -> None:
    """Raises ValueError unless every model of the pairs is `given` by name, or of one of `modules`, which were given as plug-ins.

    For a configuration that was read from the run at `where`: what a folder says is not what its reader asked to import.
    """
    models = own_models(pairs)
    for model in models:
        if model not in given and model.partition(":")[0] not in modules:
            raise ValueError(f"{where} trains the model {model}, whose module would be imported; if you trust it, say so: --model {model}")
    for model in given:
        if model not in models:
            raise ValueError(f"{where} trains no model `{model[:60]}`; {nearest(model, models) if models else 'leave --model out'}")


def _sizes(size: str, text: str) -> tuple[int | None, int | None]:
    """Width and depth out of `WIDTH` or `WIDTHxDEPTH`; None where the text leaves it to the architecture."""
    width, times, depth = size.partition("x")
    if size and not (_whole(width) and 4 <= int(width) <= WIDEST):
        raise ValueError(f"a width is a whole number from 4 to {WIDEST}; received `{size[:20]}` in `{text[:60]}`")
    if times and not (_whole(depth) and 1 <= int(depth) <= 100):
        raise ValueError(f"a depth is a whole number from 1 to 100, after the width, e.g. .24x30; received `{size[:20]}` in `{text[:60]}`")
    return int(width) if size else None, int(depth) if times else None


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def check_slot(pair: str, slot: str) -> None:
    """Raises ValueError if the pair's architecture has no such slot. A model of the user's says so when it is tried, judging.preflight."""
    named = parse_pair(pair)
    architecture = named.architecture
    if named.is_own_model:
        return
    slots = SLOTS.get(architecture, ("act",))
    if slot not in slots:
        raise ValueError(f"{architecture} has the slots {', '.join(slots)}; received `{slot[:40]}` for `{pair}`; {nearest(slot, slots)}")


def register(task: str, measure: Measure) -> None:
    """Adds a user's task to the table. Raises ValueError for a name that a pair cannot hold or that is taken by another measure."""
    if not task.replace("-", "_").isidentifier():
        raise ValueError(f"a task's name is letters, digits, underscores and hyphens, as in `my-data`; received `{task[:40]}`")
    if measure.direction not in (1, -1):
        raise ValueError(f"a task's direction is +1 (higher is better) or -1 (lower is); received {measure.direction!r} for `{task}`")
    taken = TASKS.get(task, measure)
    if taken != measure and not (taken.from_file and measure.from_file):
        raise ValueError(f"there is a task `{task}` already; give yours another name")
    TASKS[task] = measure


def register_file(task: str, targets: str, inputs: str) -> None:
    """Adds the task of a data file, of `classes` or `numbers` and of `rows` or `images`. Raises ValueError like `register`."""
    architectures = IMAGES if inputs == "images" else ROWS
    register(task, Measure("accuracy" if targets == "classes" else "R2", "%", +1, architectures, classes=("",) if targets == "classes" else (), from_file=True))


def direction(pair: str) -> int:
    """+1 where a higher score of the pair is better, -1 where a lower one is."""
    return TASKS[parse_pair(pair).task].direction


def unit(pair: str) -> str:
    """The unit of the pair's score."""
    return TASKS[parse_pair(pair).task].unit


def nearest(name: str, names: Iterable[str]) -> str:
    """A suggestion for a name that is not there."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}"
