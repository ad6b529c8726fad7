"""The statistics of a claim: paired differences on fresh seeds and unseen pairs, an interval corrected for the number tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The pick against one baseline: mean paired difference in units of each pair's spread, its interval, and the word.

    A pair on which the pick has no score and the baseline has one is `missing`; with one missing it is never `better`.
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
    keys = set(scores[candidate])
    others = [text for text in names if text != candidate and keys & set(scores.get(text, {}))]
    level = 1 - 0.05 / max(1, len(others) * max(1, tried))
    return [_compare(scores[candidate], scores[other], names[other], scores, directions, level) for other in others]


def _compare(
    ours: Mapping[str, float], theirs: Mapping[str, float], name: str, everyone: Mapping[str, Mapping[str, float]],
    directions: Mapping[str, int], level: float,
) -> Comparison:  # fmt: skip
    differences, per_pair = [], {}
    missing = tuple(sorted({_pair(key) for key in theirs} - {_pair(key) for key in ours}))
    shared = sorted(set(ours) & set(theirs))
    for pair in dict.fromkeys(_pair(key) for key in shared):
        spread = _spread([s for scores in everyone.values() for key, s in scores.items() if _pair(key) == pair])
        raw = [directions[pair] * (ours[key] - theirs[key]) for key in shared if _pair(key) == pair]
        per_pair[pair] = fmean(raw)
        differences += [gap / spread for gap in raw]
    center = fmean(differences)
    half = half_width(differences, level)
    word = "worse" if center + half < 0 else "better" if center - half > 0 and not missing else "not better"
    return Comparison(name, center, center - half, center + half, word, per_pair, len(differences), level, missing)


def _pair(key: str) -> str:
    return key.partition(":")[2].rpartition(":")[0]


def _spread(values: Sequence[float]) -> float:
    return max(stdev(values), 1e-9) if len(values) > 1 else 1.0


def half_width(differences: Sequence[float], level: float) -> float:
    """Half the width of Student's interval of the mean; infinite for fewer than two values."""
    from scipy.stats import t as student  # a second to import, and only the end of a run needs it

    n = len(differences)
    if n < 2:
        return math.inf
    return float(student.ppf(0.5 + level / 2, n - 1)) * stdev(differences) / math.sqrt(n)
