"""Progress of a run: one living line on a terminal, a plain line every 30 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from evosearch.delivery.layout import printable
from evosearch.search.pick import fully_trained, may_be_picked


def introduce(pairs: Sequence[str]) -> None:
    """Says on standard error, before anything is trained, what each task is and its license, and at which rate a model of the user's starts."""
    from evosearch.judging.preflight import introduction

    print(printable("\n".join(introduction(pairs))), file=sys.stderr, flush=True)


class Progress:
    """Called after every turn of the loop with the study; writes to `stream`, a terminal of `width` columns or, without, a file."""

    def __init__(self, stream: TextIO, width: int | None) -> None:
        self.stream, self.width = stream, width
        self.in_flight = 0  # jobs, at the last look
        now = time.monotonic()
        self._printed = now if width is None else 0.0
        self._cost = 0.0  # seconds that the last line took: it goes over every row
        self._paced: tuple[float, int] | None = None  # when the search proper began here, and how many were told by then

    def begin(self, banner: Sequence[str], pairs: Sequence[str]) -> None:
        """The run's first lines."""
        print(printable("\n".join(banner)), file=self.stream, flush=True)
        introduce(pairs)

    def __call__(self, study: Any, executor: Any) -> None:
        now = time.monotonic()
        self.in_flight = len(executor.in_flight)
        if self._paced is None and study.scale is not None and study.progress()["asked"] > study.replayed:
            self._paced = now, study.progress()["told"]
        if now - self._printed < max(30.0 if self.width is None else 0.5, 50 * self._cost):
            return
        line = printable(self._line(study, now))
        self._printed = time.monotonic()
        self._cost = self._printed - now
        if self.width is None:
            print(line, file=self.stream, flush=True)
        else:
            room = max(20, self.width - 1)
            self.stream.write("\r" + line[:room].ljust(room))
            self.stream.flush()

    def _line(self, study: Any, now: float) -> str:
        p, rows = study.progress(), study.rows()
        full = [r for r in fully_trained(rows) if may_be_picked(r)]
        rejected = sum(1 for r in rows if r["status"] == "rejected")
        best = max(full, key=lambda r: r["objectives"]["mean"], default=None)
        text = f"{p['told']}/{p['evaluations']} functions"
        if study.scale is None:
            return f"{text}: the baselines first, they set the scale"
        text += f", {rejected} rejected, {len(full)} fully trained{self._left(p, now)}"
        return text + (f"; best {best['objectives']['mean']:+.2f} {best['candidate']}" if best else "")

    def _left(self, p: dict[str, int], now: float) -> str:
        """The time left at the pace since the baselines were done; they are all trained in full and would mislead."""
        if p["final"]:
            return f", final check {p['final_told']}/{p['final']}"
        since, before = self._paced or (now, p["told"])
        done = p["told"] - before
        return f", {(p['evaluations'] - p['told']) * (now - since) / done / 60:.1f} min + final check left" if done > 0 else ""

    def end(self) -> None:
        """Ends the living line."""
        if self.width is not None:
            self.stream.write("\n")
