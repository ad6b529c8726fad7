"""Commands over a run's folder: run, resume, top."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from evosearch.cli.app import AcceptNew, Models, Plugins, Run, Set, load_plugins, print_lines, sturdy_output, width
from evosearch.delivery.layout import printable
from evosearch.search.lock import refuse_if_held

if TYPE_CHECKING:
    from evosearch.delivery.progress import Progress
    from evosearch.delivery.summary import Reading
    from evosearch.plugin import PlugIn
    from evosearch.search.study import Study
    from evosearch.sections import Config


def run(
    space: Annotated[str, typer.Argument(help="A YAML file, e.g. search_spaces/activation.yaml")],
    out: Annotated[Path, typer.Option(help="The run's folder; an existing run is resumed.")],
    seed: Annotated[Optional[int], typer.Option(help="Seed of the whole search.")] = None,
    workers: Annotated[Optional[int], typer.Option(help="Workers; 0 is one a core.")] = None,
    executor: Annotated[Optional[str], typer.Option(help="serial, local or ray.")] = None,
    address: Annotated[Optional[str], typer.Option(help="Address of a Ray cluster (with --executor ray).")] = None,
    insecure_cluster: Annotated[Optional[bool], typer.Option("--insecure-cluster", help="Join a Ray cluster that has no token.")] = None,
    device: Annotated[Optional[str], typer.Option(help="cpu or cuda.")] = None,
    minutes: Annotated[Optional[float], typer.Option(help="Stop proposing after so many minutes; the final check follows.")] = None,
    set_: Set = None,
    plugin: Plugins = None,
    accept_new_environment: AcceptNew = False,
) -> None:
    """Run a search, or resume it."""
    refuse_if_held(out)
    from evosearch.config import load

    plugins = load_plugins(plugin)
    given = {"seed": seed, "execution.workers": workers, "execution.executor": executor, "execution.address": address,
             "execution.insecure_cluster": insecure_cluster, "execution.device": device, "budget.minutes": minutes}  # fmt: skip
    _search(load(space, set_ or (), given), out, accept_new_environment, plugins)


def resume(directory: Run, plugin: Plugins = None, model: Models = None, accept_new_environment: AcceptNew = False) -> None:
    """Go on with a run as it was configured."""
    refuse_if_held(directory)
    from evosearch.run import trusted

    plugins = load_plugins(plugin)
    _search(trusted(directory, plugins, model or ()), directory, accept_new_environment, plugins)


def _search(config: Config, directory: Path, accept_new_environment: bool, plugins: Sequence[PlugIn]) -> None:
    """Searches, and says of every end before the end what happened, what is safe, and how to go on; exit code 128 + the signal's number."""
    from evosearch.delivery.progress import Progress
    from evosearch.stopping import Stopped, raised

    signals: list[int] = []
    with sturdy_output():
        progress, kept = Progress(sys.stdout, width() if sys.stdout.isatty() else None), f"all results are kept in {directory}"
        try:
            with raised():
                finished = _searched(config, directory, accept_new_environment, plugins, signals, progress)
            if finished:
                return
            what, stream, kept = f"stopped{_by(signals)}", sys.stdout, f"what was in flight has finished, and {kept}"
        except KeyboardInterrupt:
            what, stream = "stopped at once", sys.stderr
        except Stopped as stopped:
            signals.append(stopped.number)
            what, stream = f"stopped{_by(signals)}", sys.stderr
        if progress.in_flight:
            kept = f"what had not finished will run again; all other results are kept in {directory}"
        print(printable(f"\n{what}; {kept}. Go on with: {_again(directory, plugins)}"), file=stream)
    raise typer.Exit(128 + (signals[0] if signals else signal.SIGINT))


def _again(directory: Path, plugins: Sequence[PlugIn]) -> str:
    """The command that goes on: as it was typed, or submitted; `resume` where this is not the command line."""
    from evosearch.execution.cluster.names import SUBMITTED

    if SUBMITTED in os.environ:
        return os.environ[SUBMITTED]
    if sys.argv[0].endswith(("/evosearch", "/cli/__main__.py")):
        return shlex.join(["evosearch", *sys.argv[1:]])
    return shlex.join(["evosearch", "resume", str(directory), *(part for plugin in plugins for part in ("--plugin", plugin.name))])


def _by(signals: Sequence[int]) -> str:
    return f" by {signal.Signals(signals[0]).name}" if signals and signals[0] != signal.SIGINT else ""


