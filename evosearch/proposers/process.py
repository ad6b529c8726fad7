"""A Gaussian process over points: what is expected where, how surely, and whole functions drawn from what is believed.

A point is its place and, last, what is believed of it beforehand, the trend: values follow it as far as they are seen to. Length and
noise are those of the highest marginal likelihood on a small grid; mean and variance have closed forms, so there is nothing to tune.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from evosearch.meaning.numeric import Array

_LENGTHS = np.array([0.15, 0.25, 0.4, 0.6, 0.9, 1.4])  # of the distance between two usual points
_USUAL = 0.6
_NOISES = np.array([1e-3, 0.03, 0.2])  # shares of the variance
_SLOPE, _DOUBT = 0.5, 0.25  # mean and variance of how much of the trend is true: it may be nothing
_MEAN = 10.0  # variance of the constant mean, in units of the process
_COMPARED = 96  # so many points choose length and noise: the cost is cubic
_JITTER = 1e-6


@dataclass(frozen=True)
class Process:
    """What is believed after some values at some points; with none it is the prior."""

    points: Array
    length: float
    variance: float
    mean: float
    factor: Array  # Cholesky factor of the kernel with noise
    weights: Array  # factor^-1 (values - mean)

    def expect(self, points: Array) -> tuple[Array, Array]:
        """Mean and deviation at each point."""
        mean, seen = self._mean(points)
        alone = 1 + _DOUBT * np.square(points[:, -1])
        return mean, np.sqrt(self.variance * np.maximum(alone - np.square(seen).sum(0), 1e-9))

    def draw(self, points: Array, rng: np.random.Generator) -> Array:
        """One function that may be the true one, at the points: nearby points move together."""
        mean, seen = self._mean(points)
        covariance = self.variance * (kernel(points, points, self.length) - seen.T @ seen)
        covariance[np.diag_indices(len(points))] += self.variance * 100 * _JITTER
        return np.asarray(mean + np.linalg.cholesky(covariance) @ rng.standard_normal(len(points)))

    def _mean(self, points: Array) -> tuple[Array, Array]:
        if not len(self.points):
            return _SLOPE * points[:, -1], np.zeros((0, len(points)))
        seen = solve_triangular(self.factor, kernel(self.points, points, self.length), lower=True, check_finite=False)
        return np.asarray(self.mean + _SLOPE * points[:, -1] + self.weights @ seen), seen


def kernel(first: Array, second: Array, length: float) -> Array:
    """exp(-d^2 / (2 length^2)) of every pair's places, and what their trends share."""
    near = np.exp(squared_distances(first[:, :-1], second[:, :-1]) / (-2 * length**2))
    return np.asarray(near + _DOUBT * np.outer(first[:, -1], second[:, -1]))


def squared_distances(first: Array, second: Array) -> Array:
    """`(first, second)`."""
    squares = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2 * first @ second.T
    return np.asarray(np.maximum(squares, 0.0))


def fit(points: Array, values: Array) -> Process:
    """The process given values of about unit spread at points whose usual distance is 1; the first ones choose length and noise."""
    values = values - _SLOPE * points[:, -1]
    if not len(points):
        return Process(points, _USUAL, 1.0, 0.0, np.zeros((0, 0)), np.zeros(0))
    length, noise = _chosen(points[:_COMPARED], values[:_COMPARED])
    factor = np.asarray(np.linalg.cholesky(kernel(points, points, length) + (noise + _JITTER) * np.eye(len(points))), np.float64)
    ones, told = solve_triangular(factor, np.stack([np.ones(len(points)), values], 1), lower=True, check_finite=False).T
    mean = float(ones @ told / (ones @ ones + 1 / _MEAN))
    weights = told - mean * ones
    variance = float((weights @ weights + mean**2 / _MEAN + 1) / (len(points) + 1))  # the 1: a unit variance believed beforehand
    return Process(points, length, variance, mean, factor, weights)


def _chosen(points: Array, values: Array) -> tuple[float, float]:
    """Length and noise of the highest marginal likelihood, the constant mean integrated out; lengths near the usual one are likelier."""
    kernels = np.stack([kernel(points, points, length) for length in _LENGTHS]) + _JITTER * np.eye(len(points))
    levels, turned = np.linalg.eigh(kernels)
    levels = np.maximum(levels, _JITTER)[:, None] + _NOISES[:, None]  # (lengths, noises, n)
    ones, told = turned.sum(1)[:, None], np.einsum("lij,i->lj", turned, values)[:, None]
    sure = (ones**2 / levels).sum(-1)
    mean = (ones * told / levels).sum(-1) / (sure + 1 / _MEAN)
    left = (np.square(told - mean[..., None] * ones) / levels).sum(-1) + mean**2 / _MEAN
    spread = 0.5 * (len(points) + 1) * np.log((left + 1) / (len(points) + 1))
    likelihood = -spread - 0.5 * np.log(levels).sum(-1) - 0.5 * np.log1p(_MEAN * sure) - 0.5 * np.square(np.log(_LENGTHS / _USUAL))[:, None]
    at = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    return float(_LENGTHS[at[0]]), float(_NOISES[at[1]])
