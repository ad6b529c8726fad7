"""What sections are made of: the strict section itself, and kinds of values."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from evosearch.judging.baselines import baseline


class Section(BaseModel):
    """A model that is strict: no other keys, no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _baseline(name: str) -> str:
    baseline(name)
    return name


def _distinct(names: list[T]) -> list[T]:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"`{twice}` stands here twice; leave one out")
    return names


Factor = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
T = TypeVar("T")
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
Baseline = Annotated[str, AfterValidator(_baseline)]
