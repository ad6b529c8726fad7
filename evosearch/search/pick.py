"""Which function a search recommends, and against whom it is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from evosearch.job import FULL_TEST
from evosearch.search.pareto import admitted, hypervolume, nondominated
from evosearch.search.scale import GOALS, Goal, Scale, point

CONTROLS = {"control:random": "random search", "control:tuned": "tuned usual functions"}  # what a search is measured against, in words

SEED = "seed:"  # begins the proposer of a row that the search was given

Row = Mapping[str, Any]
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Pick:
    """The recommended row; `leads` says whether its mean standardized score beat every baseline's on the search pairs."""

    index: int
    candidate: str
    leads: bool


def is_found(row: Row) -> bool:
    """Whether the search proposed it: what a search is measured against, a baseline or a control, is no find of it, nor is a seed."""
    return not str(row["proposer"]).startswith(("baseline", "control:", "final", SEED))


def is_seed(row: Row) -> bool:
    """Whether the search was given it to begin with."""
    return str(row["proposer"]).startswith(SEED)


def may_be_picked(row: Row) -> bool:
    """Whether it may be recommended: what the search found, and what it was given."""
    return is_found(row) or is_seed(row)


def fully_trained(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows that came to the end of the full stage: those that may be recommended, stand on the front and in the final table.

    Of a function that was trained again one row, with the mean of its scores; none where it did not come as far the last time.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["candidate"], []).append(row)
    return [_together([r for r in same if _is_full(r)]) for same in found.values() if _is_full(same[-1])]


def _is_full(row: Row) -> bool:
    return row["status"] == "ok" and row["stage"] == "full" and "mean" in row["objectives"]


def _together(rows: Sequence[Row]) -> dict[str, Any]:
    """The first row with the scores of all, the later ones' seeds numbered on, and the mean of their objectives."""
    if len(rows) == 1:
        return dict(rows[0])
    scores: dict[str, float] = {}
    for row in rows:
        before = dict(scores)
        for key, value in row["scores"].items():
            name, _, seed = key.rpartition(":")
            scores[f"{name}:{int(seed) + sum(known.startswith(f'{name}:') for known in before)}"] = value
    return {**rows[0], "scores": scores, "objectives": averaged([row["objectives"] for row in rows])}


def averaged(objectives: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each objective over the evaluations that have it."""
    return {name: fmean(o[name] for o in objectives if name in o) for name in dict.fromkeys(n for o in objectives for n in o)}


def count_tried(rows: Sequence[Row]) -> int:
    """How many finds and seeds were trained in full on one seed at least: the best is the luckiest of so many, for which a claim is corrected."""
    return sum(1 for r in rows if may_be_picked(r) and r["stage"] in FULL_TEST)


def best_controls(rows: Sequence[R]) -> dict[str, R]:
    """Of each control that the run had, the row with the best mean."""
    best: dict[str, R] = {}
    for row in rows:
        who = str(row["proposer"])
        if who.startswith("control:") and "mean" in row["objectives"] and (who not in best or row["objectives"]["mean"] > best[who]["objectives"]["mean"]):
            best[who] = row
    return best


def objectives_point(row: Row, goals: Sequence[Goal] = GOALS) -> tuple[float | None, ...]:
    """The mean and the goals (worst, -complexity, -saved tensors): all to be maximized."""
    return tuple(point(row["objectives"], goals).values())


def front(rows: Sequence[Row], goals: Sequence[Goal] = GOALS) -> list[Row]:
    """The fully trained rows that no other one dominates."""
    full = fully_trained(rows)
    return [full[i] for i in nondominated([objectives_point(r, goals) for r in full])]


def volumes(rows: Sequence[Row], goals: Sequence[Goal] = GOALS) -> dict[str, float]:
    """The hypervolume that finds, seeds, and each control's functions have together with the baselines, over that of the baselines alone.

    Above a point that is in every objective a tenth of its range below the worst. Empty where no baseline has all objectives.
    """
    sets: dict[str, list[tuple[float | None, ...]]] = {"baselines": []}
    for row in fully_trained(rows):
        who = "the finds" if is_found(row) else "the seeds" if is_seed(row) else CONTROLS.get(row["proposer"], "baselines")
        sets.setdefault(who, []).append(objectives_point(row, goals))
    every = [[v for v in p if v is not None] for points in sets.values() for p in points if admitted(p)]
    usual = sets.pop("baselines")
    if not any(map(admitted, usual)):
        return {}
    ranges = [(min(values), max(values)) for values in zip(*every, strict=True)]
    below = [low - (0.1 * (high - low) or 1.0) for low, high in ranges]
    alone = hypervolume(usual, below)
    return {who: hypervolume([*usual, *points], below) / alone for who, points in sets.items()}


def seed_noise(rows: Sequence[Row], scale: Scale) -> float:
    """Standard error of a mean standardized score, from the gaps between the two first seeds of every pair."""
    gaps = []
    for row in rows:
        for key, first in row["scores"].items():
            stage, _, rest = key.partition(":")
            pair, _, seed = rest.rpartition(":")
            second = row["scores"].get(f"full:{pair}:1")
            if stage == "full" and seed == "0" and second is not None and f"full:{pair}" in scale.spread:
                gaps.append(((first - second) / scale.spread[f"full:{pair}"]) ** 2)
    pairs = sum(1 for key in scale.center if key.startswith("full:"))
    return math.sqrt(fmean(gaps) / 4 / max(pairs, 1)) if gaps else 0.0


def pick(rows: Sequence[Row], scale: Scale, goals: Sequence[Goal] = GOALS) -> Pick | None:
    """Among the front's members, finds and seeds, whose mean beats every baseline's, the best worst pair; within seed noise the simpler.

    Where no mean beats every baseline's, the best mean, marked as not leading. None when none of them was fully trained.
    """
    full = [r for r in fully_trained(rows) if admitted(objectives_point(r, goals))]
    full = [r for r in full if may_be_picked(r) or r["proposer"] == "baseline"]  # a control must not take a find off the front
    found = [r for r in full if may_be_picked(r)]
    if not found:
        return None
    best_baseline = max((r["objectives"]["mean"] for r in rows if r["proposer"] == "baseline" and "mean" in r["objectives"]), default=-math.inf)
    leading = [r for r in front(full, goals) if may_be_picked(r) and r["objectives"]["mean"] > best_baseline]
    name = "worst" if leading else "mean"
    noise = seed_noise(rows, scale)
    top = max(r["objectives"][name] for r in leading or found)
    close = [r for r in leading or found if r["objectives"][name] >= top - noise]
    chosen = min(close, key=lambda r: (r["objectives"]["complexity"], -r["objectives"][name], r["index"]))
    return Pick(chosen["index"], chosen["candidate"], bool(leading))


def contestants(rows: Sequence[Row], chosen: Pick | None, usual: str, strongest: int = 3, controls: bool = False) -> list[str]:
    """The candidates of the final check: the pick, the strongest baselines by mean, and the usual one; none where there is no pick to check.

    With `controls` the best of each control as well.
    """
    if chosen is None:
        return []
    baselines = [r for r in rows if r["proposer"] == "baseline" and "mean" in r["objectives"]]
    ranked = sorted(baselines, key=lambda r: (-r["objectives"]["mean"], r["index"]))[:strongest]
    best = [r["candidate"] for r in best_controls(rows).values()] if controls else []
    return list(dict.fromkeys([chosen.candidate, *(r["candidate"] for r in ranked), usual, *best]))
