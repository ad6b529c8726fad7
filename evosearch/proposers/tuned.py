"""The control of a search: usual functions with a learnable scale and slope, whose starting values are tuned by chance.

`a * f(b * x)` of ReLU and SiLU: who cannot beat this with the same budget has found no function. It learns from no result, as
random search does not, so that it is a control of the proposals and not of the judging.
"""

from __future__ import annotations

import random

from evosearch.language.graph import canonical, make, parameter, variable
from evosearch.proposers import Outcome, Proposal
from evosearch.space import SearchSpace

USUAL = ("relu", "silu")
LARGEST = 4.0  # starts are drawn from a quarter to four, evenly in their logarithm


class TunedProposer:
    """Draws the function and both starting values anew at every ask."""

    name = "tuned"

    def __init__(self, space: SearchSpace) -> None:
        if space.slot != "act":
            raise ValueError(f"the control `tuned` scales activations; in the slot `{space.slot}` there are none: leave it out of controls")

    def tell(self, outcome: Outcome) -> None:
        """Nothing is learned."""

    def ask(self, rng: random.Random) -> Proposal:
        scale, slope = (float(f"{LARGEST ** rng.uniform(-1, 1):.3g}") for _ in range(2))
        inside = make(rng.choice(USUAL), make("mul", parameter("b", "layer", slope), variable("x")))
        return Proposal(str(canonical(make("mul", parameter("a", "layer", scale), inside))), (), self.name)
