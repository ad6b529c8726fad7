"""The section `judging`: the funnel, from the filters to the final check."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from evosearch.judging.objectives import OBJECTIVES, applies, check_applies, check_goal, check_objective, parse_pair
from evosearch.search.scale import GOALS, Goal
from evosearch.sections.values import Distinct, Factor, Limit, Section


def _pair(text: str) -> str:
    parse_pair(text)
    return text


def _objective(name: str) -> str:
    return check_objective(name)


class StageSection(Section):
    """Where and how long to train."""

    pairs: Annotated[Distinct[Annotated[str, AfterValidator(_pair)]], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    rates: Annotated[Distinct[Factor], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    optimizer: Literal["adam", "sgd"] = "adam"


class QuickSection(StageSection):
    """A short test before the quality test, which the best `keep` share of the functions passes."""

    keep: Annotated[float, Field(gt=0, le=1)] = 0.5


class FullSection(StageSection):
    """Every pair at every rate and on every seed; with the two shares only the best of all functions go on after one rate, and after one seed."""

    keep_first_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # after the first seed at the tuned rate
    keep_first_seed: Annotated[float, Field(gt=0, le=1)] = 1.0  # after the first seed at every rate


class FiltersSection(Section):
    """What is tested before any training, cheap to dear; null switches a filter off (judging.filters.Limits)."""

    cost: Annotated[int, Field(ge=1)] | None = None
    dtypes: Distinct[Literal["float32", "bfloat16", "float16"]] = ["float32", "bfloat16"]
    saved_per_element: Limit = None
    dead_units: Annotated[float, Field(ge=0, lt=1)] | None = None
    propagation: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    stability: Limit = None


class JudgingSection(Section):
    """The funnel: the filters, the quick test, the quality test, longer training for the best `promote` share, the final check."""

    filters: FiltersSection = Field(default_factory=FiltersSection)
    quick: QuickSection | None = None
    quality: StageSection
    full: FullSection
    final: StageSection
    promote: Annotated[float, Field(gt=0, le=1)] = 0.1
    initialization: Literal["lecun", "gain"] = "lecun"  # gain: weights scaled by each function's own 1 / sqrt(E f^2)
    objectives: Distinct[Annotated[str, AfterValidator(_objective)]] = []  # measured in `full` besides what always is
    goals: Annotated[Distinct[str], Field(min_length=1)] | None = None  # beside the mean; null: worst and complexity, and saved tensors on the front

    @model_validator(mode="after")
    def _objectives_apply(self) -> JudgingSection:
        check_applies(self.objectives, self.full.pairs)
        for name in self.goals or ():
            check_goal(name, self.objectives)
        check_applies(self.goals or (), self.quality.pairs)
        return self

    @property
    def shares(self) -> dict[str, tuple[float, list[str]]]:
        """The stages after which only a share of all functions goes on: the share, and the pairs that it is judged on."""
        rungs = {"first_rate": self.full.keep_first_rate, "first_seed": self.full.keep_first_seed}
        found = {"quick": (self.quick.keep, self.quick.pairs)} if self.quick else {}
        return found | {"quality": (self.promote, self.quality.pairs)} | {rung: (share, self.full.pairs) for rung, share in rungs.items() if share < 1}

    def selection(self) -> tuple[Goal, ...]:
        """What selection optimizes beside the mean."""
        if self.goals is None:
            return GOALS
        stages = {"quality": self.quality.pairs, "full": self.full.pairs}
        return tuple(
            Goal(
                name, OBJECTIVES[name].direction, OBJECTIVES[name].of != "formula",
                {stage: tuple(pair for pair in pairs if applies(name, pair)) for stage, pairs in stages.items()},
            ) for name in self.goals
        )  # fmt: skip

    @model_validator(mode="after")
    def _one_seed_before_full(self) -> JudgingSection:
        for name in ("quick", "quality"):
            if getattr(self, name) is not None and getattr(self, name).seeds != 1:
                raise ValueError(f"the {name} test has one seed; put more seeds in `full`")
        if self.quick is not None and self.quick.steps >= self.quality.steps:
            raise ValueError(f"the quick test is shorter than the quality test of {self.quality.steps} steps; received {self.quick.steps}")
        return self

    @property
    def pairs(self) -> list[str]:
        """Every pair of every stage once, sorted."""
        stages = (self.quick, self.quality, self.full, self.final)
        return sorted({pair for stage in stages if stage is not None for pair in stage.pairs})
