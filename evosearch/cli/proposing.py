"""Commands that propose without searching: mine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evosearch.cli.app import Plugins, counted, load_plugins, print_lines, width
from evosearch.cli.judging import Data, describe, tables_of


def mine(
    task: Annotated[str, typer.Argument(help="A task with rows of numbers: ood.harmonic, tabular.wine.")],
    space: Annotated[str, typer.Option(help="The YAML whose search is to be seeded: its formulas, its baselines.")] = "activation.yaml",
    seed: Annotated[int, typer.Option(help="Of the regressions.")] = 0,
    formulas: Annotated[int, typer.Option(help="Formulas of each regression.")] = 300,
    top: Annotated[int, typer.Option(help="How many to show.")] = 5,
    plugin: Plugins = None,
    data: Data = None,
) -> None:
    """Seeds out of a task's data, by symbolic regression."""
    load_plugins(plugin)
    tables = tables_of(data)
    from evosearch.config import load
    from evosearch.evaluation import pairs_of
    from evosearch.judging.tasks.files import install
    from evosearch.mining import lines, mine, seeds

    pairs = pairs_of([task])
    describe(tables, pairs)
    install(tables)
    found = mine(pairs[0], load(space), seed=seed, formulas=formulas, top=top, on_progress=counted("regressions"))
    print_lines(lines(found, width()))
    chosen = seeds(found)
    if chosen:
        print_lines(["", f"seeds: [{', '.join(map(json.dumps, chosen))}]    # in the YAML of the search, or with --set 'seeds=[...]'"])
