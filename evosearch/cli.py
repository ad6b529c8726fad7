"""The command line: one function a verb; heavy imports inside the functions, so that --help is instant."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from evosearch.delivery.summary import Reading
    from evosearch.language.graph import Graph
    from evosearch.plugin import PlugIn
    from evosearch.sections import Config

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Search for activation functions; compile, explain and export them and normalization layers.",
)  # fmt: skip
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer carries its own copy of click, whose usage error has no public name

Set = Annotated[Optional[list[str]], typer.Option("--set", metavar="KEY.SUB=VALUE", help="Overrides anything in the YAML; may be repeated.")]
Plugins = Annotated[Optional[list[Path]], typer.Option("--plugin", metavar="FILE", help="A Python file with operators or tasks of your own; may be repeated.")]
Models = Annotated[Optional[list[str]], typer.Option("--model", metavar="MODULE:FUNCTION", help="A model of the run that may be imported; may be repeated.")]
AcceptNew = Annotated[bool, typer.Option("--accept-new-environment", help="Resume although torch, the CPU, the device or the data changed.")]
Workers = Annotated[Optional[int], typer.Option(help="Workers; 0, as without, is one a core.")]
Executor = Annotated[str, typer.Option(help="serial, local or ray.")]
Run = Annotated[Path, typer.Argument(help="The run's folder.")]


@app.callback(invoke_without_command=True)
def _main(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from evosearch import __version__

        print(f"evosearch {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    space: Annotated[str, typer.Argument(help="A YAML file, e.g. search_spaces/activation.yaml")],
    out: Annotated[Path, typer.Option(help="The run's folder; an existing run is resumed.")],
    seed: Annotated[Optional[int], typer.Option(help="Seed of the whole search.")] = None,
    workers: Annotated[Optional[int], typer.Option(help="Workers; 0 is one a core.")] = None,
    executor: Annotated[Optional[str], typer.Option(help="serial, local or ray.")] = None,
    address: Annotated[Optional[str], typer.Option(help="Address of a Ray cluster (with --executor ray).")] = None,
    device: Annotated[Optional[str], typer.Option(help="cpu or cuda.")] = None,
    minutes: Annotated[Optional[float], typer.Option(help="Stop proposing after so many minutes; the final check follows.")] = None,
    set_: Set = None,
    plugin: Plugins = None,
    accept_new_environment: AcceptNew = False,
) -> None:
    """Run a search, or resume it."""
    from evosearch.config import load

    plugins = _plugins(plugin)
    given = {"seed": seed, "execution.workers": workers, "execution.executor": executor, "execution.address": address,
             "execution.device": device, "budget.minutes": minutes}  # fmt: skip
    _search(load(space, set_ or (), given), out, accept_new_environment, plugins)


@app.command()
def resume(directory: Run, plugin: Plugins = None, model: Models = None, accept_new_environment: AcceptNew = False) -> None:
    """Go on with a run as it was configured."""
    from evosearch.run import trusted

    plugins = _plugins(plugin)
    _search(trusted(directory, plugins, model or ()), directory, accept_new_environment, plugins)


def _search(config: Config, directory: Path, accept_new_environment: bool, plugins: Sequence[PlugIn]) -> None:
    try:
        finished = _searched(config, directory, accept_new_environment, plugins)
    except KeyboardInterrupt:
        print("\nevosearch: stopped at once; what was told is kept, and `evosearch resume` goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    if not finished:
        print(f"\nstopped; everything told is in {directory}. Go on with: evosearch resume {directory}")
        raise typer.Exit(130)


def _searched(config: Config, directory: Path, accept_new_environment: bool, plugins: Sequence[PlugIn]) -> bool:
    """Runs the search and shows what it found; False when it was interrupted."""
    from evosearch import run as running
    from evosearch.delivery.progress import Progress
    from evosearch.delivery.summary import read, stored_summary, summarize

    config = running.prepare(directory, config, accept_new_environment, plugins)
    functions, baselines = config.budget.evaluations, len(config.baselines)
    banner = f"run {directory}: {functions} functions ({functions - baselines} to find + {baselines} baselines), executor {config.execution.executor}"
    progress = Progress(sys.stdout, _width() if sys.stdout.isatty() else None)
    with _acknowledged():
        finished = running.run(config, directory, progress, lambda text: print(text, flush=True), plugins, lambda: progress.begin(banner, config.judging.pairs))
    progress.end()
    reading = read(directory, config)
    if finished and not stored_summary(reading)[0]:
        print("measuring and simplifying the final table", flush=True)
        summarize(reading)
    _show(reading)
    if finished:
        given = "".join(f" --plugin {plugin.name}" for plugin in plugins)
        step = f" Next: evosearch export {directory} --best --to my_layer{given}" if reading.pick else ""
        print(f"\nresults: {directory}/results/*.parquet, summary.json.{step}")
    return finished


@contextmanager
def _acknowledged() -> Iterator[None]:
    """Says at once that a Ctrl-C was heard. The byte that Python writes for a signal wakes a thread; run.py does what is to be done."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)

    def speak() -> None:
        if os.read(reading, 1):
            print("\nfinishing what is in flight; press Ctrl-C again to stop at once", flush=True)
        while os.read(reading, 64):  # until the other end is closed
            pass
        os.close(reading)

    threading.Thread(target=speak, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _width() -> int | None:
    """Columns of the terminal, or of COLUMNS; None for a pipe, where nothing is wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)


def _plugins(paths: Sequence[Path] | None) -> tuple[PlugIn, ...]:
    """Adds the operators and tasks of a user's own files, before anything is parsed."""
    if not paths:
        return ()
    from evosearch.judging.objectives import TASKS
    from evosearch.language.operators import OPERATORS
    from evosearch.plugin import PluginError, has_functions, load, loaded

    before = {*OPERATORS, *TASKS}
    plugins = load(paths)
    modules = [module for plugin in plugins if (module := loaded(plugin.stem)) is not None]
    if before == {*OPERATORS, *TASKS} and not any(map(has_functions, modules)):
        raise PluginError(f"{paths[0]} adds nothing: a plug-in defines OPERATORS (a list of Operator), tasks by @evosearch.task or @evosearch.data, or models")
    return plugins


def _show(reading: Reading) -> None:
    from evosearch.delivery.summary import stored_summary
    from evosearch.delivery.table import page

    _print(page(reading, *stored_summary(reading), _width()))


@app.command()
def top(directory: Run, plugin: Plugins = None) -> None:
    """Show the table and the verdict of a run."""
    from evosearch.delivery.summary import read
    from evosearch.run import stored

    plugins = _plugins(plugin)
    _show(read(directory, stored(directory, plugins)[0]))


@app.command()
def export(
    directory: Annotated[Optional[Path], typer.Argument(help="The run's folder (not with --formula).")] = None,
    to: Annotated[Path, typer.Option(help="The folder to write.")] = Path("my_layer"),
    best: Annotated[bool, typer.Option("--best", help="The pick of the run.")] = False,
    id_: Annotated[Optional[str], typer.Option("--id", help="The function whose canonical id starts so (the table shows ids).")] = None,
    formula: Annotated[Optional[str], typer.Option(help="Any formula, or the name of a known layer.")] = None,
    name: Annotated[Optional[str], typer.Option(help="Name of the layer; the folder's name by default.")] = None,
    features: Annotated[Optional[int], typer.Option(help="Channels of the TorchScript file of a layer that keeps a value per channel.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another formula in the folder.")] = False,
    plugin: Plugins = None,
) -> None:
    """Write a layer as files that need torch only."""
    chosen = [option for option in (best, id_, formula) if option]
    if len(chosen) != 1 or (formula is None) == (directory is None):
        raise ValueError("export takes a run with --best or --id ID, or no run and --formula TEXT")
    from evosearch.delivery.place import check_place

    check_place(to)
    plugins = _plugins(plugin)
    tracked, verdict = "unbiased", None
    if formula is not None:
        graph, tracked = _layer(formula)
    else:
        graph, verdict = _found(directory, id_, plugins)  # type: ignore[arg-type]
    from evosearch.delivery.export import export as write  # torch: after what can be refused without it

    files = write(graph, to, name or to.resolve().name, features=features, tracked_variance=tracked, verdict=verdict, overwrite=overwrite)
    for path in files:
        print(path)
    if not any(path.suffix == ".pt" for path in files):
        print("no TorchScript file: the layer keeps a value per channel; pass --features N for one of N channels")
    print(f"`{graph}` as {to}/: every file was loaded in a fresh process and gives the values and gradients that were evaluated")
    if verdict is not None:
        print(f"verdict: {verdict}")


def _named(text: str) -> str | None:
    """The name of the known layer that the text means; None for a formula. Raises ValueError for a name that is neither."""
    from evosearch.language.library import known, library
    from evosearch.language.operators import OPERATORS, STATISTICS

    text = text.strip()
    if not text.isidentifier() or text in ("x", "y") or (text in (*OPERATORS, *STATISTICS) and text not in library()):
        return None
    return known(text).name


def _layer(text: str) -> tuple[Graph, str]:
    """The graph of a formula or of a known layer, its affine part included; and how it tracks variances."""
    from evosearch.language.formula import parse
    from evosearch.language.graph import with_affine
    from evosearch.language.library import known

    name = _named(text)
    if name is None:
        return parse(text), "unbiased"
    layer = known(name)
    return with_affine(layer.graph) if layer.affine else layer.graph, layer.tracked_variance


def _found(directory: Path, wanted: str | None, plugins: Sequence[PlugIn]) -> tuple[Graph, str]:
    """The pick, or the function whose id starts with `wanted`; and what is known of it on unseen pairs."""
    from evosearch.delivery.summary import read, stored_summary, verdict_line
    from evosearch.language.formula import parse
    from evosearch.run import stored

    reading = read(directory, stored(directory, plugins)[0])
    if wanted is None:
        if reading.pick is None:
            advice = "search longer or wider" if reading.finished else f"let it run on with `evosearch resume {directory}`"
            raise ValueError(f"{directory} has no fully trained function; {advice}")
        candidate = reading.pick.candidate
    else:
        texts = {r["canonical_id"]: str(r["candidate"]) for r in reading.rows if r["canonical_id"].startswith(wanted.lower())}
        if len(texts) != 1:
            raise ValueError(f"--id needs the start of exactly one canonical id; `{wanted[:70]}` fits {len(texts)}")
        (candidate,) = texts.values()
    return parse(candidate), verdict_line(reading, stored_summary(reading)[0], candidate)


@app.command(context_settings={"ignore_unknown_options": True})  # a formula may start with a minus sign
def explain(
    formula: Annotated[str, typer.Argument(help="A formula, e.g. 'x * sigmoid(x)', or the name of a known layer.")],
    plugin: Plugins = None,
) -> None:
    """Say all that is known of a formula or a layer."""
    from evosearch.delivery.layout import prose
    from evosearch.language.formula import parse
    from evosearch.language.library import known
    from evosearch.meaning.explain import explain as lines

    _plugins(plugin)
    name = _named(formula)
    text = known(name).formula if name else formula
    named = [("library", f"{name}: {text}  [{known(name).source}]")] if name else []
    for label, line in [*named, *lines(parse(text))]:
        _print(prose(f"{label:<12} {line}", _width(), 13))


@app.command()
def tasks(plugin: Plugins = None) -> None:
    """List tasks, variants, architectures, metrics; and objectives."""
    from evosearch.delivery import listing

    _plugins(plugin)
    _print(listing.tasks(_width()))


@app.command()
def operators(latex: Annotated[bool, typer.Option("--latex", help="LaTeX in place of the derivative.")] = False, plugin: Plugins = None) -> None:
    """List operators: cost, kinks, derivative."""
    from evosearch.delivery import listing

    _plugins(plugin)
    _print(listing.operators(_width(), latex))


@app.command()
def library(
    name: Annotated[Optional[str], typer.Argument(help="One layer; all of them without.")] = None,
    unsayable: Annotated[bool, typer.Option("--unsayable", help="Published layers that are no formula, and why.")] = False,
    plugin: Plugins = None,
) -> None:
    """List known layers as formulas, or show one."""
    from evosearch.delivery import listing

    if name and unsayable:
        raise ValueError(f"library takes a name or --unsayable, not both; drop one (received `{name[:40]}`)")
    _plugins(plugin)
    _print(listing.cannot_say(_width()) if unsayable else listing.layer(name, _width()) if name else listing.library(_width()))


@app.command(context_settings={"ignore_unknown_options": True})
def evaluate(
    formula: Annotated[str, typer.Argument(help="A formula, or the name of a known layer.")],
    task: Annotated[str, typer.Option(help="Tasks or pairs, separated by commas: photo,textures/resnet.")],
    against: Annotated[Optional[list[str]], typer.Option(help="Names or formulas, separated by commas; may be repeated.  [default: relu,gelu]")] = None,
    architecture: Annotated[Optional[str], typer.Option(help="Of every task that names none.")] = None,
    seeds: Annotated[int, typer.Option(help="Paired seeds.")] = 5,
    steps: Annotated[int, typer.Option(help="Optimizer steps a training.")] = 200,
    workers: Workers = None,
    executor: Executor = "local",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    objectives: Annotated[Optional[str], typer.Option(help="Measured too, separated by commas: noise,quant4 (`evosearch tasks` lists them).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print data in place of a table.")] = False,
    plugin: Plugins = None,
) -> None:
    """Train one formula against others: better, not better or worse."""
    import json

    plugins = _plugins(plugin)
    from evosearch.delivery.progress import introduce
    from evosearch.evaluation import evaluate_formula, names_of, pairs_of, table_of

    pairs = pairs_of(task.split(","), architecture)
    found = evaluate_formula(
        formula, names_of(against or ["relu,gelu"]), pairs, seeds=seeds, steps=steps, executor=executor, workers=workers,
        device=device, on_progress=_counted(), plugins=plugins, objectives=[name.strip() for name in objectives.split(",")] if objectives else (),
        on_start=None if json_ else lambda: introduce(pairs),
    )  # fmt: skip
    _print([json.dumps(found.to_data(), indent=2)] if json_ else table_of(found))
    if found.why_nothing is not None:
        raise ValueError(f"every training of `{formula[:60]}` failed: {found.why_nothing[:300]}; try another formula, or other tasks")


@app.command()
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
    plugins = _plugins(plugin)
    from evosearch.delivery.progress import introduce
    from evosearch.run import trusted
    from evosearch.verification import table_of, verify

    config = trusted(directory, plugins, model or ())
    found = verify(
        directory, config, top=top, seeds=seeds, executor=executor, workers=workers, plugins=plugins, on_progress=_counted(),
        conditions=conditions, on_start=lambda: introduce(config.judging.final.pairs),
    )  # fmt: skip
    _print([*table_of(found), f"written to {directory / 'verify.json'}"])


def _counted() -> Callable[[int, int], None] | None:
    """Counts trainings on standard error where somebody may be watching."""

    def show(done: int, jobs: int) -> None:
        print(f"\r{done}/{jobs} trainings", end="\n" if done == jobs else "", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else None


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted, as in `top | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except _UsageError as error:
        path = getattr(getattr(error, "ctx", None), "command_path", "evosearch")
        print(f"evosearch: {' '.join(error.format_message().split())} (see `{path} --help`)", file=sys.stderr)  # type: ignore[attr-defined]
        code = 2
    except (ValueError, OSError) as error:
        print(f"evosearch: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
