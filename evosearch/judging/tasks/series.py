"""series: the past of a periodic series is fitted, its future predicted from time alone (Snake, arXiv 2006.08195).

No installed library has a measured time series of many periods, so these are read from photographs, and say so:
`coins` (default) is the mean brightness of each row of a photograph of rows of coins (scikit-image), 4.3 rows of coins,
never twice the same; `horse` is the outline of a horse (scikit-image) as distances from its middle while it is walked
around at even speed, three and a half turns, so its future repeats its past exactly. Time is counted in periods times
2 pi, the period found in the past alone. Regions in order of time: past (train), then validation, then test.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from evosearch.judging.tasks import Data, Task, relative_error

PAST, NEAR = 0.6, 0.8  # shares of the series: train up to the first, validation up to the second
TURNS, POINTS = 3.5, 420


@cache
def load(variant: str = "") -> Data:
    """Times `(N, 1)` and values `(N, 1)`; both scaled by the past, whose middle is time 0."""
    values = _horse() if variant == "horse" else _coins()
    first, second = int(PAST * len(values)), int(NEAR * len(values))
    past = values[:first]
    values = (values - past.mean()) / past.std()
    time = (np.arange(len(values)) - first / 2) * (2 * math.pi / _period(values[:first]))
    inputs, targets = (torch.from_numpy(column.astype(np.float32))[:, None] for column in (time, values))
    train, validation, test = ((inputs[part], targets[part]) for part in (slice(first), slice(first, second), slice(second, None)))
    return Data(train, validation, test, outputs=1)


def _coins() -> NDArray[np.float64]:
    from skimage import data

    return np.asarray(data.coins().mean(1), dtype=np.float64)


def _horse() -> NDArray[np.float64]:
    from skimage import data
    from skimage.measure import find_contours

    outline = max(find_contours(~data.horse(), 0.5), key=len)[:-1]  # the last point is the first
    radius = np.hypot(*(outline - outline.mean(0)).T)
    along = np.arange(POINTS) * (TURNS / POINTS) % 1 * len(radius)
    return np.asarray(np.interp(along, np.arange(len(radius)), radius, period=len(radius)), dtype=np.float64)


def _period(past: NDArray[np.float64]) -> float:
    """The length at which the past repeats best: the highest correlation of it with itself, after the first fall below zero."""
    center = past - past.mean()
    likeness = np.array([np.corrcoef(center[:-k], center[k:])[0, 1] for k in range(1, 2 * len(past) // 3)])
    start = int(np.argmax(likeness < 0))
    return float(start + np.argmax(likeness[start:]) + 1)


TASK = Task(
    name="series",
    what="extrapolation of periodic series read from photographs of coins and of a horse (scikit-image)",
    license="scikit-image coins (no known restrictions, Brooklyn Museum) and horse (CC0)",
    load=load,
    loss=F.mse_loss,
    score=relative_error,
    batch_size=64,
    rates={"mlp": 1e-2},
)
