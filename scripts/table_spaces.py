"""The spaces of the open tables: which operator may stand at each place of a fixed form, and the functions that come out.

`27x7` is AQuaSurF's Act-Bench space `binary(unary(x), unary(x))` (arXiv 2301.05785). `three-operators` is `unary(binary(unary(x),
unary(x)))` over their 31 unaries, thinned so that every function of it can be trained: 10 of the 31 outside, 7 inside, drawn at
random by the first seed that gives 1,900 to 2,100 functions. A space that is complete, however thin, needs no rule for proposals
that are not in the table.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from bench_language import BINARY, UNARY, classes

from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph

MORE = ("elish(x)", "leaky_relu(x)", "mish(x)", "gelu(x)")  # AQuaSurF's other four unaries; the slope of leaky ReLU is 0.01
OUTSIDE, INSIDE = 10, 7
BASELINES = ("identity", "relu", "gelu", "silu", "mish", "selu", "tanh", "sine", "snake", "squared_relu", "tuned_relu", "tuned_gelu", "tuned_tanh")
ABOUT = range(1900, 2101)
_POWERS = {"(0) ** (0)": "1", "(0) ** (1)": "0", "(1) ** (0)": "1", "(1) ** (1)": "1"}  # the language wants such a number written as one


@dataclass(frozen=True)
class Form:
    """A formula with places, and the texts that may stand at each; `binary` is the place of the operator that takes two."""

    places: tuple[tuple[str, ...], ...]
    binary: int

    def text(self, choice: tuple[int, ...]) -> str:
        """The formula with the chosen text at each place."""
        *before, form, left, right = (options[i] for options, i in zip(self.places, choice, strict=True))
        inside = form.format(left, right)
        for outer in before:
            inside = re.sub(r"\bx\b", lambda _, inside=inside: f"({_POWERS.get(inside, inside)})", outer)
        return _POWERS.get(inside, inside)

    def choices(self) -> Iterator[tuple[int, ...]]:
        """Every choice, in order."""
        return product(*(range(len(options)) for options in self.places))

    def graph(self, choice: tuple[int, ...]) -> Graph | None:
        """The graph of a choice; None for the few that the language refuses, parts of numbers alone."""
        try:
            return parse(self.text(choice))
        except FormulaError:
            return None

    def members(self) -> list[list[Graph]]:
        """All graphs of the form, a list for each function."""
        graphs = (self.graph(choice) for choice in self.choices())
        return classes([g for g in graphs if g is not None])


def drawn(seed: int) -> Form:
    """The three-operator form with the operators of this seed."""
    rng = random.Random(seed)
    every = (*UNARY, *MORE)
    outside, inside = tuple(rng.sample(every, OUTSIDE)), tuple(rng.sample(every, INSIDE))
    return Form((outside, BINARY, inside, inside), 1)


def form_of(space: str) -> Form:
    """The form of a table by its name. Raises KeyError."""
    return {"27x7": Form((BINARY, UNARY, UNARY), 0), "three-operators": drawn(SEED)}[space]


def functions(form: Form) -> list[str]:
    """One text for each function of the form, the shortest of its class, in a fixed random order."""
    found = sorted(str(min(members, key=lambda g: (g.size, str(g)))) for members in form.members())
    random.Random(0).shuffle(found)
    return found


SEED = 1  # the first that gives so many; `python scripts/table_spaces.py` looks for it
SPACES = ("27x7", "three-operators")


if __name__ == "__main__":
    seed = next(s for s in range(100) if print(s, count := len(drawn(s).members())) or count in ABOUT)
    print(f"seed {seed}: outside {drawn(seed).places[0]}, inside {drawn(seed).places[2]}")
