"""The command line: one function a verb; heavy imports inside the functions, so that --help is instant."""

from __future__ import annotations

import errno
import os
import sys

import typer

from evosearch.cli.app import app
from evosearch.cli.cluster import doctor, fetch, logs, parcel, render, stop, submit, token
from evosearch.cli.judging import evaluate, inspect, tasks, transfer, verify
from evosearch.cli.layers import explain, export, gallery, library, operators
from evosearch.cli.proposing import mine
from evosearch.cli.search import check, resume, run, top
from evosearch.cli.swapping import slots, swap
from evosearch.cli.upkeep import check as check_run
from evosearch.cli.upkeep import repair
from evosearch.delivery.layout import printable

# in the order of --help; a formula may start with a minus sign
_COMMANDS = (
    run, resume, top, check_run, repair, export, explain, tasks, operators, library, gallery, evaluate, verify, transfer, mine, slots, swap,
    submit, logs, stop, fetch, doctor,
)  # fmt: skip
for _command in _COMMANDS:
    app.command(_command.__name__, context_settings={"ignore_unknown_options": _command in (explain, evaluate)})(_command)
_data = typer.Typer(help="Look at data files of your own.")
_data.command()(inspect)
app.add_typer(_data, name="data")
_space = typer.Typer(help="Look at a search before it is started.")
_space.command()(check)
app.add_typer(_space, name="space")

_cluster = typer.Typer(help="Files that start a cluster.")
_cluster.command()(render)
_cluster.command()(token)
_cluster.command(hidden=True)(parcel)
app.add_typer(_cluster, name="cluster")

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer carries its own copy of click, whose usage error has no public name


def _open_missing() -> None:
    """Opens /dev/null for each standard stream that was closed, as by `>&-`: else the next file that is opened would be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is the missing one's
            os.set_inheritable(handle, True)
            setattr(sys, name, open(handle, mode, encoding="utf-8", closefd=False))


def _refused_output() -> bool:
    """Whether standard output takes nothing, which is let go then: else the interpreter tries again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    _open_missing()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted, as in `top | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except _UsageError as error:
        path = getattr(getattr(error, "ctx", None), "command_path", "evosearch")
        message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        print(printable(f"evosearch: {message} (see `{path} --help`)"), file=sys.stderr)
        code = 2
    except (ValueError, OSError) as error:
        refused = _refused_output()
        is_of_output = isinstance(error, OSError) and error.filename is None and (refused or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO))
        text = f"standard output cannot be written ({error.strerror})" if is_of_output else str(error)  # type: ignore[union-attr]
        print(printable(f"evosearch: {' '.join(text.split())}"), file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
