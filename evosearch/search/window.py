"""Whether the window feeds the workers: the law, and a watch over the worker-seconds that are lost to it (docs/scale.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evosearch.job import Job, Result

_IDLE = 0.05  # of the workers' time: less is not worth a word
_FEW = 60.0  # seconds of search before anything is said


def law(workers: int, longest: float, mean: float) -> int:
    """The window that feeds so many workers: while the longest job runs, they are through with `workers * longest / mean` others.

    Both durations are of dispatched jobs, in seconds; a time limit bounds the longest.
    """
    return math.ceil(workers * longest / mean)


def unfed(window: int, workers: int) -> str | None:
    """What to say where more workers are asked for than the window can ever have at work at once."""
    if workers <= window:
        return None
    return (
        f"a window of {window} feeds at most as many workers: {workers - window} of {workers} are not started. A run keeps its window; begin another "
        "with --set window=N, where N >= workers x longest / mean duration of a job (docs/scale.md)"
    )


class Watch:
    """Adds up how long workers stood idle because the window waited for a result; clock times in seconds, as the caller gives them."""

    def __init__(self, window: int, workers: int) -> None:
        self.window, self.workers = window, workers
        self._since: dict[int, float] = {}  # when a job was dispatched
        self._durations = (0, 0.0, 0.0)  # how many, their sum, the longest
        self._idle = self._all = 0.0  # worker-seconds
        self._last, self._standing = math.nan, 0  # the last look, and how many stood idle from then on
        self._said = False

    def dispatched(self, jobs: Sequence[Job], now: float) -> None:
        """Jobs that begin now."""
        self._since |= {job.index: now for job in jobs}

    def told(self, results: Sequence[Result], now: float) -> None:
        """Results that came in now."""
        for result in results:
            seconds = now - self._since.pop(result.index)
            count, total, longest = self._durations
            self._durations = (count + 1, total + seconds, max(longest, seconds))

    def look(self, idle: int, now: float) -> str | None:
        """Counts the time since the last look; so many workers stand idle for the window's sake from now on. Returns, once, what to do about it."""
        if not math.isnan(self._last):
            self._idle += self._standing * (now - self._last)
            self._all += self.workers * (now - self._last)
        self._last, self._standing = now, idle
        count, total, longest = self._durations
        if self._said or not count or self._all < _FEW * self.workers or self._idle < _IDLE * self._all:
            return None
        self._said = True
        wanted = law(self.workers, longest, total / count)
        return (
            f"so far workers stood idle {self._idle / self._all:.0%} of the time: the window of {self.window} waits for its longest job ({longest:.3g} s, "
            f"the mean is {total / count:.3g} s); {self.workers} workers want a window of {wanted}, which is as many blind asks. "
            f"A run keeps its window; the next one takes --set window={wanted}, or a shorter execution.time_limit (docs/scale.md)"
        )
