"""The tables of docs/benchmarks.md out of what bench_proposers.py wrote.

python scripts/show_proposers.py FILE.csv ... [--table activations-27x7]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

WINDOWS, AT = ("1", "8", "16"), ("1", "2", "4", "8", "16", "32", "64")
Row = Mapping[str, str]


def cell(rows: Sequence[Row], digits: int, **wanted: str) -> str:
    """The figure with its interval, nothing where it was not measured."""
    found = next((r for r in rows if all(r[key] == value for key, value in wanted.items())), None)
    return "" if found is None else "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(float(found[k]) for k in ("value", "low", "high")), d=digits)


def evaluations(rows: Sequence[Row], names: Sequence[str], screen: str) -> list[str]:
    """Medians at each window, noise-free and noisy."""
    places = list(product(("free", "noisy"), WINDOWS))
    lines = ["| | " + " | ".join(f"{noise}, window {window}" for noise, window in places) + " |", "|---" * (len(places) + 1) + "|"]
    for name in names:
        cells = (cell(rows, 0, proposer=name, noise=noise, window=window, screen=screen, figure="evaluations") for noise, window in places)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def regrets(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Regret at window 1, noise-free, the screen off."""
    lines = ["| after | " + " | ".join(AT) + " |", "|---" * (len(AT) + 1) + "|"]
    for name in names:
        cells = (cell(rows, 2, proposer=name, noise="free", window="1", screen="off", figure="regret", at=at) for at in AT)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--table", default="activations-27x7")
    chosen = parser.parse_args()
    rows = [row for file in chosen.files for row in csv.DictReader(file.read_text().splitlines()) if row["table"] == chosen.table]
    names = list(dict.fromkeys(row["proposer"] for row in rows))
    for screen in ("off", "on"):
        print(f"screen {screen}\n", *evaluations(rows, names, screen), "", sep="\n")
    print("regret\n", *regrets(rows, names), sep="\n")


if __name__ == "__main__":
    main()
