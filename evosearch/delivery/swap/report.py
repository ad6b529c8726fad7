"""What a swap did, as a table, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from evosearch.delivery.layout import Column, grid, prose


@dataclass(frozen=True)
class Row:
    """One place: its name, what stood there, what stands there now (empty where it was left), and what is to be known."""

    name: str
    was: str
    becomes: str
    rule: str
    notes: tuple[str, ...] = ()
    unexplained: float | None = None  # share of the old activation's variance that the fitted one does not give
    scale: float | None = None  # of `calibrate`: deviation of the old output over that of the new one, the mean over channels

    @property
    def replaced(self) -> bool:
        """Whether the place got a new layer."""
        return bool(self.becomes)


@dataclass
class Edits:
    """What was put where, in order: the dictionary it stood in, its key, what stood there, and the dictionary it stands in now."""

    done: list[tuple[dict[str, Any], str, Any, dict[str, Any]]] = field(default_factory=list)

    def put(self, owner: nn.Module, key: str, new: nn.Module) -> None:
        """A module in place of a child, or of a function kept as an attribute."""
        before: dict[str, Any] = owner._modules if key in owner._modules else owner.__dict__
        self.done.append((before, key, before[key], owner._modules))
        if before is not owner._modules:
            del before[key]
        owner._modules[key] = new

    def set(self, owner: nn.Module, key: str, value: object) -> None:
        """A plain attribute."""
        self.done.append((owner.__dict__, key, owner.__dict__[key], owner.__dict__))
        owner.__dict__[key] = value

    def undo(self) -> None:
        """Everything back, the last first."""
        while self.done:
            before, key, old, now = self.done.pop()
            if now is not before:
                del now[key]
            before[key] = old


@dataclass
class Swapped:
    """The result of `swap`: the model with the new layers, what became of each place, and `undo`.

    `new_keys` and `missing_keys` are what a checkpoint of the old model lacks and has too much of: load it with `strict=False`
    where they are not empty.
    """

    model: nn.Module
    rows: list[Row]
    new_keys: list[str]
    missing_keys: list[str]
    dry_run: bool
    _edits: Edits
    _before: nn.Module

    @property
    def replaced(self) -> list[Row]:
        """The places that got a new layer."""
        return [row for row in self.rows if row.replaced]

    @property
    def left(self) -> list[Row]:
        """The places that a rule was about and that were left as they are, with the reason."""
        return [row for row in self.rows if not row.replaced and row.rule]

    @property
    def warnings(self) -> list[str]:
        """`name: remark`, for every remark."""
        return [f"{row.name}: {note}" for row in self.rows for note in row.notes]

    def undo(self) -> nn.Module:
        """Puts every old module back where it was, and returns the model, which then computes what it did, bit for bit."""
        self._edits.undo()
        self.model = self._before
        return self.model

    def table(self, width: int | None = None) -> list[str]:
        """The rows as lines, then what a checkpoint of the old model lacks or has too much of."""
        return table(self.rows, width) + _keys(self, width)

    def __str__(self) -> str:
        return "\n".join(self.table())


def table(rows: Sequence[Row], width: int | None) -> list[str]:
    """The rows as a table."""
    columns = [
        Column("place", [row.name for row in rows], right=False),
        Column("was", [row.was for row in rows], drop=1, right=False),
        Column("becomes", [row.becomes or ("left" if row.rule else "-") for row in rows], right=False, flexible=True),
        Column("unexplained", ["" if row.unexplained is None else f"{100 * row.unexplained:.2g} %" for row in rows], drop=2),
        Column("rescaled", ["" if row.scale is None else f"{row.scale:.3g}" for row in rows], drop=3),
        Column("note", ["; ".join(row.notes) for row in rows], right=False, flexible=True),
    ]
    lines, left_out = grid([c for c in columns if any(c.cells)], width)
    return lines + (prose(f"left out for lack of width: {', '.join(left_out)}", width) if left_out else [])


def _keys(found: Swapped, width: int | None) -> list[str]:
    verb = "would be" if found.dry_run else "are"
    lines = [f"{len(found.replaced)} places {verb} replaced, {len(found.left)} left"]
    for what, keys in (("lacks", found.new_keys), ("has in excess", found.missing_keys)):
        if keys:
            some = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            lines += prose(f"a checkpoint of the old model {what} {some}: load it with strict=False", width)
    return lines
