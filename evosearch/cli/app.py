"""The application itself, and what its commands share: options, plug-ins, how lines are printed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TextIO, cast

import typer

from evosearch.delivery.layout import printable

if TYPE_CHECKING:
    from evosearch.plugin import PlugIn

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Search for activation functions; compile, explain and export them and normalization layers.",
)  # fmt: skip

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


def width() -> int | None:
    """Columns of the terminal, or of COLUMNS; None for a pipe, where nothing is wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def print_lines(lines: Sequence[str]) -> None:
    """The lines; none is nothing, not an empty line."""
    if lines:
        print(printable("\n".join(lines)), flush=True)


class _Sturdy:
    """A stream that falls silent where its reader is gone, a terminal that was closed or a pipe: what is done goes on without it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._broken = stream, False

    def write(self, text: str) -> int:
        self._guarded(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._guarded(self._stream.flush)

    def _guarded(self, act: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            act()
        except OSError:  # nobody is left to be told
            self._broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def sturdy_output() -> Iterator[None]:
    """Printing may fail, as it does once a terminal is closed, and nothing that is being done may fail by it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Sturdy(stream)) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def load_plugins(paths: Sequence[Path] | None) -> tuple[PlugIn, ...]:
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


def counted(what: str = "trainings") -> Callable[[int, int], None] | None:
    """Counts trainings, or what else is done, on standard error where somebody may be watching."""

    def show(done: int, jobs: int) -> None:
        print(f"\r{done}/{jobs} {what}", end="\n" if done == jobs else "", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else None
