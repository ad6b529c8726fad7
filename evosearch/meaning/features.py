"""What a layer does to the signals of a network, as numbers in which two layers can be near or far: what a model of scores learns from.

A layer's curve is its output, squashed, where pre-activations live; its steepness is how fast its output moves at most.
Parameters are at their initial values. Nothing here depends on how a layer is written, so equal layers have equal features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evosearch.language.graph import Graph, Parameter, depends_on
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.numeric import Array, evaluate_all

_DEVIATION = 1.75  # somewhat wider than a unit Gaussian, so that tails count
_SQUASH = 3.0  # asinh(3 f): values of a tenth differ as much as values of ten
_QUANTILES = 41
_SIDE = 7  # quantiles of each of two inputs
_STEP = 0.05
_REACH = 8.0  # steepness is looked for within
_LARGEST = 1e30  # beyond it float32 is near its end
_STEEPEST = 5.0
_CHUNK = 512


@dataclass(frozen=True)
class Features:
    """One row a graph: `curve` `(graphs, n)`, `steepness` is the logarithm of the largest slope, `usable` says whether all values are finite."""

    curve: Array
    steepness: Array
    usable: NDArray[np.bool_]


@dataclass(frozen=True)
class Probe:
    """Where layers are looked at: inputs `x` and `y`, both moved by a small step, which of them make the curve, and within which slopes count."""

    x: Array
    y: Array
    moved: tuple[Array, Array]
    shown: NDArray[np.intp]
    near: NDArray[np.intp]


def probe_for(graphs: Sequence[Graph]) -> Probe:
    """A line for functions of one place, a plane for gates, else a tensor over which every statistic says something else: many channels, or long rows."""
    if any(has_statistics(graph) for graph in graphs):
        return _scores() if any(has_statistics(graph, "row") for graph in graphs) else _tensor()
    return _plane() if any(depends_on(graph, "y") for graph in graphs) else _line()


def _line() -> Probe:
    quantiles = special.ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES) * _DEVIATION
    wide = np.arange(-_REACH, _REACH, _STEP) + 0.0031  # no step and no pole of a usual function lies on it
    x = np.concatenate([quantiles, wide, [-60.12, -20.12, 0.0, 20.12, 60.12]])
    return Probe(x, x, (x + _STEP, x), np.arange(_QUANTILES), np.arange(_QUANTILES + wide.size))


def _plane() -> Probe:
    """Every pair of some quantiles makes the curve; slopes are looked for within a square, in a direction of each place's own."""
    rng = np.random.default_rng(17)
    quantiles = special.ndtri((np.arange(_SIDE) + 0.5) / _SIDE) * _DEVIATION
    shown = np.stack([a.ravel() for a in np.meshgrid(quantiles, quantiles)])
    far = np.array([[a, b] for a in (-60.12, 0.0031, 60.12) for b in (-60.12, 0.0031, 60.12)]).T
    x, y = np.hstack([shown, rng.uniform(-_REACH, _REACH, (2, 400)), far])
    turn = rng.uniform(0, 2 * np.pi, x.size)
    return Probe(x, y, (x + _STEP * np.cos(turn), y + _STEP * np.sin(turn)), np.arange(_SIDE**2), np.arange(x.size - far.shape[1]))


def _tensor() -> Probe:
    rng = np.random.default_rng(19)
    x, y = (_unlike(rng) for _ in range(2))
    return _moved(x, y, 7, rng)


def _scores() -> Probe:
    rng = np.random.default_rng(19)
    x, y = (rng.normal(size=(2, 2, 8, 16)) * _DEVIATION for _ in range(2))
    return _moved(x, y, 8, rng)


def _moved(x: Array, y: Array, every: int, rng: np.random.Generator) -> Probe:
    moved = x + _STEP * rng.choice((-1.0, 1.0), x.shape)  # not all one way: that a normalization does not see
    return Probe(x, y, (moved, y), np.arange(0, x.size, every), np.arange(x.size))


def _unlike(rng: np.random.Generator) -> Array:
    """Channels and samples with means and scales of their own: else a statistic over many values is next to a number."""
    channel, sample, shape = (1, 64, 1, 1), (2, 1, 1, 1), (2, 64, 2, 2)
    scales = np.exp(0.3 * (rng.normal(size=channel) + rng.normal(size=sample)))
    means = 0.5 * (rng.normal(size=channel) + rng.normal(size=sample))
    spread = rng.permuted(np.broadcast_to([-1.2, -0.4, 0.4, 1.2], (2, 64, 4)), axis=2).reshape(shape)  # no channel's values lie all together
    values = means + scales * (spread + 0.3 * rng.normal(size=shape))
    return np.asarray(values * _DEVIATION / values.std())


def features(graphs: Sequence[Graph], probe: Probe) -> Features:
    """The features of many graphs, in their order; what they share is computed once."""
    parts = [_features(graphs[i : i + _CHUNK], probe) for i in range(0, len(graphs), _CHUNK)] or [_features((), probe)]
    return Features(*(np.concatenate(columns) for columns in zip(*((p.curve, p.steepness, p.usable) for p in parts), strict=True)))


def _features(graphs: Sequence[Graph], probe: Probe) -> Features:
    with np.errstate(all="ignore"):
        here, there = (_rows(evaluate_all(graphs, {"x": x, "y": y}), probe) for x, y in ((probe.x, probe.y), probe.moved))
        usable = np.all(np.abs(here) < _LARGEST, axis=1)  # False where it is not a number, too
        curve = np.arcsinh(_SQUASH * np.where(np.isfinite(here), here, 0.0)[:, probe.shown])
        slopes = np.abs(there - here)[:, probe.near] / _STEP
        steepest = np.where(np.isfinite(slopes), slopes, np.inf).max(1, initial=0.0)
        learned = np.array([[np.log1p(_learned(graph, kind)) for kind in ("layer", "channel")] for graph in graphs]).reshape(-1, 2)
        return Features(np.hstack([curve, learned]), np.clip(np.log(steepest), -_STEEPEST, _STEEPEST), np.asarray(usable))


def _rows(values: Sequence[Array], probe: Probe) -> Array:
    return np.stack([v.ravel() for v in values]) if values else np.zeros((0, probe.x.size))


def _learned(graph: Graph, kind: str) -> int:
    """Two layers that start alike part in training where one of them learns."""
    return sum(isinstance(value, Parameter) and value.kind == kind for value in graph.holds)
