"""Every file read again in one fresh process and compared with the layer that was judged; what a format itself does otherwise is in one list."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from evosearch.delivery.formats import comparison
from evosearch.delivery.formats.cases import expected
from evosearch.delivery.formats.format import Format, Layer
from evosearch.language.graph import Axes
from evosearch.meaning.derive import gradients

SECONDS = 300.0  # for the fresh process of one export


@dataclass(frozen=True)
class Exception_:
    """A row of exceptions.toml: where a format differs from torch by itself."""

    format: str
    results: tuple[str, ...]
    inputs: tuple[str, ...]
    reason: str
    source: str
    operators: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()

    def covers(self, format_: str, case: str, result: str, places: Sequence[str], operators: frozenset[str]) -> bool:
        """Whether it explains a difference in `result` at inputs of the kinds `places`."""
        named = not self.operators or bool(operators.intersection(self.operators))
        there = set(places) <= set(self.inputs) and (not self.cases or case in self.cases)
        return format_ == self.format and named and there and result.startswith(self.results)


@dataclass
class Verified:
    """What the comparison of one format found."""

    cases: dict[str, float] = field(default_factory=dict)  # the largest error
    exceptions: list[dict[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def largest(self) -> float:
        return max(self.cases.values(), default=0.0)


@cache
def exceptions() -> tuple[Exception_, ...]:
    """The committed list."""
    rows = tomllib.loads(files("evosearch.delivery.formats").joinpath("exceptions.toml").read_text()).get("exception", [])
    return tuple(Exception_(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}) for row in rows)


def verify(layers: Sequence[tuple[Layer, Path]], made: Sequence[Mapping[str, Format]], seconds: float = SECONDS) -> list[dict[str, Verified]]:
    """The files of each layer in its folder, compared in one fresh process that has no evosearch; by layer and format.

    Raises RuntimeError with the last line of a process that did not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        work, refused, rows = Path(folder), [], []
        for i, ((layer, place), formats) in enumerate(zip(layers, made, strict=True)):
            wanted = expected(layer)
            refused.append(wanted.pop("refused"))
            torch.save(wanted, work / f"{i}.pt")
            specs = {name: {"file": f.file(layer.name), "offers": sorted(f.offers), "types": list(f.types)} for name, f in formats.items() if f.read}
            rows.append({"folder": str(place), "cases": str(work / f"{i}.pt"), "name": layer.name, "kind": layer.kind, "features": layer.channels, "formats": specs})
        readers = {name: f for formats in made for name, f in formats.items()}
        report = run_fresh(program(list(readers.values())), {"layers": rows}, seconds)
        return [_judge(layer, found, r) for (layer, _), found, r in zip(layers, report, refused, strict=True)]


def program(formats: Sequence[Format]) -> str:
    """The text of what the fresh process runs: `comparison`, and the reader of each format."""
    readers = [f"{inspect.getsource(f.read)}\n\nREADERS[{f.name!r}] = read" for f in formats if f.read]
    return "\n\n\n".join([inspect.getsource(comparison), *readers, "main()\n"])


def run_fresh(text: str, request: Mapping[str, Any], seconds: float) -> Any:
    """What the program answers to the request. Raises RuntimeError with the last line of one that ends otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "program.py").write_text(text)
        (work / "request.json").write_text(json.dumps(request))
        arguments = [sys.executable, "-I", str(work / "program.py"), str(work / "request.json"), str(work / "answer.json")]
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the files were not read and compared within {seconds:g} s") from None
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError("".join(last)[:300] or f"the process that reads the files ended with {done.returncode}")
        return json.loads((work / "answer.json").read_text())


def _judge(layer: Layer, found: Mapping[str, Any], refused: Any) -> dict[str, Verified]:
    operators = layer.operators | slope_operators(layer)
    verdicts: dict[str, Verified] = {}
    for name, by_case in found.items():
        verdicts[name] = one = Verified()
        for case, results in by_case.items():
            errors = [result["error"] for result in results.values() if result["error"] is not None and "wrong" not in result]
            one.cases[case] = max(errors, default=0.0)
            for key, result in results.items():
                if "wrong" in result:
                    _explain(one, name, case, key, result, operators)
        if not by_case:
            one.failures.append("no case was compared")
    return verdicts


def _explain(one: Verified, name: str, case: str, key: str, result: Mapping[str, Any], operators: frozenset[str]) -> None:
    for row in exceptions():
        if row.covers(name, case, key, result["places"], operators):
            one.exceptions.append({"case": case, "result": key, "difference": result["wrong"], "reason": row.reason, "source": row.source})
            return
    one.failures.append(f"{key} of the case `{case}`: {result['wrong']} (inputs: {', '.join(result['places'])})")


def slope_operators(layer: Layer) -> frozenset[str]:
    """The operators of the gradient, and `statistic` where the layer has one."""
    from evosearch.language.graph import walk

    graphs = gradients(layer.graph).values()
    found = {node.op for graph in graphs for node in walk(graph)}
    return frozenset(found | ({"statistic"} if any(isinstance(value, Axes) for value in layer.graph.holds) else set()))
