"""Candidate: named graphs (slots) and named values (choices) as one line of text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph

Choice = float | int | str

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Candidate:
    """What a search proposes: graphs for the slots of a network, and values for its choices."""

    slots: Mapping[str, Graph]
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def __str__(self) -> str:
        if set(self.slots) == {"act"} and not self.choices:
            return str(self.slots["act"])
        lines = [f"{name} := {graph}" for name, graph in sorted(self.slots.items())]
        lines += [f"{name} := {value!r}" for name, value in sorted(self.choices.items())]
        return "; ".join(lines)

    @property
    def canonical_id(self) -> str:
        """sha256 of the text; of a lone activation it is the graph's own."""
        return hashlib.sha256(str(self).encode()).hexdigest()

    @property
    def is_layer(self) -> bool:
        """Whether it is one layer, for every place of a network: the slot `act` and no choices."""
        return set(self.slots) == {"act"} and not self.choices

    @property
    def graph(self) -> Graph:
        """The one graph of a candidate that is one layer. Raises ValueError for a network."""
        if not self.is_layer:
            filled = f"fills the slots {', '.join(self.slots) or 'none'}" + (f" and makes the choices {', '.join(self.choices)}" if self.choices else "")
            raise ValueError(f"one layer is wanted here, and this candidate is a network: it {filled}")
        return self.slots["act"]

    @property
    def sites(self) -> tuple[Graph, ...]:
        """The layers of the slots act0, act1, ... in the order of their numbers, or the one of `act`. Raises ValueError for other slots."""
        if set(self.slots) == {"act"}:
            return (self.slots["act"],)
        names = slot_names(len(self.slots))
        if not names or set(self.slots) != set(names):
            raise ValueError(f"the slots of a network are `act`, or act0, act1 and so on without a gap; received {', '.join(sorted(self.slots)) or 'none'}")
        return tuple(self.slots[name] for name in names)


def slot_names(count: int) -> tuple[str, ...]:
    """act0, act1, ...: the slots of a network of so many."""
    return tuple(f"act{i}" for i in range(count))


def inputs_of(slot: str) -> tuple[str, ...]:
    """The inputs of a layer in that place of a network: a `gate` has two, every other layer has one."""
    return ("x", "y") if slot == "gate" else ("x",)


def parse_candidate(text: str) -> Candidate:
    """The candidate that a line of text says; a bare formula is the slot `act`. Raises FormulaError."""
    if ":=" not in text:
        return Candidate({"act": parse(text)})
    slots: dict[str, Graph] = {}
    choices: dict[str, Choice] = {}
    for piece in text.split(";"):
        name, separator, content = (part.strip() for part in piece.partition(":="))
        if not separator or not _NAME.fullmatch(name) or name in slots or name in choices:
            raise FormulaError(f"a candidate reads `slot := formula; choice := value`, each name once; received `{piece.strip()[:80]}`")
        value = _choice(content)
        if value is None:
            slots[name] = parse(content)
        else:
            choices[name] = value
    return Candidate(slots, choices)


def _choice(text: str) -> Choice | None:
    if re.fullmatch(r"'[\w./+-]*'", text):
        return text[1:-1]
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", text):
        return float(text)
    return None
