"""The formats that an exported layer is written in: one file a format, `FORMATS` by the names that --formats takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evosearch.delivery.formats import exported, jax, numpy, onnx, python, text, torchscript
from evosearch.delivery.formats.format import CannotBeMade, Format
from evosearch.delivery.place import ExportError

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT for module in (python, torchscript, exported, onnx, text, numpy, jax)
}  # fmt: skip
ALWAYS = "py"


def chosen(names: Sequence[str] | None) -> list[Format]:
    """The formats of those names, NAME.py first; the usual ones without names. Raises ExportError for a name that is none."""
    if names is None:
        return [one for one in FORMATS.values() if one.default]
    for name in names:
        if name not in FORMATS:
            raise ExportError(f"--formats takes {','.join(FORMATS)}; received `{name[:40]}`")
    return [one for one in FORMATS.values() if one.name == ALWAYS or one.name in names]


def make_each(wanted: Sequence[Format], make: Callable[[Format], None], by_name: bool) -> tuple[dict[str, Format], dict[str, str]]:
    """Makes the file of every format that can be made; the others with their reasons. Raises ExportError for one that was asked for `by_name`."""
    made: dict[str, Format] = {}
    absent: dict[str, str] = {}
    for one in wanted:
        try:
            make(one)
            made[one.name] = one
        except CannotBeMade as reason:
            if by_name:
                raise ExportError(f"--formats {one.name} cannot be made: {reason}; nothing was written") from reason
            absent[one.name] = str(reason)
    return made, absent
