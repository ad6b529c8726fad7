"""What a network may choose: the knobs of the architectures that have some, and the baselines of a search for networks. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evosearch.judging.objectives import OWN, parse_pair
from evosearch.language.candidate import Candidate, Choice
from evosearch.language.formula import parse


@dataclass(frozen=True)
class Knob:
    """A choice of an architecture: the value it has where nobody chooses, and those it may have, listed or as whole numbers `low` to `high`."""

    usual: Choice
    what: str
    values: tuple[Choice, ...] = ()
    low: int = 0
    high: int = 0

    def allows(self, value: Choice) -> bool:
        """Whether it may be chosen; `3.0` is not 3, nor `True` 1."""
        if self.values:
            return any(value == known and type(value) is type(known) for known in self.values)
        return type(value) is int and self.low <= value <= self.high

    def __str__(self) -> str:
        return " | ".join(map(str, self.values)) if self.values else f"{self.low} to {self.high}"


KNOBS: dict[str, dict[str, Knob]] = {
    "stages": {
        "depth": Knob(1, "blocks a stage", low=1, high=16),
        "width": Knob(16, "channels of the first stage; the second has twice as many", low=4, high=512),
        "kernel": Knob(3, "size of the spatial convolutions", (3, 5, 7)),
        "block": Knob("conv", "two convolutions; depthwise and pointwise; inverted residual; bottleneck", ("conv", "separable", "inverted", "bottleneck")),
        "norm": Knob("batch", "kind of normalization", ("batch", "group", "none")),
        "placement": Knob("post", "convolution, norm, activation; or norm, activation, convolution", ("post", "pre")),
        "residual": Knob("add", "what a block's result is added to, and how", ("add", "scaled", "none")),
    }
}
STAGES = {"stages": 2}  # the stages of an architecture whose slots are stages: act0 the first one, its stem included


def knobs(architecture: str) -> dict[str, Knob]:
    """The choices that a built-in architecture leaves open, by name."""
    return KNOBS.get(architecture, {})


def check_choices(pair: str, choices: Mapping[str, Choice]) -> None:
    """Raises ValueError for a choice or a value that the pair's architecture does not have. A user's own model says so when it is tried."""
    named = parse_pair(pair)
    if named.architecture == OWN:
        raise ValueError(f"{named.task} is a training loop of its own, whose network is its own too; search networks on other pairs than `{pair}`")
    if named.is_own_model:
        return
    there = knobs(named.architecture)
    for name, value in choices.items():
        if not there:
            raise ValueError(f"{named.architecture} leaves no choices open; received {', '.join(choices)} for `{pair}`: take one that does, {_those()}")
        if name not in there:
            raise ValueError(f"{named.architecture} has no choice `{name[:40]}`; {_nearest(name, there)}")
        if not there[name].allows(value):
            raise ValueError(f"the choice `{name}` of {named.architecture} is {there[name]} ({there[name].what}); received {value!r}"[:300])


def network_of(formula: str, slots: Sequence[str], choices: Mapping[str, Sequence[Choice]], pairs: Iterable[str]) -> str:
    """The network that has this layer in every slot and the usual value of every choice, as a candidate's text.

    `choices` are those of the search with their values. What is usual the first of the pairs' architectures says, of a user's own
    model the first value.
    """
    there = next((knobs(parse_pair(pair).architecture) for pair in pairs), {})
    usual = {name: there[name].usual if name in there else values[0] for name, values in choices.items()}
    return str(Candidate(dict.fromkeys(slots, parse(formula)), usual))


def _those() -> str:
    return ", ".join(f"{name} ({', '.join(there)})" for name, there in KNOBS.items())


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, tuple(names), n=1)
    return (f"did you mean `{close[0]}`? " if close else "") + f"there are {', '.join(names)}"
