"""The statistics of a claim: paired differences on fresh seeds and unseen pairs, an interval corrected for the number tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

import numpy as np

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The pick against one baseline: mean paired difference in units of each pair's spread, its interval, and the word.

    `low` to `high` is the interval over seeds, for these pairs as they are; `pairs_low` to `pairs_high` that over pairs, for
    other pairs like them, none with a single pair. A pair on which the pick has no score and the baseline has one is
    `missing`; with one missing it is never `better`.
    """

    against: str
    difference: float
    low: float
    high: float
    verdict: str  # "better" | "not better" | "worse"
    per_pair: Mapping[str, float]  # raw difference, better is higher
    samples: int
    level: float
    missing: tuple[str, ...] = ()
    pairs_low: float | None = None
    pairs_high: float | None = None


def compare(
    rows: Sequence[Row], candidate: str, names: Mapping[str, str], directions: Mapping[str, int], tried: int, general: bool = True, draws: int = 0
) -> list[Comparison]:
    """The candidate against every other contestant of the final check.

    `names` maps a contestant's text to the name shown; `tried` is the number of functions that were fully trained in the
    search: the level of each interval over seeds is 1 - 0.05 / (comparisons x tried), Bonferroni. A `general` claim is one about
    pairs that nobody chose for this: with several pairs the interval over their means, at 1 - 0.05 / comparisons, must be above 0
    as well; with `draws` the interval over seeds is the wider of Student's and that of a bootstrap over the seeds of each pair.
    Without the interval over pairs a function that is lucky in its pairs is called better in 12 % of null searches (scripts/bench_verdict.py).
    """
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["stage"] == "final" and row["status"] == "ok":
            scores.setdefault(row["candidate"], {}).update(row["scores"])
    if candidate not in scores:
        return []
    keys = set(scores[candidate])
    others = [text for text in names if text != candidate and keys & set(scores.get(text, {}))]
    level = 1 - 0.05 / max(1, len(others) * max(1, tried))
    across = 1 - 0.05 / max(1, len(others)) if general else None
    return [_compare(scores[candidate], scores[other], names[other], scores, directions, level, across, draws) for other in others]


def _compare(
    ours: Mapping[str, float], theirs: Mapping[str, float], name: str, everyone: Mapping[str, Mapping[str, float]],
    directions: Mapping[str, int], level: float, across: float | None, draws: int,
) -> Comparison:  # fmt: skip
    gaps, per_pair, grains = [], {}, []
    missing = tuple(sorted({_pair(key) for key in theirs} - {_pair(key) for key in ours}))
    shared = sorted(set(ours) & set(theirs))
    for pair in dict.fromkeys(_pair(key) for key in shared):
        values = [s for scores in everyone.values() for key, s in scores.items() if _pair(key) == pair]
        spread = _spread(values)
        grains.append(grain(values) / spread)
        raw = [directions[pair] * (ours[key] - theirs[key]) for key in shared if _pair(key) == pair]
        per_pair[pair] = fmean(raw)
        gaps.append([gap / spread for gap in raw])
    differences = [gap for pair_gaps in gaps for gap in pair_gaps]
    center, half = fmean(differences), half_width(differences, level, fmean(grains) / 2)
    low, high = center - half, center + half
    if draws:
        boot_low, boot_high = bootstrap(gaps, level, draws)
        low, high = min(low, boot_low), max(high, boot_high)
    pairs_low, pairs_high = _over_pairs([fmean(g) for g in gaps], across or 0.95)
    holds_elsewhere = across is None or pairs_low is None or pairs_low > 0
    word = "worse" if high < 0 else "better" if low > 0 and not missing and holds_elsewhere else "not better"
    return Comparison(name, center, low, high, word, per_pair, len(differences), level, missing, pairs_low, pairs_high)


def _over_pairs(centers: Sequence[float], level: float) -> tuple[float | None, float | None]:
    if len(centers) < 2:
        return None, None
    middle, reach = fmean(centers), half_width(centers, level)
    return middle - reach, middle + reach


def bootstrap(gaps: Sequence[Sequence[float]], level: float, draws: int) -> tuple[float, float]:
    """The percentile interval of the mean over all gaps, the seeds of each pair drawn again; a fixed seed, so that it repeats."""
    generator = np.random.default_rng(0)
    total = np.zeros(draws)
    for pair_gaps in gaps:
        values = np.asarray(pair_gaps)
        total += values[generator.integers(len(values), size=(draws, len(values)))].sum(1)
    means = total / sum(len(g) for g in gaps)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _pair(key: str) -> str:
    return key.partition(":")[2].rpartition(":")[0]


def _spread(values: Sequence[float]) -> float:
    return max(stdev(values), 1e-9) if len(values) > 1 else 1.0


def grain(values: Sequence[float]) -> float:
    """The least distance of two different scores: accuracies are counts, and the differences of two seeds may be equal by chance.

    What rounding alone makes different is equal: an accuracy may be a mean over batches.
    """
    rounding = 1e-9 * max(map(abs, values), default=0.0)
    return min((b - a for a, b in pairwise(sorted(values)) if b - a > rounding), default=0.0)


def half_width(differences: Sequence[float], level: float, least: float = 0.0) -> float:
    """Half the width of Student's interval of the mean; infinite for fewer than two values. `least` is the smallest deviation that is believed."""
    from scipy.stats import t as student  # a second to import, and only the end of a run needs it

    n = len(differences)
    if n < 2:
        return math.inf
    return float(student.ppf(0.5 + level / 2, n - 1)) * max(stdev(differences), least) / math.sqrt(n)
