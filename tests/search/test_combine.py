"""Signed weights of training-free scores: recovered where they are known, without being thrown by what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evosearch.search.combine import Ranked, combine, fit_weights, ranks, spearman

TRUE = {"good": 1.0, "bad": -0.6, "noise": 0.0}


def task(seed, holes=0):
    """Forty candidates whose measured score is the weighted sum of two scores' ranks; a third says nothing. Scores are of any scale."""
    generator = np.random.default_rng(seed)
    hidden = {name: generator.standard_normal(40) for name in TRUE}
    measured = sum(weight * ranks(hidden[name]) for name, weight in TRUE.items())
    scores = {"good": np.exp(9 * hidden["good"]), "bad": 1e-9 * hidden["bad"], "noise": hidden["noise"]}
    for values in scores.values():
        values[generator.permutation(40)[:holes]] = math.nan
    return Ranked(scores, measured)


def test_known_weights_are_recovered_and_hold_on_another_task():
    weights = fit_weights([task(0), task(1)], seed=0, trials=24)
    assert weights["good"] > 0 > weights["bad"]
    assert weights["bad"] / weights["good"] == pytest.approx(-0.6, abs=0.2)
    assert abs(weights["noise"]) < 0.2 * weights["good"]
    unseen = task(2)
    combined = spearman(combine(unseen.scores, weights), unseen.measured)
    assert combined > 0.97
    assert combined > 0.05 + max(abs(spearman(scores, unseen.measured)) for scores in unseen.scores.values())


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (fit_weights([task(0)], seed=seed, trials=12) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert all(-1 <= weight <= 1 for weight in first.values())


def test_missing_scores_are_neutral():
    assert ranks([3.0, math.nan, 1.0, 2.0]).tolist() == [1.0, 0.0, -1.0, 0.0]
    assert ranks([math.nan, 5.0]).tolist() == [0.0, 0.0]
    assert ranks([-math.inf, math.inf, 0.0, 0.0]).tolist() == [-1.0, 1.0, 0.0, 0.0]
    weights = fit_weights([task(0, holes=4)], seed=0, trials=16)
    assert weights["good"] > 0 > weights["bad"]
    unseen = task(2, holes=4)
    values = combine(unseen.scores, weights)
    assert np.isfinite(values).all()
    assert spearman(values, unseen.measured) > 0.85


def test_spearman_is_scipys():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    for _ in range(5):
        a, b = generator.integers(0, 9, 20), generator.integers(0, 9, 20)
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0.0


def test_tasks_that_do_not_fit_together():
    with pytest.raises(ValueError, match="same scores"):
        fit_weights([task(0), Ranked({"good": [1.0, 2.0]}, [1.0, 2.0])], seed=0)
    with pytest.raises(ValueError, match="same scores, at least one"):
        fit_weights([], seed=0)
    with pytest.raises(ValueError, match="must be measured"):
        fit_weights([Ranked({"good": [1.0, 2.0]}, [1.0, math.nan])], seed=0)
