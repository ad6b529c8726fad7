"""The second level of a search: the numbers of its best structures (PANGAEA, arXiv 2006.03179; stage 2 of SAFS, Loni et al. 2023)."""

from __future__ import annotations

import math

from evosearch.proposers import STAGES, Outcome
from evosearch.proposers.bayes import SAMPLERS, BayesProposer
from evosearch.space import SearchSpace


class TuningProposer(BayesProposer):
    """Tunes the numbers of the `survivors`, the structures whose best came farthest and scored best there.

    Raises ValueError for a space without numbers, whose structures cannot be tuned.
    """

    name = "tuning"

    def __init__(self, space: SearchSpace, survivors: int, sampler: str = "tpe") -> None:
        if not space.numeric & set(space.productions):
            raise ValueError("tuning is of numbers, and formulas of this space have none: leave `tuning` out, or let the space have constants or parameters")
        self.promising, self.sampler = survivors, sampler
        assert sampler in SAMPLERS
        super().__init__(space)

    def values(self, outcome: Outcome) -> tuple[float, ...]:
        """How far it came, and below that its score there; nothing for what has no score."""
        reached = [depth for depth, name in enumerate(STAGES) if name in outcome.objectives]
        if outcome.status != "ok" or not reached:
            return ()
        return (reached[-1] + 0.5 + math.atan(outcome.objectives[STAGES[reached[-1]]]) / math.pi,)
