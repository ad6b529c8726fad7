"""A run's best functions once more: fresh seeds, unseen pairs, every baseline and the run's own controls. What `evosearch verify` does.

The controls are the best that random search and the tuned forms of usual functions found in the same run, with as many functions each
as `controls` gives them, 1 for as many as the search itself: a search that is not better than its controls has found nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evosearch.config import Config
from evosearch.delivery.summary import Reading, baseline_names, directions_of, leaders, read
from evosearch.evaluation import train_finals
from evosearch.judging.fingerprint import model_hashes
from evosearch.plugin import PlugIn
from evosearch.rerank import Gain, rerank
from evosearch.rerank import table_of as conditions_of
from evosearch.run import install_data, plan_of, stored
from evosearch.search.pick import CONTROLS, best_controls, count_tried, fully_trained, is_seed, may_be_picked
from evosearch.search.store import Row, write_atomically
from evosearch.search.verdict import Comparison, compare

FIRST_SEED = 10_000  # the search draws from 0 on, the final check from 1,000
DRAWS = 20_000


@dataclass(frozen=True)
class Verified:
    """One candidate of the run against every contestant; a seed is none of its finds."""

    candidate: str
    comparisons: tuple[Comparison, ...]
    is_seed: bool = False


@dataclass(frozen=True)
class Verification:
    """The verdicts; `controls` say of each control what it proposed best and how many functions it was given."""

    pairs: tuple[str, ...]
    seeds: int
    tried: int
    verified: tuple[Verified, ...]
    controls: dict[str, str]
    failed: dict[str, str]
    gains: tuple[Gain, ...] = ()  # under other conditions, if asked for
    optimizer: str = "adam"

    def to_text(self) -> str:
        """Indented JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def verify(
    directory: Path, config: Config, *, top: int = 1, seeds: int = 8, executor: str = "local", workers: int | None = None,
    plugins: Sequence[PlugIn] = (), on_progress: Callable[[int, int], None] | None = None, conditions: bool = False,
    on_start: Callable[[], None] | None = None,
) -> Verification:  # fmt: skip
    """Trains the run's `top` functions and all contestants on its final pairs with `seeds` fresh seeds; writes verify.json.

    With `conditions` also under a second optimizer and on wider networks (`rerank`), against the strongest baselines, the usual
    one and the controls.
    `on_start` is called once nothing is left that could refuse. Raises ValueError for a run in which nothing found was fully trained.
    """
    if top < 1 or seeds < 3:
        raise ValueError(f"verify takes at least 1 function (--top) and 3 seeds (--seeds); received {top} and {seeds}")
    reading = read(directory, config)
    candidates = leaders(reading, top)
    controls = best_controls(fully_trained(reading.searched))
    names = {**baseline_names(config), **{str(row["candidate"]): CONTROLS[who] for who, row in controls.items() if row["candidate"] not in candidates}}
    contestants = list(dict.fromkeys([*candidates, *names]))
    _refuse_other_models(directory, config, plugins)
    install_data(config)
    if on_start:
        on_start()
    plan = plan_of(config, plugins, directory)
    plan = replace(plan, final=replace(plan.final, seeds=seeds))
    rows, failed = train_finals(contestants, plan, FIRST_SEED, executor, workers, on_progress)
    tried, directions = count_tried(reading.searched), directions_of(config)
    seeds_given = {row["candidate"] for row in reading.searched if is_seed(row)}
    verified = tuple(
        Verified(
            text,
            tuple(compare(rows, text, {t: names.get(t, t) for t in contestants if t == text or t in names}, directions, tried, draws=DRAWS)),
            text in seeds_given,
        )
        for text in candidates
    )
    strongest = {*reading.contestants, *(row["candidate"] for row in controls.values())}
    opponents = {text: name for text, name in names.items() if text in strongest and text not in candidates}
    found = Verification(
        tuple(config.judging.final.pairs), seeds, tried, verified, controls_of(reading, controls),
        {f"{who} on {pair}": why for (who, pair), why in failed.items()}, optimizer=plan.final.optimizer,
    )  # fmt: skip
    write_atomically(directory / "verify.json", found.to_text().encode())
    if conditions:  # hours more, perhaps: what is known is written first
        gains, broken = rerank(candidates, opponents, plan, seeds, executor, workers, on_progress)
        found = replace(found, gains=tuple(gains), failed={**found.failed, **broken})
        write_atomically(directory / "verify.json", found.to_text().encode())
    return found


def _refuse_other_models(directory: Path, config: Config, plugins: Sequence[PlugIn]) -> None:
    before, now = stored(directory, plugins)[1].get("models", {}), model_hashes(config.judging.pairs)
    changed = [model for model in now if now[model] != before.get(model)]
    if changed:
        raise ValueError(f"{directory} was searched with another version of {changed[0]}: its module's file has changed; restore it, or search again")


def controls_of(reading: Reading, best: dict[str, Row]) -> dict[str, str]:
    """Of each control that ran, what it proposed best and how many functions it was given."""
    others = sum(1 for r in reading.searched if may_be_picked(r))
    said = {}
    for who in dict.fromkeys(str(r["proposer"]) for r in reading.searched if r["proposer"] in CONTROLS):
        given = sum(1 for r in reading.searched if r["proposer"] == who)
        text = best[who]["candidate"] if who in best else "none was fully trained"
        said[CONTROLS[who]] = f"{text} (the best of {given} functions; the search had {others})"
    return said


def table_of(found: Verification) -> list[str]:
    """The verdicts as lines of text."""
    lines = [f"{found.seeds} fresh seeds on {len(found.pairs)} pairs that the search never saw, by {found.optimizer}: {', '.join(found.pairs)}"]
    for verified in found.verified:
        lines += ["", verified.candidate + "  (a seed of this search, no find)" * verified.is_seed]
        for c in verified.comparisons:
            across = f"; over pairs [{c.pairs_low:+.2f}, {c.pairs_high:+.2f}]" if c.pairs_low is not None else ""
            lines.append(f"  {c.verdict:<10} than {c.against}: {c.difference:+.2f} spreads [{c.low:+.2f}, {c.high:+.2f}] at {100 * c.level:.2f} %{across}")
    several = any(c.pairs_low is not None for v in found.verified for c in v.comparisons)
    lines += ["", "better is what is above 0 by both intervals: over seeds, and over pairs"] if several else [""]
    lines += [*(f"control {name}: {text}" for name, text in found.controls.items())]
    if not found.controls:
        lines.append("no control ran in this search: `controls: {random: 1, tuned: 1}` gives each as many functions as the search")
    lines += [f"failed: {who}: {why}" for who, why in found.failed.items()]
    return [*lines, "", *conditions_of(found.gains)] if found.gains else lines
