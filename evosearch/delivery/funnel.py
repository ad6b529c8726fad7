"""How many candidates a search proposed, and where each ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evosearch.search.pick import is_found, may_be_picked
from evosearch.search.store import Row

FIRST = 200  # proposals of a proposer while it knows little
_BEFORE_TRAINING = ("static:", "numeric:", "require:")  # reasons of the driver's screen, but for duplicates


@dataclass
class Passed:
    """Of a proposer's proposals, how many passed the static and numeric filters; `later` ones came after its first `FIRST`."""

    proposed: int = 0
    passed: int = 0
    later: int = 0
    later_passed: int = 0
    duplicates: int = 0

    def __str__(self) -> str:
        later = f", {self.later_passed / self.later:.0%} after the first {FIRST}" if self.later else ""
        return f"{self.passed / self.proposed:.0%} of {self.proposed}{later}, {self.duplicates} duplicates"


def funnel(rows: Sequence[Row]) -> dict[str, int]:
    """How many were proposed, seeds among them, and where each ended, reason codes counted; `dispatched` are finds alone."""
    counts = {"proposed": 0, "dispatched": 0, "trained": 0, "full": 0}
    for row in rows:
        if not may_be_picked(row):
            continue
        counts["proposed"] += 1
        counts["dispatched"] += row["index"] is not None and is_found(row)
        counts["trained"] += any(key.startswith(("quick:", "quality:")) for key in row["scores"])
        counts["full"] += row["stage"] == "full" and row["status"] == "ok"
        if row["reason"]:
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return counts


def passed_filters(rows: Sequence[Row]) -> dict[str, Passed]:
    """By proposer, in the order in which they first proposed; the parts of one, as `islands:2`, are one."""
    found: dict[str, Passed] = {}
    for row in sorted((r for r in rows if is_found(r)), key=lambda r: (r["ask"], r["attempt"])):
        count = found.setdefault(str(row["proposer"]).partition(":")[0], Passed())
        passes = not str(row["reason"] or "").startswith(_BEFORE_TRAINING)
        count.later += count.proposed >= FIRST
        count.later_passed += passes and count.proposed >= FIRST
        count.proposed += 1
        count.passed += passes
        count.duplicates += row["status"] == "duplicate"
    return found
