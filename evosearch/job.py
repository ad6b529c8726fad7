"""Job and Result: what travels to a worker and what comes back. Flat, frozen, one line of JSON each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STATUSES = ("ok", "rejected", "duplicate", "nonfinite", "timeout", "memory", "crash", "error", "lost", "quarantined")
STAGES = ("static", "numeric", "quick", "quality", "first_rate", "first_seed", "full", "final")
FULL_TEST = ("first_rate", "first_seed", "full")  # as far as a function goes in the longer training


@dataclass(frozen=True)
class Job:
    """One evaluation to be done: `index` numbers the dispatched jobs; `bar` holds thresholds, none of them means no bar."""

    index: int
    candidate: str
    seed: int
    stage: str = "search"
    pairs: tuple[str, ...] = ()
    bar: Mapping[str, float] = field(default_factory=dict)

    def to_text(self) -> str:
        """One line of JSON."""
        return _dump(asdict(self))

    @staticmethod
    def from_text(text: str) -> Job:
        """Raises ValueError for text that is not a job."""
        data = _load(text, Job)
        return Job(**{**data, "pairs": tuple(data["pairs"])})


@dataclass(frozen=True)
class Result:
    """One evaluation done. Scores are raw, in the task's unit, and finite; what is not finite is a status."""

    index: int
    candidate: str
    status: str
    reason: str | None = None
    stage: str = "static"
    scores: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    objectives: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    worker: str = ""
    error: str | None = None
    figure: float | None = None  # what decided a rejection

    def to_text(self) -> str:
        """One line of JSON."""
        return _dump(asdict(self))

    @staticmethod
    def from_text(text: str) -> Result:
        """Raises ValueError for text that is not a result, an unknown status, or a number that is not finite."""
        result = Result(**_load(text, Result))
        if result.status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}; received `{str(result.status)[:40]}`")
        if result.figure is not None and not is_number(result.figure):
            raise ValueError(f"the figure of a result must be a finite number; received {str(result.figure)[:40]}")
        for table in (result.scores, result.rates, result.objectives, result.seconds):
            for name, value in table.items():
                if not is_number(value):
                    raise ValueError(f"`{name[:60]}` of a result must be a finite number; received {str(value)[:40]}")
        return result


def is_number(value: object) -> bool:
    """Whether it is finite and a float's: an integer of JSON may have any length, a bool is none."""
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and abs(value) <= 2**53)


def _dump(data: dict[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _load(text: str, kind: type[Job] | type[Result]) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError(f"a {kind.__name__} is one flat object; received {text[:40]}, nested without end") from None
    names = set(kind.__dataclass_fields__)
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(f"a {kind.__name__} has the fields {', '.join(sorted(names))}; received {str(data)[:80]}")
    return data
