"""NAME.py: the text that was judged, for torch alone. Always written; the other formats are made from it."""

from __future__ import annotations

from pathlib import Path

from evosearch.delivery.formats.comparison import module_of, run_of
from evosearch.delivery.formats.format import TRAINING, Format, Layer, Run


def make(layer: Layer, file: Path) -> None:
    file.write_text(layer.source)


def read(file: Path, name: str, kind: str, features: int) -> Run:
    module = module_of(file)
    module.self_test()
    return run_of(getattr(module, kind)(features))


FORMAT = Format("py", ".py", make, read, TRAINING, ("float32", "float16", "bfloat16"), default=True)
