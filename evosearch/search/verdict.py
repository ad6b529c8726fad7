"""The statistics of a claim: paired differences on fresh seeds and unseen pairs, an interval corrected for the number tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The pick against one baseline: mean paired difference in units of each pair's spread, its interval, and the word."""

    against: str
    difference: float
    low: float
    high: float
    verdict: str  # "better" | "not better" | "worse"
    per_pair: Mapping[str, float]  # raw difference, better is higher
    samples: int
    level: float


def compare(rows: Sequence[Row], candidate: str, names: Mapping[str, str], directions: Mapping[str, int], tried: int) -> list[Comparison]:
    """The candidate against every other contestant of the final check.

    `names` maps a contestant's text to the name shown; `tried` is the number of functions that were fully trained in the
    search: the level of each interval is 1 - 0.05 / (comparisons x tried), Bonferroni.
    """
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["stage"] == "final" and row["status"] == "ok":
            scores.setdefault(row["candidate"], {}).update(row["scores"])
    if candidate not in scores:
        return []
    others = [text for text in names if text != candidate and text in scores]
    level = 1 - 0.05 / max(1, len(others) * max(1, tried))
    return [_compare(scores[candidate], scores[other], names[other], scores, directions, level) for other in others]


def _compare(
    ours: Mapping[str, float], theirs: Mapping[str, float], name: str, everyone: Mapping[str, Mapping[str, float]],
    directions: Mapping[str, int], level: float,
) -> Comparison:  # fmt: skip
    differences, per_pair = [], {}
    shared = sorted(set(ours) & set(theirs))
    for pair in dict.fromkeys(_pair(key) for key in shared):
        spread = _spread([s for scores in everyone.values() for key, s in scores.items() if _pair(key) == pair])
        raw = [directions[pair] * (ours[key] - theirs[key]) for key in shared if _pair(key) == pair]
        per_pair[pair] = fmean(raw)
        differences += [gap / spread for gap in raw]
    center = fmean(differences)
    half = _half_width(differences, level)
    word = "better" if center - half > 0 else "worse" if center + half < 0 else "not better"
    return Comparison(name, center, center - half, center + half, word, per_pair, len(differences), level)


def _pair(key: str) -> str:
    return key.partition(":")[2].rpartition(":")[0]


def _spread(values: Sequence[float]) -> float:
    return max(stdev(values), 1e-9) if len(values) > 1 else 1.0


def _half_width(differences: Sequence[float], level: float) -> float:
    n = len(differences)
    if n < 2:
        return math.inf
    return float(student.ppf(0.5 + level / 2, n - 1)) * stdev(differences) / math.sqrt(n)
