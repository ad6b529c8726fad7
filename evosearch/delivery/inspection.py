"""What is in a data file, and what about it should be known before one trusts a score on it. What `evosearch data inspect` prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evosearch.dataset.read import read
from evosearch.dataset.source import DataFile, name_of
from evosearch.dataset.table import Array, Table
from evosearch.delivery.layout import prose
from evosearch.judging.objectives import IMAGES, ROWS, TASKS, parse_pair
from evosearch.judging.tasks.files import data_of, regions
from evosearch.judging.tasks.supervised import RATES

Parts = Sequence[tuple[Array, Array]]  # inputs and targets of each region
REGIONS = ("train", "validation", "test")
FEW_TEST_ROWS, FEW_OF_A_CLASS, COMMON = 100, 10, 0.8
SHOWN = 12


@dataclass(frozen=True)
class Inspection:
    """Facts of a table: `inputs` its shape, dtype and range, `targets` classes with their rows or ranges of numbers, `rows` by region."""

    path: str
    form: str
    sha256: str
    inputs: dict[str, Any]
    targets: dict[str, Any]
    rows: dict[str, int]
    own_test: bool
    rates: dict[str, float]
    warnings: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def inspect(table: Table, path: str) -> Inspection:
    """Raises ValueError for regions that nothing can be trained on."""
    parts = regions(table)
    data_of(table, parts, path, table.kind)
    whole = _whole(table)
    inputs = {
        "kind": table.shape, "shape": list(table.inputs.shape[1:]), "dtype": str(table.inputs.dtype),
        "low": float(whole.min()), "high": float(whole.max()), "columns": list(table.columns),
    }  # fmt: skip
    architectures = IMAGES if table.shape == "images" else ROWS
    rows = {region: len(x) for region, (x, _) in zip(REGIONS, parts, strict=True)}
    return Inspection(
        path, table.form, table.sha256, inputs, _targets(table), rows, table.test is not None, {a: RATES[a] for a in architectures}, warnings(table, parts)
    )


def _whole(table: Table) -> Array:
    return np.concatenate([table.inputs, table.test[0]]) if table.test else table.inputs


def _all_targets(table: Table) -> Array:
    return np.concatenate([table.targets, table.test[1]]) if table.test else table.targets


def _targets(table: Table) -> dict[str, Any]:
    targets = _all_targets(table)
    named = {"column": table.target} if table.target else {}
    if table.kind == "classes":
        counts = np.bincount(targets, minlength=len(table.classes))
        return {"kind": "classes", **named, "classes": dict(zip(table.classes, map(int, counts), strict=True))}
    figures = {"low": targets.min(0), "high": targets.max(0), "mean": targets.mean(0), "deviation": targets.std(0)}
    return {"kind": "numbers", **named, "per_input": targets.shape[1], **{name: [float(v) for v in values] for name, values in figures.items()}}


def warnings(table: Table, parts: Parts) -> tuple[str, ...]:
    """What may mislead of a table and its regions, one sentence each."""
    return (*_of_rows(parts), *_of_targets(table, parts), *_of_columns(table, parts[0][0]))


def _of_rows(parts: Parts) -> list[str]:
    found = []
    test = len(parts[2][0])
    if test < FEW_TEST_ROWS:
        found.append(f"the test part has {test} rows: scores are coarse and seeds differ much; use many seeds")
    kept = [{row.tobytes() for row in _flat(inputs)} for inputs, _ in parts]
    rows = sum(len(inputs) for inputs, _ in parts)
    repeated = rows - len(set().union(*kept))
    if repeated:
        found.append(f"{repeated} of {rows} rows repeat the inputs of another")
    known = kept[0] | kept[1]
    shared = sum(row.tobytes() in known for row in _flat(parts[2][0]))
    if shared:
        found.append(f"{shared} of {test} test rows stand in training or validation too: the test score flatters")
    return found


def _flat(inputs: Array) -> Array:
    return np.ascontiguousarray(inputs + 0).reshape(len(inputs), -1)


def _of_targets(table: Table, parts: Parts) -> list[str]:
    targets = _all_targets(table)
    if table.kind == "numbers":
        values = np.unique(targets)
        if targets.shape[1] == 1 and len(values) <= 20 and (values % 1 == 0).all():
            return [f"the targets are floats of {len(values)} whole values, taken as numbers; for classes, write them as whole numbers or text"]
        return []
    counts = np.bincount(targets, minlength=len(table.classes))
    found = []
    if counts.max() > COMMON * len(targets):
        name = table.classes[int(counts.argmax())]
        found.append(f"the class {name} is {100 * counts.max() / len(targets):.0f} % of the rows: whoever always says so has that accuracy")
    rare = [table.classes[k] for k in np.flatnonzero(counts < FEW_OF_A_CLASS)]
    if rare:
        found.append(f"{len(rare)} of {len(counts)} classes have fewer than {FEW_OF_A_CLASS} rows: {_some(rare)}")
    seen = np.unique(parts[0][1])
    unseen = [table.classes[k] for k in np.setdiff1d(targets, seen)]
    if unseen:
        found.append(f"training never sees the classes {_some(unseen)}")
    return found


def _of_columns(table: Table, train: Array) -> list[str]:
    if table.shape == "images":
        return []
    names = table.columns or tuple(str(k) for k in range(train.shape[1]))
    found = []
    constant = [names[k] for k in np.flatnonzero(np.ptp(train, axis=0) == 0)]
    if constant:
        found.append(f"{len(constant)} columns are constant in training: {_some(constant)}")
    steps = np.diff(table.inputs.astype(np.float64), axis=0)
    counting = [names[k] for k in np.flatnonzero((steps == 1).all(0))]
    if counting:
        found.append(f"the column {_some(counting)} numbers the rows, which gives their order away; leave it out (pandas: index=False)")
    return found


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name[:40]}`" for name in names[:5])
    return shown + (", ..." if len(names) > 5 else "")


def lines(found: Inspection, width: int | None) -> list[str]:
    """The inspection as text."""
    targets, inputs = found.targets, found.inputs
    rule = "the test part is the file's own" if found.own_test else "equal inputs are in one region"
    fields = [
        ("data", f"{found.path}, {found.form}"), ("sha256", found.sha256),
        ("inputs", f"{_size(sum(found.rows.values()), inputs['shape'])}, {inputs['dtype']}, {inputs['low']:g} to {inputs['high']:g}"),
        ("columns", _list(inputs["columns"])),
        ("target", " ".join(["column", f"`{targets['column']}`:"] if "column" in targets else []) + f" {_about(targets)}"),
        ("split", ", ".join(f"{region} {rows}" for region, rows in found.rows.items()) + f"; {rule}"),
        ("rates", "defaults that nobody tuned for this data: " + _rates(found.rates)),
        *(("warning", text) for text in found.warnings),
        ("next", f"evosearch evaluate 'x * sigmoid(x)' {_options(found.path)}"),
    ]  # fmt: skip
    return [line for label, text in fields if text for line in prose(f"{label:<9} {text.strip()}", width, 10)]


def _options(path: str) -> str:
    """How the file is given to `evaluate`: by a name of its own where that of the path is taken or cannot be one."""
    name = name_of(Path(path))
    usable = name.replace("-", "_").isidentifier() and name not in TASKS
    return f"--data {shlex.quote(path)} --task {name}" if usable else f"--data my-data={shlex.quote(path)} --task my-data"


def _size(rows: int, shape: Sequence[int]) -> str:
    return f"{rows} rows of {shape[0]} columns" if len(shape) == 1 else f"{rows} images of {'x'.join(map(str, shape))} (colors, height, width)"


def _about(targets: dict[str, Any]) -> str:
    if targets["kind"] == "numbers":
        ranges = [
            f"{a:g} to {b:g}, mean {m:.4g}, deviation {d:.4g}" for a, b, m, d in zip(*(targets[k] for k in ("low", "high", "mean", "deviation")), strict=True)
        ]
        return f"numbers, {targets['per_input']} per input (a regression, scored by R2): " + _list(ranges, "; ")
    rows = sum(targets["classes"].values())
    shares = [f"{name} {count} ({100 * count / rows:.0f} %)" for name, count in targets["classes"].items()]
    return f"{len(shares)} classes (scored by accuracy): {_list(shares)}"


def _list(texts: Sequence[str], comma: str = ", ") -> str:
    return comma.join(texts[:SHOWN]) + (f"{comma}... ({len(texts)} in all)" if len(texts) > SHOWN else "")


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{architecture} {rate:g}" for architecture, rate in rates.items())


def brief(file: DataFile, table: Table, pairs: Sequence[str]) -> list[str]:
    """One line on a task that a file became, with the default rates of its pairs, and its warnings."""
    parts = regions(table)
    rows = [len(x) for x, _ in parts]
    split = ", ".join(f"{region} {count}" for region, count in zip(REGIONS, rows, strict=True))
    used = dict.fromkeys(named.architecture for named in map(parse_pair, pairs) if named.task == file.name)
    what = f"{len(table.classes)} classes" if table.classes else f"numbers to predict, {table.targets.shape[1]} per input"
    rates = _rates({architecture: RATES[architecture] for architecture in used if architecture in RATES})  # a model of the user's says its own
    size = _size(sum(rows), table.inputs.shape[1:])
    line = f"data {file.name}: {size}, {what}; {split}"
    line += f"; learning rates are defaults that nobody tuned for it: {rates}" if rates else ""
    return [line, *(f"  warning: {text}" for text in warnings(table, parts))]


def briefs(files: Sequence[DataFile], pairs: Sequence[str]) -> list[str]:
    """`brief` of each file. Raises DataError for one that has changed."""
    return [line for file in files for line in brief(file, read(Path(file.path), file.sha256), pairs)]
