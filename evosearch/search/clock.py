"""The seconds of a run, against its budget of minutes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from evosearch.search.store import LogError, read_bytes


class Clock:
    """The seconds of search of all sessions of a run, against the budget's minutes."""

    def __init__(self, minutes: float | None, before: float) -> None:
        self.seconds = before
        self._limit = minutes * 60 if minutes else math.inf
        self._last = time.monotonic()

    def tick(self, counts: bool) -> None:
        """Adds the time since the last tick where it `counts`: the final check comes on top."""
        now = time.monotonic()
        self.seconds += (now - self._last) * counts
        self._last = now

    @property
    def is_over(self) -> bool:
        return self.seconds >= self._limit


def seconds_spent(directory: Path, has_begun: bool, on_notice: Callable[[str], None]) -> float:
    """What status.json says of the sessions before; 0 for a run that has not begun, and, said, where it does not tell."""
    file = directory / "status.json"
    try:
        return min(max(0.0, float(json.loads(read_bytes(file))["seconds"])), 1e9)
    except FileNotFoundError:
        if has_begun:
            on_notice(f"{file} is missing, which says how much time was spent; budget.minutes counts from now on")
        return 0.0
    except LogError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        on_notice(f"{file} does not say how much time was spent; budget.minutes counts from now on")
        return 0.0
