"""The command line: one function a verb; heavy imports inside the functions, so that --help is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from evosearch.config import Config

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Search for activation functions and normalization layers; take home what is really better.",
)  # fmt: skip

Set = Annotated[Optional[list[str]], typer.Option("--set", metavar="KEY.SUB=VALUE", help="Overrides anything in the YAML; may be repeated.")]


@app.command()
def run(
    space: Annotated[str, typer.Argument(help="A YAML file, e.g. search_spaces/activation.yaml")],
    out: Annotated[Path, typer.Option(help="The run's folder; an existing run is resumed.")],
    seed: Annotated[Optional[int], typer.Option(help="Seed of the whole search.")] = None,
    workers: Annotated[Optional[int], typer.Option(help="Workers; 0 is one a core.")] = None,
    executor: Annotated[Optional[str], typer.Option(help="serial, local or ray.")] = None,
    address: Annotated[Optional[str], typer.Option(help="Address of a Ray cluster (with --executor ray).")] = None,
    device: Annotated[Optional[str], typer.Option(help="cpu or cuda.")] = None,
    minutes: Annotated[Optional[float], typer.Option(help="Stop asking after so many minutes; the final check follows.")] = None,
    set_: Set = None,
    accept_new_environment: Annotated[bool, typer.Option(help="Resume although torch, the CPU, the device or the data changed.")] = False,
) -> None:
    """Runs a search, or resumes it."""
    from evosearch.config import load

    overrides = list(set_ or [])
    given = {"seed": seed, "execution.workers": workers, "execution.executor": executor, "execution.address": address,
             "execution.device": device, "budget.minutes": minutes}  # fmt: skip
    overrides += [f"{key}={value}" for key, value in given.items() if value is not None]
    _search(load(space, overrides), out, accept_new_environment)


@app.command()
def resume(
    directory: Annotated[Path, typer.Argument(help="The run's folder.")],
    accept_new_environment: Annotated[bool, typer.Option(help="Resume although torch, the CPU, the device or the data changed.")] = False,
) -> None:
    """Goes on with a run as it was configured; the same as its `run` typed again."""
    from evosearch.run import stored

    _search(stored(directory)[0], directory, accept_new_environment)


def _search(config: Config, directory: Path, accept_new_environment: bool) -> None:
    from evosearch import run as running
    from evosearch.delivery.summary import summarize
    from evosearch.delivery.table import Progress, print_table

    console = _console()
    config = running.prepare(directory, config, accept_new_environment)
    console.print(f"run {directory}: {config.budget.evaluations} functions, executor {config.execution.executor}", highlight=False)
    progress = Progress(console)
    finished = running.run(config, directory, progress, lambda text: console.print(text, highlight=False))
    progress.end()
    if finished:
        console.print("measuring and simplifying the final table", highlight=False)
        summarize(directory, config)
    print_table(console, directory, config)
    if finished:
        console.print(f"\nresults: {directory}/results/*.parquet, summary.json. Next: evosearch export {directory} --best --to my_layer", highlight=False)
    else:
        console.print(f"\nstopped; everything told is in {directory}. Go on with: evosearch resume {directory}", highlight=False)


def _console() -> Console:
    """The terminal as it is; wide lines where there is none, so that a log file keeps its tables."""
    from rich.console import Console

    # no markup: units stand in brackets, and a path may hold them
    return Console(markup=False) if sys.stdout.isatty() else Console(markup=False, width=200)


@app.command()
def top(directory: Annotated[Path, typer.Argument(help="The run's folder.")]) -> None:
    """Pareto table of a run: formula, objectives with units, baselines marked, >>>> on the pick."""
    from evosearch.delivery.table import print_table
    from evosearch.run import stored

    print_table(_console(), directory, stored(directory)[0])


@app.command()
def export(
    directory: Annotated[Optional[Path], typer.Argument(help="The run's folder (not with --formula).")] = None,
    to: Annotated[Path, typer.Option(help="The folder to write.")] = Path("my_layer"),
    best: Annotated[bool, typer.Option("--best", help="The pick of the run.")] = False,
    id_: Annotated[Optional[str], typer.Option("--id", help="The function whose canonical id starts so.")] = None,
    formula: Annotated[Optional[str], typer.Option(help="Any formula.")] = None,
    name: Annotated[Optional[str], typer.Option(help="Name of the layer; the folder's name by default.")] = None,
) -> None:
    """Writes a layer as NAME.py (needs torch only), NAME.ts.pt and formula.json, verified in a fresh process."""
    from evosearch.language.formula import parse

    chosen = [option for option in (best, id_, formula) if option]
    if len(chosen) != 1 or (formula is None) == (directory is None):
        raise ValueError("export takes a run with --best or --id ID, or no run and --formula TEXT")
    text = formula if formula is not None else _found(directory, id_)  # type: ignore[arg-type]
    graph = parse(text)
    from evosearch.delivery.export import export as write  # torch: after what can be refused without it

    for path in write(graph, to, name or to.resolve().name):
        print(path)
    print(f"`{text}` as {to}/: every file was loaded in a fresh process and gives the values and gradients that were evaluated")


def _found(directory: Path, wanted: str | None) -> str:
    """The formula of the pick, or of the function whose id starts with `wanted`."""
    from evosearch.delivery.summary import directions_of, read_scale, search_rows
    from evosearch.run import stored
    from evosearch.search.pick import pick
    from evosearch.search.store import read_run

    config, _ = stored(directory)
    rows, records = read_run(directory)
    if wanted is None:
        scale = read_scale(records)
        chosen = pick(search_rows(rows, scale, directions_of(config)), scale) if scale else None
        if chosen is None:
            raise ValueError(f"{directory} has no fully trained function yet; let it run on with `evosearch resume {directory}`")
        if not chosen.leads:
            print("note: this function is not ahead of every baseline of its search")
        return chosen.candidate
    texts = {r["canonical_id"]: r["candidate"] for r in rows if r["canonical_id"].startswith(wanted.lower())}
    if len(texts) != 1:
        raise ValueError(f"--id needs the start of exactly one canonical id; `{wanted[:70]}` fits {len(texts)}")
    return str(next(iter(texts.values())))


@app.command()
def explain(formula: Annotated[str, typer.Argument(help="A formula, e.g. 'x * sigmoid(x)'")]) -> None:
    """What a formula is: canonical and simplified form, derivative, LaTeX, cost, nearest known function."""
    from evosearch.language.formula import parse
    from evosearch.meaning.explain import explain as lines

    for label, text in lines(parse(formula)):
        print(f"{label:<12} {text}")


@app.command()
def operators() -> None:
    """The operator table."""
    from evosearch.language.operators import AXIS_SETS, OPERATORS, STATISTICS

    print(f"{'operator':<12} inputs  cost  smooth  derivative")
    for row in OPERATORS.values():
        if row.searchable:
            print(f"{row.name:<12} {row.arity:>6}  {row.cost:>4}  {'yes' if row.smooth else 'no':<6}  {'; '.join(row.derivative)}")
    print(f"statistics: {', '.join(STATISTICS)} over {', '.join(AXIS_SETS)}")


@app.command()
def library(name: Annotated[Optional[str], typer.Argument(help="One layer; all of them without.")] = None) -> None:
    """Known layers as formulas."""
    from evosearch.language.library import known
    from evosearch.language.library import library as layers

    for layer in [known(name)] if name else layers().values():
        print(f"{layer.name:<18} {layer.formula}   [{layer.source}]")


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"evosearch: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("evosearch: stopped at once; what was told is kept, and `evosearch resume` goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
