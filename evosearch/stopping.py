"""How a run is stopped: by Ctrl-C, by SIGTERM with its notice, by a terminal that is closed. What is in flight finishes first."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

NOTICE = 22.0  # seconds for what is in flight: whoever sends SIGTERM sends SIGKILL 30 s later, and closing takes a few
KINDLY = (signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal that came when nothing was in flight: at the start, or while the end is measured. Like KeyboardInterrupt no Exception."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """What was heard. The first signal ends the asking; a Ctrl-C after any other stops at once."""

    def __init__(self) -> None:
        self._heard: list[int] = []
        self._until = float("inf")

    @property
    def asked(self) -> bool:
        """Whether nothing more is to be asked."""
        return bool(self._heard)

    @property
    def is_over(self) -> bool:
        """Whether what is still in flight has had its time; after Ctrl-C it has as long as it takes."""
        return time.monotonic() >= self._until

    def listen(self) -> None:
        """Takes the signals; once more after something that takes them itself, as Ray does when it starts."""
        for number in (signal.SIGINT, *_heeded()):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._heard.append(number)
        if number == signal.SIGINT and len(self._heard) > 1:
            raise KeyboardInterrupt
        if number != signal.SIGINT:
            self._until = min(self._until, time.monotonic() + NOTICE)


@contextmanager
def heard() -> Iterator[Stop]:
    """Listens for the signals while there is work in flight."""
    before: Mapping[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, *_heeded())}
    stop = Stop()
    stop.listen()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def raised() -> Iterator[None]:
    """SIGTERM and SIGHUP as the exception Stopped, so that whoever is stopped can say what is safe."""

    def stopped(number: int, frame: object) -> None:
        raise Stopped(number)

    before: Mapping[int, Any] = {number: signal.signal(number, stopped) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> list[int]:
    """Not SIGHUP under nohup, which ignores it before we start: such a run goes on without its terminal."""
    return [number for number in KINDLY if signal.getsignal(number) is not signal.SIG_IGN]
