"""Text in columns that fits a terminal of any width; a width of None is a pipe: nothing is wrapped, padded or left out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

NARROW = 24  # the flexible column gets at least so many characters


@dataclass(frozen=True)
class Column:
    """A column of cells. `drop` says when it goes where the width is short: the highest first, of equal ones the last, 0 never."""

    title: str
    cells: Sequence[str]
    drop: int = 0
    right: bool = True
    flexible: bool = False  # its cells may be wrapped

    @property
    def width(self) -> int:
        """Characters of the longest cell."""
        return max(map(len, (self.title, *self.cells)))


def grid(columns: Sequence[Column], width: int | None) -> tuple[list[str], list[str]]:
    """The lines of the table, its titles first, and the titles that were left out for lack of width."""
    kept, left_out = list(columns), []
    while width is not None and _least(kept) > width and any(c.drop for c in kept):
        last = max(reversed(kept), key=lambda c: c.drop)
        kept.remove(last)
        left_out.append(last.title)
    gap = 2 if width is None or sum(c.width + 2 for c in kept) - 2 <= width else 1
    room = None if width is None else width - sum(c.width + gap for c in kept if not c.flexible)
    cells = [_wrapped(c, room) for c in kept]
    widths = [max(len(line) for cell in column for line in cell) for column in cells]
    rights = [c.right for c in kept]
    return [line for row in zip(*cells, strict=True) for line in _lines(row, widths, rights, " " * gap)], left_out


def _least(columns: Sequence[Column]) -> int:
    return sum((min(c.width, NARROW) if c.flexible else c.width) + 1 for c in columns) - 1


def _wrapped(column: Column, room: int | None) -> list[list[str]]:
    cells = [column.title, *column.cells]
    if room is None or not column.flexible:
        return [[cell] for cell in cells]
    return [textwrap.wrap(cell, max(room, NARROW // 2), break_on_hyphens=False) or [""] for cell in cells]


def _lines(row: Sequence[Sequence[str]], widths: Sequence[int], rights: Sequence[bool], gap: str) -> list[str]:
    lines = []
    for i in range(max(len(cell) for cell in row)):
        parts = [cell[i] if i < len(cell) else "" for cell in row]
        lines.append(gap.join(p.rjust(w) if right else p.ljust(w) for p, w, right in zip(parts, widths, rights, strict=True)).rstrip())
    return lines


def printable(text: str) -> str:
    """The text without the letters that a terminal would obey, or show in another order or not at all: it may come from a stranger's file."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def prose(text: str, width: int | None, indent: int = 2) -> list[str]:
    """A sentence, wrapped at words (a no-break space holds two together where a line has room) and indented from its second line on."""
    if width is not None:
        width = max(width, NARROW)
        text = " ".join(word if len(word) <= width - indent else word.replace("\u00a0", " ") for word in text.split(" "))
    lines = [text] if width is None else textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]
