"""The frozen scale of a run: scores of every pair in units of the baselines' spread, and the bars that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles
from typing import Any

CLIP = 3.0
PREFIX = {"quick": "quick_", "quality": "quality_", "first_rate": "first_rate_", "first_seed": "first_seed_", "full": ""}  # of a stage's objectives
_BLIND = -1.0  # a spread below the baselines' median
_ERRORS = 3.0


@dataclass(frozen=True)
class Scale:
    """Per `stage:pair` the baselines' median and interquartile range, and per pair the raw quality threshold."""

    center: Mapping[str, float]
    spread: Mapping[str, float]
    quality: Mapping[str, float]

    def standardized(self, stage: str, pair: str, score: float, direction: int) -> float:
        """`(score - median) / IQR`, better is higher, clipped at +-3."""
        value = direction * (score - self.center[f"{stage}:{pair}"]) / self.spread[f"{stage}:{pair}"]
        return max(-CLIP, min(CLIP, value))


@dataclass(frozen=True)
class Goal:
    """An objective that selection optimizes beside the mean, by its direction; 0 for a score in each pair's unit, which is standardized.

    What is `trained` has a value a stage, else the formula decides it. `pairs` are those, by stage, on which networks are measured.
    """

    name: str
    direction: int
    trained: bool = True
    pairs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


GOALS = (Goal("worst", +1), Goal("complexity", -1, trained=False), Goal("saved_per_element", -1, trained=False))


def point(objectives: Mapping[str, float], goals: Sequence[Goal], stage: str = "") -> dict[str, float | None]:
    """`mean` and the goals by name, all to be maximized; None for what is not there. `stage` is `quality_`, or nothing for the full one."""
    found = {goal.name: objectives.get((stage if goal.trained else "") + goal.name) for goal in goals}
    return {"mean": objectives.get(f"{stage}mean")} | {g.name: None if (v := found[g.name]) is None else (g.direction or 1) * v for g in goals}


def pair_scores(scores: Mapping[str, float], stage: str) -> dict[str, float]:
    """The mean score over seeds of each pair of a stage."""
    found: dict[str, list[float]] = {}
    for key, value in scores.items():
        name, _, rest = key.partition(":")
        if name == stage and rest:  # an objective's mean over pairs has its bare name
            found.setdefault(rest.rpartition(":")[0], []).append(value)
    return {pair: fmean(values) for pair, values in found.items()}


def freeze(baselines: Mapping[str, Mapping[str, float]], directions: Mapping[str, int], trivial: str = "identity", usual: str = "relu") -> Scale:
    """The scale from the baselines' scores by name; `trivial` is what no layer gives, `usual` what the usual one gives.

    Raises ValueError when one of the two did not finish: without them there is no quality bar.
    """
    missing = [name for name in (trivial, usual) if not baselines.get(name)]
    if missing:
        raise ValueError(f"the quality bar needs the baselines {trivial} and {usual}; `{missing[0]}` has no scores, see its row in the log")
    center, spread, quality = {}, {}, {}
    for stage in PREFIX:
        by_pair = [pair_scores(scores, stage) for scores in baselines.values()]
        for pair in {p for scores in by_pair for p in scores}:
            values = [scores[pair] for scores in by_pair if pair in scores]
            low, middle, high = quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
            center[f"{stage}:{pair}"] = median(values)
            spread[f"{stage}:{pair}"] = max(high - low, 1e-3 * abs(middle), 1e-6)
    low_scores, high_scores = (pair_scores(baselines[name], "quality") for name in (trivial, usual))
    for pair in {key.partition(":")[2] for key in center if key.startswith("quality:")}:
        if pair not in low_scores or pair not in high_scores:
            raise ValueError(f"the quality bar of {pair} needs the baselines {trivial} and {usual}; one has no score there, see its row in the log")
        quality[pair] = low_scores[pair] + 0.5 * (high_scores[pair] - low_scores[pair])
    assert set(quality) <= set(directions)
    return Scale(center, spread, quality)


def standardize(row: Mapping[str, Any], scale: Scale, directions: Mapping[str, int], goals: Sequence[Goal] = ()) -> dict[str, float]:
    """The row's objectives: mean and worst standardized score of each stage that was finished; those of the full one have no prefix.

    And of `goals` that networks are measured for, the means over pairs.
    """
    found: dict[str, float] = {}
    for stage, prefix in PREFIX.items():
        scores = pair_scores(row["scores"], stage)
        wanted = {key.partition(":")[2] for key in scale.center if key.startswith(f"{stage}:")}
        if scores and set(scores) == wanted:
            values = [scale.standardized(stage, pair, score, directions[pair]) for pair, score in sorted(scores.items())]
            found[f"{prefix}mean"], found[f"{prefix}worst"] = fmean(values), min(values)
        for goal in goals:
            by_pair = pair_scores(row["objectives"], f"{prefix}{goal.name}")
            if by_pair and set(by_pair) == set(goal.pairs.get(stage, ())):
                same = [value if goal.direction else scale.standardized(stage, pair, value, directions[pair]) for pair, value in sorted(by_pair.items())]
                found[f"{prefix}{goal.name}"] = fmean(same)
    return found


def promote_bar(means: Sequence[float], share: float) -> float:
    """The mean that the best `share` of the functions seen so far reach, and three standard errors of that share more; `means` ascend.

    What is stopped never comes back, and of few functions one knows little: on the open table the best that were lost came early.
    """
    count = len(means)
    if share >= 1:
        return -CLIP
    if not count:
        return _BLIND
    return means[max(0, count - going_on(count, share))]


def going_on(count: int, share: float) -> int:
    """Of so many functions those that go on, three standard errors of the share among them."""
    return math.ceil(share * count + _ERRORS * math.sqrt(count * share * (1 - share)))
