"""A Gaussian process: sure where it was told, unsure elsewhere, and led by the trend as far as it holds."""

from __future__ import annotations

import numpy as np

from evosearch.proposers.process import fit, squared_distances


def points(places, trends=None):
    places = np.asarray(places, float).reshape(len(places), -1)
    return np.hstack([places, np.zeros((len(places), 1)) if trends is None else np.asarray(trends, float)[:, None]])


def test_distances():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_allclose(squared_distances(first, second), [[((a - b) ** 2).sum() for b in second] for a in first], atol=1e-12)


def test_it_learns_a_smooth_function_and_knows_where_it_does_not():
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, (80, 1))
    process = fit(points(x), np.sin(2 * x[:, 0]))
    between = np.linspace(-1.8, 1.8, 30)
    mean, deviation = process.expect(points(between))
    np.testing.assert_allclose(mean, np.sin(2 * between), atol=0.05)
    _, far = process.expect(points([9.0]))
    assert far[0] > 5 * deviation.max()


def test_noise_is_told_from_signal():
    rng = np.random.default_rng(2)
    x = rng.uniform(-2, 2, (90, 1))
    mean, _ = fit(points(x), np.sin(2 * x[:, 0]) + rng.normal(size=90)).expect(points(np.linspace(-1.8, 1.8, 20)))
    assert np.sqrt(np.mean((mean - np.sin(2 * np.linspace(-1.8, 1.8, 20))) ** 2)) < 0.5


def test_a_drawn_function_goes_through_what_was_told_and_neighbours_move_together():
    x = np.linspace(-1, 1, 9)
    process = fit(points(x), np.cos(2 * x))
    drawn = np.stack([process.draw(points([*x, 5.0, 5.001, 9.0]), np.random.default_rng(k)) for k in range(300)])
    np.testing.assert_allclose(drawn[:, :9].mean(0), np.cos(2 * x), atol=0.1)
    assert drawn[:, 9].std() > 5 * drawn[:, 4].std()
    together = np.corrcoef(drawn[:, 9:].T)
    assert together[0, 1] > 0.99
    assert abs(together[0, 2]) < 0.6


def test_with_nothing_told_the_trend_is_all():
    process = fit(np.zeros((0, 1)), np.zeros(0))
    mean, deviation = process.expect(points([0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]))
    assert mean[0] < mean[1] < mean[2]
    assert (deviation > 0.5).all()


def test_a_false_trend_is_unlearned():
    rng = np.random.default_rng(3)
    places, trends = rng.normal(size=(60, 6)) * 3, rng.normal(size=60)
    asked = points(np.full((2, 6), 30.0), [-1.0, 1.0])
    for truth in (-1.0, 1.0):
        mean, _ = fit(points(places, trends), truth * trends).expect(asked)
        assert np.sign(mean[1] - mean[0]) == truth
