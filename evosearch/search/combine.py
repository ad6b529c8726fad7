"""Training-free scores combined with signed weights that are fitted to measured scores, after RoBoT (arXiv 2403.07591).

A score becomes its ranks over the candidates, from -1 to 1, so that one outlier does not decide; a candidate without the score
has 0, the middle, and the other scores place it. The combination is the weighted sum, with weights in [-1, 1].

What differs from the paper: ranks where it scales by minimum and maximum, Optuna's Gaussian process where it has another, and the
value of weights is Spearman's rho over candidates that are measured already, where the paper trains the first of each ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

TRIALS = 50  # weights that are tried, the first 10 of them at random


@dataclass(frozen=True)
class Ranked:
    """The candidates of one task: every score `(N,)` by its name, NaN where there is none, and what was measured `(N,)`, higher is better."""

    scores: Mapping[str, Sequence[float]]
    measured: Sequence[float]


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks `(N,)` from -1 to 1, equal values sharing the mean of theirs; 0 for NaN."""
    from scipy.stats import rankdata

    given = np.asarray(values, dtype=np.float64)
    found, there = np.zeros(len(given)), ~np.isnan(given)
    if there.sum() > 1:
        found[there] = (2 * rankdata(given[there]) - there.sum() - 1) / (there.sum() - 1)
    return found


def combine(scores: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """The weighted sum of the ranks `(N,)`. Raises KeyError for a weight without its score."""
    found: NDArray[np.float64] = np.sum([weight * ranks(scores[name]) for name, weight in weights.items()], axis=0)
    return found


def spearman(left: Sequence[float] | NDArray[np.float64], right: Sequence[float] | NDArray[np.float64]) -> float:
    """Spearman's rank correlation; 0 where one side is constant, which ranks nothing."""
    a, b = ranks(list(left)), ranks(list(right))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0


def fit_weights(tasks: Sequence[Ranked], seed: int, trials: int = TRIALS) -> dict[str, float]:
    """The signed weights, of `trials`, whose combination has the highest mean Spearman's rho over the tasks. Imports torch.

    Raises ValueError for tasks that do not share their scores, or for a measurement that is missing.
    """
    names = tuple(tasks[0].scores) if tasks else ()
    if not names or any(set(task.scores) != set(names) for task in tasks):
        raise ValueError(f"every task must have the same scores, at least one; received {[sorted(task.scores) for task in tasks]}")
    if any(np.isnan(task.measured).any() for task in tasks):
        raise ValueError("every candidate must be measured; NaN is for scores alone: leave the candidate out")
    from evosearch.proposers.bayes import highest

    return highest(lambda weights: fmean(spearman(combine(t.scores, weights), t.measured) for t in tasks), dict.fromkeys(names, (-1.0, 1.0)), trials, seed)
