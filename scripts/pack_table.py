"""Packs what build_table.py measured into one Parquet file, as `evosearch.benchmarks` reads it, and unpacks a file to be gone on with.

    python scripts/pack_table.py --space 27x7 --results OUT --to activations-27x7.parquet
    python scripts/pack_table.py --space three-operators --unpack PART.parquet --results OUT     # then build_table.py --out OUT

One row a function in the table's order, then one for each baseline. `members` are all graphs of the space that compute the function.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from table_spaces import BASELINES, SPACES, form_of, functions

from evosearch.job import Result
from evosearch.judging.objectives import direction
from evosearch.language.formula import parse
from evosearch.language.graph import Graph
from evosearch.meaning.numeric import evaluate_all

_CURVE = re.compile(r"(curve:.+):\d+$")
_GRID = np.linspace(-29.9973, 29.9981, 3000)


def read(file: Path) -> list[Result]:
    """The results of a file that may be growing or not there yet: a torn last line is left out."""
    whole = file.read_bytes() if file.exists() else b""
    return [Result.from_text(line) for line in whole[: whole.rfind(b"\n") + 1].decode().splitlines()]


def joined(folder: Path, first: str, further: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of FOLDER/FIRST.jsonl as dictionaries, with the scores and seconds that the same functions have in further files."""
    rows = sorted(read(folder / f"{first}.jsonl"), key=lambda r: r.index)
    found = {r.candidate: {"scores": dict(r.scores), "seconds": dict(r.seconds), "reason": r.reason, "error": r.error} for r in rows}
    for extra in (r for name in further for r in read(folder / f"{name}.jsonl")):
        found[extra.candidate]["scores"] |= extra.scores
        found[extra.candidate]["seconds"] |= extra.seconds
        found[extra.candidate]["error"] = found[extra.candidate]["error"] or extra.error
    return [{"function": text, **row} for text, row in found.items()]


def members(space: str, functions: Sequence[str]) -> list[list[str]]:
    """For each function the texts of the space's graphs that compute it.

    A class that has no row of its own, because the table was built when equality did not look beyond +-30, goes to the row that it
    equals there.
    """
    row = {text: i for i, text in enumerate(functions)}
    found: list[list[str]] = [[] for _ in functions]
    homeless = []
    for group in form_of(space).members():
        texts = list(dict.fromkeys(str(g) for g in group))
        at = next((row[t] for t in texts if t in row), None)
        if at is None:
            homeless.append((group[0], texts))
        else:
            found[at] += texts
    values = evaluate_all([parse(text) for text in functions], {"x": _GRID})
    without = 0
    for graph, texts in homeless:
        at = _nearest(graph, values)
        if at is None:
            without += 1
        else:
            found[at] += texts
    if without:
        print(f"{without} functions of the space have no row: the table is only a part of it")
    return found


def _nearest(graph: Graph, values: Sequence[NDArray[np.float64]]) -> int | None:
    """The row that agrees at every point of +-30, None where there is none; isolated points may be finite by rounding (`x ** sinh(x)`)."""
    mine = evaluate_all([graph], {"x": _GRID})[0]
    for i, other in enumerate(values):
        both = np.isfinite(mine) & np.isfinite(other)
        with np.errstate(over="ignore"):
            alike = np.allclose(mine[both], other[both], rtol=1e-6, atol=1e-9)
        if alike and (np.isfinite(mine) != np.isfinite(other)).mean() < 2e-3:
            return i
    return None


