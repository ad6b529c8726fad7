"""A table: every function of a space, what each stage of a training said of it, and one score that orders them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evosearch.benchmarks.parquet import read_columns
from evosearch.language.formula import parse
from evosearch.language.graph import Graph
from evosearch.meaning.numeric import equal, fingerprints
from evosearch.search.scale import CLIP, Scale, freeze

NAMES = ("activations-27x7",)
WORST = -CLIP  # the score of a function whose training broke
SEEDS = (0, 1)

Scores = NDArray[np.float64]


class Table:
    """The functions in their fixed random order; arrays of scores are in that order, better is higher."""

    def __init__(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Takes a file's columns: `function`, `members` (the graphs of the function), `baseline` (its name, on rows that only
        freeze the scale), `full:PAIR:SEED` and what else was measured. Raises ValueError when one of these is missing."""
        missing = [c for c in ("function", "members", "baseline", "better") if c not in columns]
        if missing:
            raise ValueError(f"a table has the columns function, members, baseline, better and full:PAIR:SEED; `{missing[0]}` is not there")
        self.name = name
        self._usual = [i for i, baseline in enumerate(columns["baseline"]) if baseline is not None]
        kept = [i for i, baseline in enumerate(columns["baseline"]) if baseline is None]
        self._raw = columns
        self._columns = {column: [values[i] for i in kept] for column, values in columns.items() if column not in ("members", "baseline", "better")}
        self.functions: tuple[str, ...] = tuple(self._columns["function"])
        self._row = {text: i for i, members in enumerate(columns["members"][j] for j in kept) for text in members}
        self.directions = {pair: int(sign) for text in columns["better"][:1] for pair, _, sign in (part.rpartition("=") for part in text.split(","))}
        self.pairs: tuple[str, ...] = tuple(self.directions)

    def __len__(self) -> int:
        return len(self.functions)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what was measured."""
        return tuple(self._columns)

    def column(self, name: str) -> list[Any]:
        """One cell a function, None where it was not measured. Raises ValueError with the nearest name."""
        if name not in self._columns:
            close = difflib.get_close_matches(name, self._columns, n=1)
            raise ValueError(f"the table {self.name} has no column `{name}`" + (f"; did you mean `{close[0]}`?" if close else ""))
        return self._columns[name]

    @cached_property
    def scale(self) -> Scale:
        """The baselines' median and spread of each pair, as a search freezes them."""
        names = [f"full:{pair}:{seed}" for pair in self.pairs for seed in SEEDS]
        scores = {self._raw["baseline"][i]: {column: value for column in names if (value := self._raw[column][i]) is not None} for i in self._usual}
        return freeze(scores, self.directions)

    def score(self) -> Scores:
        """Noise-free: the mean over pairs of the standardized mean of both seeds' validation scores; -3 where any training broke."""
        return _mean(self.standardized())

    def noisy(self, seed: int) -> Scores:
        """The same by one seed alone, 0 or 1: what a search that trains once sees."""
        return _mean(self.standardized((seed,)))

    def standardized(self, seeds: tuple[int, ...] = SEEDS) -> Scores:
        """The scores `(functions, pairs)` by the mean over these seeds, in the baselines' spreads; NaN where a training broke."""
        if not seeds or not set(seeds) <= set(SEEDS):
            raise ValueError(f"the table has the seeds 0 and 1; received {', '.join(map(str, seeds))}")
        found = np.full((len(self), len(self.pairs)), np.nan)
        for j, pair in enumerate(self.pairs):
            columns = (self._columns[f"full:{pair}:{seed}"] for seed in seeds)
            for i, values in enumerate(zip(*columns, strict=True)):
                if None not in values:
                    found[i, j] = self.scale.standardized("full", pair, fmean(values), self.directions[pair])
        return found

    def top(self, share: float = 0.01) -> tuple[str, ...]:
        """The best `share` of all functions by the noise-free score, best first."""
        if not 0 < share <= 1:
            raise ValueError(f"a share is above 0 and at most 1; received {share}")
        order = np.argsort(-self.score(), kind="stable")
        return tuple(self.functions[i] for i in order[: max(1, round(share * len(self)))])

    def index(self, formula: str | Graph) -> int | None:
        """The row of the function that a formula computes; None for one that the table does not hold."""
        graph = parse(formula) if isinstance(formula, str) else formula
        found = self._row.get(str(graph))
        if found is not None:
            return found
        key = fingerprints([graph])[0]
        return next((i for i in self._by_key.get(key, ()) if equal(graph, parse(self.functions[i]))), None)

    def representative(self, formula: str | Graph) -> str | None:
        """The text by which the table knows the function of a formula; None for one that it does not hold."""
        row = self.index(formula)
        return None if row is None else self.functions[row]

    @cached_property
    def _by_key(self) -> dict[bytes | None, list[int]]:
        found: dict[bytes | None, list[int]] = {}
        for i, key in enumerate(fingerprints([parse(text) for text in self.functions])):
            found.setdefault(key, []).append(i)
        return found


def _mean(standardized: Scores) -> Scores:
    means: Scores = standardized.mean(1)
    return np.where(np.isnan(means), WORST, means)


@cache
def load(name: str) -> Table:
    """A table that comes with the package. Raises ValueError with the nearest name."""
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        raise ValueError(f"unknown table `{name}`; there are {', '.join(NAMES)}" + (f"; did you mean `{close[0]}`?" if close else ""))
    return Table(name, read_columns(files("evosearch.benchmarks").joinpath(f"{name}.parquet").read_bytes()))


def open_table(file: Path | str) -> Table:
    """A table out of a file that `scripts/build_table.py` wrote. Raises ValueError and OSError."""
    file = Path(file)
    return Table(file.stem, read_columns(file.read_bytes()))