def _searched(
    config: Config, directory: Path, accept_new_environment: bool, plugins: Sequence[PlugIn], signals: list[int], progress: Progress
) -> bool:  # fmt: skip
    """Runs the search and shows what it found; False when it was interrupted, by `signals`."""
    from evosearch import run as running
    from evosearch.delivery.inspection import briefs
    from evosearch.delivery.summary import read, stored_summary, summarize
    from evosearch.delivery.table import seed_line

    is_there = os.path.exists(directory / "run.yaml")
    config = running.prepare(directory, config, accept_new_environment, plugins)
    data = briefs(running.files_of(config), config.judging.pairs) + ([seed_line(config.seeds, ())] if config.seeds else [])
    with _acknowledged(signals):
        finished = running.run(
            config, directory, progress, lambda text: print_lines([text]), plugins,
            lambda study: progress.begin([_banner(config, directory, study if is_there else None), *data], config.judging.pairs),
        )  # fmt: skip
    progress.end()
    if not finished and signals[:1] != [signal.SIGINT]:  # whoever sent SIGTERM does not wait for a page
        return False
    reading = read(directory, config)
    if finished and not stored_summary(reading)[0]:
        print("measuring and simplifying the final table", flush=True)
        summarize(reading)
    _show(reading)
    if finished:
        given = "".join(f" --plugin {plugin.name}" for plugin in plugins)
        what = "my_layer" if config.network is None else "my_network"
        step = f" Next: evosearch export {directory} --best --to {what}{given}" if reading.pick else ""
        print_lines([f"\nresults: {directory}/results/*.parquet, summary.json.{step}"])
    return finished


def _banner(config: Config, directory: Path, resumed: Study | None) -> str:
    functions, baselines, seeds = config.budget.evaluations, len(config.baselines), len(config.asked_first)
    executor = f"executor {config.execution.executor}"
    if resumed:
        there, checked = resumed.resumed
        check = f", and {checked} results of the final check" if checked else ""
        return f"resuming {directory}: {there} of {functions} functions are there{check}; {executor}"
    beside = f"{baselines} baselines" + f" + {seeds} seeds" * bool(seeds)
    return f"run {directory}: {functions} functions ({functions - baselines - seeds} to find + {beside}), {executor}"


@contextmanager
def _acknowledged(signals: list[int]) -> Iterator[None]:
    """Says at once that a signal was heard, and notes it. The byte that Python writes for one wakes a thread; run.py does what is to be done."""
    from evosearch.stopping import KINDLY, NOTICE

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)

    def speak() -> None:
        while heard := os.read(reading, 1):  # until the other end is closed
            if heard[0] in (signal.SIGINT, *KINDLY):
                signals.append(heard[0])
            if len(signals) == 1 and heard[0] == signals[0]:
                notice = "finishing what is in flight; press Ctrl-C again to stop at once"
                print(
                    f"\n{notice if heard[0] == signal.SIGINT else f'{signal.Signals(heard[0]).name}: what is in flight has {NOTICE:g} s to finish'}", flush=True
                )
        os.close(reading)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        speaker.join(1.0)


def _show(reading: Reading) -> None:
    from evosearch.delivery.summary import stored_summary
    from evosearch.delivery.table import page

    print_lines(page(reading, *stored_summary(reading), width()))


def top(directory: Run, plugin: Plugins = None) -> None:
    """Show the table and the verdict of a run."""
    from evosearch.delivery.summary import read
    from evosearch.run import stored

    plugins = load_plugins(plugin)
    _show(read(directory, stored(directory, plugins)[0]))


def check(
    config: Annotated[Path, typer.Argument(help="A YAML of a search, or the name of one of search_spaces/.")],
    set_: Set = None,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train eight functions to estimate minutes and disk.")] = True,
    plugin: Plugins = None,
) -> None:
    """Say how large a search's space is, draw twenty samples, and estimate minutes and disk from eight trainings."""
    plugins = load_plugins(plugin)
    from evosearch.config import load

    loaded = load(str(config), set_ or [])
    from evosearch.estimate import TRIED, estimate_lines, passing, samples, size_line, tried
    from evosearch.run import check_proposers

    space = loaded.space.space()
    check_proposers(loaded, space)
    print_lines([size_line(space), ""])
    texts, verdicts = samples(loaded, space, seed)
    print_lines([*texts, "", f"the driver's screen, of these {len(texts)}: {', '.join(f'{reason} {n}' for reason, n in verdicts.most_common())}"])
    if train:
        print_lines(["", *estimate_lines(loaded, tried(loaded, passing(loaded, space, seed, TRIED), plugins))])
