"""The functions that a search asks before its proposers: known layers by name, formulas, an earlier run's best. Torch-free.

They are asked once each, in order, right after the baselines, and go through the same funnel as what the proposers ask. A search
that was given a function has not found it: no seed counts as its find, but a seed may win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from evosearch.judging.baselines import baseline, check_inputs
from evosearch.judging.networks import network_of
from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.formula import parse
from evosearch.language.graph import Axes, walk
from evosearch.meaning.screen import Screen
from evosearch.space import SearchSpace
from evosearch.space.network import NetworkSpace
from evosearch.space.operators import OperatorSpace

_OUTSIDE = "lies outside the space"
Source = Literal["library", "formula", "run"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Seed(_Strict):
    """A candidate that is asked first: the layer of a `name`, a formula, or a function of the run in the folder `name`."""

    candidate: Annotated[str, AfterValidator(lambda text: str(parse_candidate(text)))]
    source: Source
    name: str = ""
    left_out: str = ""  # why a function of a run is not asked; empty where it is

    @property
    def title(self) -> str:
        """What it is called: by its layer's name, else by its formula."""
        return self.name if self.source == "library" else self.candidate


class BestOfRun(_Strict):
    """An entry of `seeds` that names an earlier run."""

    run: Annotated[str, Field(min_length=1)]
    top: Annotated[int, Field(ge=1, le=1000)] = 5


def named(text: str, space: SearchSpace, pairs: Sequence[str]) -> tuple[str, Source]:
    """The candidate that a person names, and whether by the name of a layer or as a formula. Raises ValueError.

    In a search for networks a layer stands in every slot, and every choice is the usual one of the `pairs`, as it is with baselines.
    """
    if ":=" in text:
        return str(parse_candidate(text)), "formula"
    is_name = text.isidentifier() and text not in ("x", "y")
    formula = baseline(text) if is_name else str(parse(text))
    check_inputs(text, parse(formula), space.slot)
    if isinstance(space, NetworkSpace):
        formula = network_of(formula, tuple(space.slots), space.choices, pairs)
    return str(parse_candidate(formula)), "library" if is_name else "formula"


class Asked:
    """What is asked first, the baselines among it: says why one function more would not be asked."""

    def __init__(self, space: SearchSpace, screen: Screen, baselines: Mapping[str, str]) -> None:
        self.space, self.screen = space, screen
        self._names: list[str] = []
        for name, text in baselines.items():
            self.add(text, f"the baseline {name}")

    def add(self, candidate: str, name: str) -> None:
        """One more that is asked."""
        self.screen.add(len(self._names), candidate)
        self._names.append(name)

    def take(self, candidate: str, name: str) -> None:
        """`add`, for one that a person wants asked. Raises ValueError where it would not be."""
        refusal = self.refusal(candidate)
        if refusal:
            fix = "widen the space, or say it by what the space has" if refusal.startswith(_OUTSIDE) else "leave it out"
            raise ValueError(f"{name} {refusal}; {fix}")
        self.add(candidate, name)

    def refusal(self, candidate: str) -> str:
        """Why it would not be asked, after the candidate's name; empty where it would."""
        parsed = parse_candidate(candidate)
        if not self.space.contains(parsed):
            return f"{_OUTSIDE}{_because(parsed, self.space)}"
        verdict = self.screen.check(candidate)
        if verdict is None:
            return ""
        if verdict.duplicate_of is not None:
            return f"is the same function as {self._names[verdict.duplicate_of]}"
        return f"is turned away by the driver's screen ({verdict.reason})"


def _because(candidate: Candidate, space: SearchSpace) -> str:
    """What a space of operators lacks for the candidate, where one can tell."""
    if not isinstance(space, OperatorSpace) or not candidate.is_layer:
        return ""
    used = {node.op for node in walk(candidate.graph) if node.args and not isinstance(node.value, Axes)}
    missing = sorted(used - set(space.operators))
    if missing:
        return f", whose operators lack {', '.join(missing)}"
    size = candidate.graph.size
    return f": it has {size} nodes, and max_nodes is {space.max_nodes}" if size > space.max_nodes else ""
