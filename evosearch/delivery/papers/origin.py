"""Which run found a layer, how many candidates it tried, and what its final check said. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evosearch.config import digest
from evosearch.delivery.funnel import funnel
from evosearch.delivery.summary import Reading, judge, stored_summary, verdict_line
from evosearch.search.pick import may_be_picked
from evosearch.search.verdict import Comparison

_VERSIONS = ("evosearch", "python", "torch", "numpy", "sympy", "deap", "optuna")


@dataclass(frozen=True)
class Origin:
    """A candidate's place in its run. `tried` counts every candidate by where it ended; `comparisons` is its final check, if it had one,
    each corrected for the `corrected_for` functions that were trained in full."""

    run: str
    config_sha256: str
    seed: int
    index: int | None
    proposer: str
    parents: Sequence[str]
    tried: Mapping[str, int]
    search_pairs: Sequence[str]
    final_pairs: Sequence[str]
    versions: Mapping[str, str]
    data: str
    verdict: str
    comparisons: Sequence[Comparison] = ()
    corrected_for: int = 0


def origin_of(reading: Reading, environment: Mapping[str, Any], candidate: str) -> Origin:
    """Where `candidate` of the run is from; `environment` is what run.yaml recorded. Raises ValueError for one that the run does not have."""
    rows = [row for row in reading.rows if row["candidate"] == candidate]
    if not rows:
        raise ValueError(f"{reading.directory} has no candidate `{candidate[:120]}`")
    row = next(filter(may_be_picked, rows), rows[0])
    summary = stored_summary(reading)[0]
    verdict = summary.verdict if summary else judge(reading, {})
    is_pick = reading.pick is not None and reading.pick.candidate == candidate
    return Origin(
        run=reading.directory.resolve().name,
        config_sha256=digest(reading.config),
        seed=reading.config.seed,
        index=row["index"],
        proposer=str(row["proposer"]),
        parents=str(row["parents"] or "").split(),
        tried=funnel(reading.rows),
        search_pairs=list(reading.config.judging.full.pairs),
        final_pairs=list(reading.config.judging.final.pairs),
        versions={name: str(environment[name]) for name in _VERSIONS if name in environment},
        data=str(environment.get("data", "")),
        verdict=verdict_line(reading, summary, candidate),
        comparisons=verdict.comparisons if is_pick and verdict else (),
        corrected_for=verdict.tried if is_pick and verdict else 0,
    )
