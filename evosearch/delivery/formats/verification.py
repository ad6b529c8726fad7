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
from evosearch.language.graph import Graph, walk
from evosearch.meaning.derive import gradients, has_statistics

SECONDS = 300.0  # for the fresh process of one export


@dataclass(frozen=True)
class Own:
    """A row of exceptions.toml: where a format differs from torch by its own doing."""

    format: str
    results: tuple[str, ...]  # by how their names begin
    reason: str
    source: str
    example: str  # a formula that shows it
    inputs: tuple[str, ...] = comparison.KINDS  # the kinds of input at which it may differ
    cases: tuple[str, ...] = ()  # empty: in all
    operators: tuple[str, ...] = ()  # one of these is in the formula or its slope; empty: any
    within: float | None = None  # the largest error; without, one may be finite where the other is not

    def covers(self, format_: str, case: str, key: str, found: Mapping[str, Any], operators: frozenset[str]) -> bool:
        """Whether it explains what was found of the result `key`."""
        return (
            format_ == self.format and key.startswith(self.results) and set(found["places"]) <= set(self.inputs)
            and (not self.cases or case in self.cases) and (not self.operators or bool(operators.intersection(self.operators)))
            and (self.within is None or (found["error"] is not None and found["error"] <= self.within))
        )  # fmt: skip


@dataclass
class Verified:
    """What the comparison of one format found."""

    cases: dict[str, float] = field(default_factory=dict)  # the largest error
    exceptions: list[dict[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # cases that the layer itself refuses, and how

    @property
    def largest(self) -> float:
        return max(self.cases.values(), default=0.0)


@cache
def exceptions() -> tuple[Own, ...]:
    """The committed list."""
    rows: list[dict[str, Any]] = tomllib.loads(files("evosearch.delivery.formats").joinpath("exceptions.toml").read_text()).get("exception", [])
    plain: list[dict[str, Any]] = [{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows]
    return tuple(Own(**row) for row in plain)


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
            about = {"name": layer.name, "kind": layer.kind, "features": layer.channels}
            rows.append({"folder": str(place), "cases": str(work / f"{i}.pt"), **about, "formats": specs})
        readers = {name: f for formats in made for name, f in formats.items()}
        report = run_fresh(program(list(readers.values())), {"layers": rows}, seconds)
        wide = [layer.operators | slope_operators(layer.graph) for layer, _ in layers]
        return [judge(found, operators, not_asked) for found, operators, not_asked in zip(report, wide, refused, strict=True)]


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


def judge(found: Mapping[str, Any], operators: frozenset[str], refused: Mapping[str, str]) -> dict[str, Verified]:
    """What a fresh process found of one layer, by format, differences that are a format's own told apart."""
    verdicts: dict[str, Verified] = {}
    for name, by_case in found.items():
        verdicts[name] = one = Verified(refused=dict(refused))
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
        if row.covers(name, case, key, result, operators):
            one.exceptions.append({"case": case, "result": key, "difference": result["wrong"], "reason": row.reason, "source": row.source})
            return
    one.failures.append(f"{key} of the case `{case}`: {result['wrong']} (inputs: {', '.join(result['places'])})")


def report(
    made: Mapping[str, Format], absent: Mapping[str, str], verified: Mapping[str, Verified], name: str = "model", asked_not: Sequence[str] = ()
) -> dict[str, Any]:
    """What verify.json says: by format the largest error of every case, the exceptions met, and what is not compared and why."""
    rows: dict[str, Any] = {}
    for key, one in made.items():
        rows[key] = {"file": one.file(name), "not offered": dict(one.lacks)}
        if key in verified:
            found = verified[key]
            rows[key] |= {"largest error": found.largest, "cases": found.cases, "exceptions": found.exceptions}
            rows[key] |= {"refused by the layer itself": found.refused} if found.refused else {}
    about = {"torch": torch.__version__, "error": "relative where what is expected is above 1, absolute elsewhere"}
    return {**about, "formats": rows, "absent": dict(absent), "not asked for": list(asked_not)}


def slope_operators(graph: Graph) -> frozenset[str]:
    """The operators of the gradient, and `statistic` where the graph has one."""
    found = {node.op for slope in gradients(graph).values() for node in walk(slope)}
    return frozenset(found | ({"statistic"} if has_statistics(graph) else set()))
