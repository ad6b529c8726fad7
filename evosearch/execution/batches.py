"""How many jobs go to a worker at once: cheap ones together, so that forking, pipes and the driver cost little.

Only speed depends on it. What a search asks for is a function of its window, and what a job comes to is not changed by
its neighbors.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from statistics import fmean

WORK = 1.0  # seconds of work that a child is worth forking for: with torch, fork, start and end cost 22 ms, and 45 ms on a busy machine
RECENT = 32  # jobs whose mean duration decides
_MOST = 1000  # jobs in a batch


def batch_size(durations: Collection[float]) -> int:
    """The jobs in a second of work, from the seconds that the last ones took; 1 while nothing is known."""
    return max(1, min(_MOST, round(WORK / max(fmean(durations), 1e-6)))) if durations else 1


def share(waiting: int, workers: int, size: int) -> int:
    """What a free worker takes of the jobs that wait: not more than its share, as the others will be free soon."""
    return min(size, math.ceil(waiting / workers))
