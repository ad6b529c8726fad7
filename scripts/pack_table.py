"""Packs what build_table.py measured into one Parquet file, as `evosearch.benchmarks` reads it.

    python scripts/pack_table.py --space 27x7 --results OUT --to activations-27x7.parquet

One row a function in the table's order, then one for each baseline. `members` are all graphs of the space that compute the function.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from table_spaces import BASELINES, SPACES, form_of

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
    functions = joined(folder, "results", ("top", "early"))
    usual = joined(folder, "baselines", ("baselines-early",))
    rows = functions + usual
    pairs = sorted({key.split(":")[1] for row in rows for key in row["scores"] if key.startswith("full:")})
    columns: dict[str, pa.Array] = {
        "function": pa.array([r["function"] for r in rows]),
        "members": pa.array([*members(space, [r["function"] for r in functions]), *([] for _ in usual)], pa.list_(pa.string())),
        "baseline": pa.array([*(None for _ in functions), *BASELINES], pa.string()),
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
    print(f"{to}: {len(functions)} functions, {to.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=SPACES, required=True)
    parser.add_argument("--results", type=Path, required=True, help="the folder that build_table.py wrote")
    parser.add_argument("--to", type=Path, required=True)
    chosen = parser.parse_args()
    pack(chosen.space, chosen.results, chosen.to)


if __name__ == "__main__":
    main()
