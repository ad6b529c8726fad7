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
    def graph(self) -> Graph:
        """The one graph of a candidate that has only the slot `act`."""
        if set(self.slots) != {"act"}:
            raise ValueError(f"this candidate fills the slots {', '.join(sorted(self.slots))}; only `act` alone is one layer")
        return self.slots["act"]


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
