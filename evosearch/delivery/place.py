"""The folder that an export writes: whether it can be written is asked before there is anything to write. Torch-free."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

TEMPORARY = "_tmp.export."


class ExportError(ValueError):
    """The layer could not be exported, or what was written does not compute what was evaluated."""


def standing(directory: Path) -> Path:
    """The folder itself, or the nearest one above that is there, so that a refused export makes none."""
    whole = _real(directory)
    return next(folder for folder in (whole, *whole.parents) if os.path.isdir(folder))


def check_place(directory: Path) -> None:
    """Raises ExportError with the fix for a folder that cannot be written. Leaves nothing behind."""
    whole = _real(directory)
    nearest = standing(directory)
    if nearest != whole and os.path.lexists(step := nearest / whole.relative_to(nearest).parts[0]):
        raise ExportError(f"{_shown(directory)} cannot be written ({_shown(step)} is there and is no folder); pass another --to")
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=TEMPORARY) as workshop:
            for part in whole.relative_to(nearest).parts:  # a name may be too long
                os.rmdir(_made(Path(workshop) / part))
    except OSError as error:
        raise unplaced(directory, error) from None


def _real(directory: Path) -> Path:
    return Path(os.path.realpath(directory))  # Path.resolve() raises RuntimeError for a link to itself


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def unplaced(directory: Path, error: OSError) -> ExportError:
    """What the system refused, of the folder that was asked for."""
    return ExportError(f"{_shown(directory)} cannot be written ({error.strerror or error}); pass another --to, in a folder that you may write to")


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 160 else f"{text[:120]}...{text[-30:]}"
