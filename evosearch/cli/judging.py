"""Commands that judge: tasks, evaluate, verify, transfer, and data inspect."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TextIO

import typer

from evosearch.cli.app import Executor, Models, Plugins, Run, Workers, counted, load_plugins, print_lines, width

if TYPE_CHECKING:
    from evosearch.dataset.source import DataFile
    from evosearch.dataset.table import Table

Data = Annotated[Optional[list[str]], typer.Option("--data", metavar="[NAME=]PATH", help="A data file of your own as the task NAME; may be repeated.")]


def tasks(plugin: Plugins = None) -> None:
    """List tasks, variants, architectures, metrics; and objectives."""
    from evosearch.delivery import listing

    load_plugins(plugin)
    print_lines(listing.tasks(width()))


def evaluate(
    formula: Annotated[str, typer.Argument(help="A formula, or the name of a known layer.")],
    task: Annotated[str, typer.Option(help="Tasks or pairs, separated by commas: photo,textures/resnet.")],
    against: Annotated[
        Optional[list[str]],
        typer.Option(help="Names or formulas, separated by commas; may be repeated.  [default: relu,gelu, or the slot's usual]"),
    ] = None,
    architecture: Annotated[Optional[str], typer.Option(help="Of every task that names none.")] = None,
    seeds: Annotated[int, typer.Option(help="Paired seeds.")] = 5,
    steps: Annotated[int, typer.Option(help="Optimizer steps a training.")] = 200,
    workers: Workers = None,
    executor: Executor = "local",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    slot: Annotated[str, typer.Option(help="The place that the formula is for: act, norm_act, gate, attention.")] = "act",
    objectives: Annotated[Optional[str], typer.Option(help="Measured on the trained networks too, separated by commas: noise,quant4.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print data in place of a table.")] = False,
    plugin: Plugins = None,
    data: Data = None,
) -> None:
    """Train one formula against others: better, not better or worse."""
    import json

    plugins = load_plugins(plugin)
    tables = tables_of(data)
    from evosearch.delivery.progress import introduce
    from evosearch.evaluation import evaluate_formula, names_of, pairs_of, table_of
    from evosearch.judging.baselines import QUALITY_BAR, check_known

    check_known(slot)
    others = names_of(against or ["relu,gelu" if slot == "act" else QUALITY_BAR[slot][1]])
    pairs = pairs_of(task.split(","), architecture, slot)
    describe(tables, pairs, sys.stderr if json_ else None)
    found = evaluate_formula(
        formula, others, pairs, seeds=seeds, steps=steps, executor=executor, workers=workers, device=device,
        on_progress=counted(), plugins=plugins, data=list(tables), objectives=[name.strip() for name in objectives.split(",")] if objectives else (),
        on_start=None if json_ else lambda: introduce(pairs), slot=slot,
    )  # fmt: skip
    print_lines([json.dumps(found.to_data(), indent=2)] if json_ else table_of(found))
    if found.why_nothing is not None:
        raise ValueError(f"every training of `{formula[:60]}` failed: {found.why_nothing[:300]}; try another formula, or other tasks")


def tables_of(texts: Sequence[str] | None) -> dict[DataFile, Table]:
    """Reads each `PATH` or `NAME=PATH` and makes it a task, before any pair is named. Raises ValueError."""
    if not texts:
        return {}
    from evosearch.dataset.read import data_file, read
    from evosearch.judging.objectives import register_file

    tables: dict[DataFile, Table] = {}
    for text in texts:
        name, path = _name_and_path(text)
        if name in [file.name for file in tables]:
            raise ValueError(f"--data names the task `{name[:40]}` twice; give one another name: --data NAME=PATH")
        table = read(path)
        file = data_file(name, path, table)
        try:
            register_file(name, file.targets, file.inputs)
        except ValueError as error:
            raise ValueError(f"--data {text[:80]}: {error}: --data NAME=PATH") from None
        tables[file] = table
    return tables


def _name_and_path(text: str) -> tuple[str, Path]:
    """`wine=files/a.csv` as it says; `files/wine.csv` as the task `wine`."""
    from evosearch.dataset.source import name_of

    name, equals, path = text.partition("=")
    if equals and os.sep not in name:
        return name, Path(os.path.expanduser(path))
    return name_of(Path(text)), Path(os.path.expanduser(text))


def describe(tables: dict[DataFile, Table], pairs: Sequence[str], stream: TextIO | None = None) -> None:
    """Says what each file holds, on standard output by default. Raises ValueError for one that no pair names, or that nothing can be trained on."""
    if not tables:
        return
    from evosearch.delivery.inspection import brief
    from evosearch.delivery.layout import printable
    from evosearch.judging.objectives import parse_pair

    unused = {file.name for file in tables} - {parse_pair(pair).task for pair in pairs}
    if unused:
        raise ValueError(f"--data {min(unused)} is used by no task; name it, as in --task {min(unused)}, or leave it out")
    for file, table in tables.items():
        print(printable("\n".join(brief(file, table, pairs))), file=stream, flush=True)


def verify(
    directory: Run,
    top: Annotated[int, typer.Option(help="How many of the run's best functions.")] = 1,
    seeds: Annotated[int, typer.Option(help="Fresh seeds on each pair, at least 3.")] = 8,
    conditions: Annotated[bool, typer.Option("--conditions", help="Also by SGD, and on networks 2 and 4 times as wide.")] = False,
    workers: Workers = None,
    executor: Executor = "local",
    plugin: Plugins = None,
    model: Models = None,
) -> None:
    """Check the best on fresh seeds, against all baselines."""
    plugins = load_plugins(plugin)
    from evosearch.delivery.progress import introduce
    from evosearch.run import trusted
    from evosearch.verification import table_of, verify

    config = trusted(directory, plugins, model or ())
    found = verify(
        directory, config, top=top, seeds=seeds, executor=executor, workers=workers, plugins=plugins, on_progress=counted(),
        conditions=conditions, on_start=lambda: introduce(config.judging.final.pairs),
    )  # fmt: skip
    print_lines([*table_of(found), f"written to {directory / 'verify.json'}"])


def transfer(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, a row of the matrix each.")],
    tasks: Annotated[str, typer.Option(help="Tasks or pairs, separated by commas, a column each: photo,textures/resnet.")],
    top: Annotated[int, typer.Option(help="How many of each run's best functions.")] = 1,
    seeds: Annotated[int, typer.Option(help="Fresh paired seeds, at least 2.")] = 5,
    steps: Annotated[int, typer.Option(help="Optimizer steps a training.")] = 200,
    workers: Workers = None,
    executor: Executor = "local",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_: Annotated[bool, typer.Option("--json", help="Print data in place of a table.")] = False,
    plugin: Plugins = None,
    data: Data = None,
) -> None:
    """Discovered on A, used on B: the gains of finds on other tasks."""
    import json

    plugins = load_plugins(plugin)
    tables = tables_of(data)
    from evosearch.delivery.progress import introduce
    from evosearch.evaluation import pairs_of
    from evosearch.transfer import open_run, table_of, transfer

    runs = {directory: open_run(directory, plugins) for directory in directories}
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise ValueError("a run stands here twice; leave one out")
    pairs = pairs_of(tasks.split(","))
    describe(tables, pairs, sys.stderr if json_ else None)
    found = transfer(
        runs, pairs, top=top, seeds=seeds, steps=steps, executor=executor, workers=workers, device=device, plugins=plugins, data=list(tables),
        on_progress=counted(), on_start=lambda: introduce(pairs),
    )  # fmt: skip
    print_lines([json.dumps(found.to_data(), indent=2)] if json_ else table_of(found, width()))


def inspect(
    path: Annotated[Path, typer.Argument(help="A .npz, .csv or .parquet file, a folder of images by class, or CIFAR's folder.")],
    json_: Annotated[bool, typer.Option("--json", help="Print data in place of text.")] = False,
) -> None:
    """Say what a file holds, how it is split, and what to mind."""
    import json

    from evosearch.dataset.read import read

    table = read(Path(os.path.expanduser(path)))
    from evosearch.delivery.inspection import inspect as inspected  # torch: after what can be refused without it
    from evosearch.delivery.inspection import lines

    found = inspected(table, str(path))
    print_lines([json.dumps(found.to_data(), indent=2)] if json_ else lines(found, width()))
