"""The formats that an exported layer is written in: one file a format, `FORMATS` by the names that --formats takes."""

from __future__ import annotations

from collections.abc import Sequence

from evosearch.delivery.formats import exported, jax, numpy, onnx, python, text, torchscript
from evosearch.delivery.formats.format import Format
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