def pack(space: str, folder: Path, to: Path) -> None:
    """Writes the file out of the folder of build_table.py, of the stages that it has: numbers in single precision, absent ones empty."""
    found = joined(folder, "results", ("top", "early"))
    usual = joined(folder, "baselines", ("baselines-early",))
    rows = found + usual
    pairs = sorted({key.split(":")[1] for row in rows for key in row["scores"] if key.startswith("full:")})
    columns: dict[str, pa.Array] = {
        "function": pa.array([r["function"] for r in rows]),
        "members": pa.array([*members(space, [r["function"] for r in found]), *([] for _ in usual)], pa.list_(pa.string())),
        "baseline": pa.array([*(None for _ in found), *BASELINES], pa.string()),
        "better": pa.array([",".join(f"{p}={direction(p):+d}" for p in pairs)] * len(rows)),
        "reason": pa.array([r["reason"] for r in rows], pa.string()),
        "error": pa.array([r["error"] for r in rows], pa.string()),
    }
    for name in sorted({key for r in rows for key in r["scores"]}):
        curve = _CURVE.match(name)
        if curve is None:
            columns[name] = pa.array([r["scores"].get(name) for r in rows], pa.float32())
        elif curve[1] not in columns:
            eighths = ([r["scores"].get(f"{curve[1]}:{k}") for k in range(8)] for r in rows)
            columns[curve[1]] = pa.array([None if None in losses else losses for losses in eighths], pa.list_(pa.float32()))
    for name in sorted({key for r in rows for key in r["seconds"]}):
        columns[f"seconds:{name}"] = pa.array([r["seconds"].get(name) for r in rows], pa.float32())
    pq.write_table(pa.table(columns), to, compression="zstd", compression_level=19)
    print(f"{to}: {len(found)} functions, {to.stat().st_size} bytes")


def unpack(space: str, file: Path, folder: Path) -> None:
    """Writes the folder of build_table.py out of a packed file of some of the space's functions: every stage that it holds."""
    numbers = {text: i for i, text in enumerate(functions(form_of(space)))}
    folder.mkdir(parents=True, exist_ok=True)
    usual, found = [], []
    for row in pq.read_table(file).to_pylist():
        (found if row["baseline"] is None else usual).append({key: value for key, value in row.items() if value is not None})
    for name, rows in {"results": found, "top": found, "early": found, "baselines": usual, "baselines-early": usual}.items():
        stage = _STAGES[name.removeprefix("baselines-") if name != "baselines" else "results"]
        texts = [_result(row, BASELINES.index(row["baseline"]) if "baseline" in row else numbers[row["function"]], stage) for row in rows if _has(row, stage)]
        if texts:
            (folder / f"{name}.jsonl").write_text("".join(f"{text}\n" for text in texts))


_STAGES = {"results": ("full", "test", "curve"), "top": ("sweep", "top", "toptest"), "early": ("quick", "quality", "proxy")}


def _has(row: Mapping[str, Any], stage: Sequence[str]) -> bool:
    """Whether a stage was done: it left a score or, where all training broke, its seconds. A row is of the first stage, whatever became of it."""
    return "full" in stage or any(key.removeprefix("seconds:").startswith(f"{name}:") for key in row for name in stage)


def _result(row: Mapping[str, Any], index: int, stage: Sequence[str]) -> str:
    scores: dict[str, float] = {}
    for key, value in row.items():
        if key.partition(":")[0] in stage:
            scores |= {f"{key}:{k}": loss for k, loss in enumerate(value)} if isinstance(value, list) else {key: value}
    seconds = {key.removeprefix("seconds:"): value for key, value in row.items() if key.startswith("seconds:") and key.split(":")[1] in (*stage, "numeric")}
    scores = {key: value for key, value in scores.items() if math.isfinite(value)}  # a few overflowed single precision
    reason, said = row.get("reason"), row.get("error")
    return Result(index, row["function"], "rejected" if reason else "error" if said else "ok", reason, "full", scores, seconds=seconds, error=said).to_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=SPACES, required=True)
    parser.add_argument("--results", type=Path, required=True, help="the folder of build_table.py")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=Path, help="the file to be written")
    what.add_argument("--unpack", type=Path, help="the file to be read")
    chosen = parser.parse_args()
    if chosen.unpack:
        unpack(chosen.space, chosen.unpack, chosen.results)
    else:
        pack(chosen.space, chosen.results, chosen.to)


if __name__ == "__main__":
    main()
