"""What a search would be, before it is started: the size of its space, twenty samples, and what eight evaluations say of minutes and disk."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count as count_from
from itertools import islice
from statistics import fmean

from evosearch.config import Config
from evosearch.evaluation import run_jobs
from evosearch.job import FULL_TEST, Job, Result
from evosearch.plugin import PlugIn
from evosearch.run import plan_of, screen_of
from evosearch.search.scale import going_on
from evosearch.space import SearchSpace
from evosearch.space.trees import count, count_up_to

SAMPLES, TRIED = 20, 8
_CONTESTANTS = 6  # of the final check: the pick, three baselines, the usual one, a control
_SCREENED = 0.3  # bytes of what the screen turned away, over those of what was trained


def size_line(space: SearchSpace) -> str:
    """How many candidates the space has, or at most has."""
    trees = count(space)
    if math.isfinite(trees):
        return f"{trees:,.0f} trees; as many candidates at most, since several may be one function"
    bounded = count_up_to(space, space.max_nodes)
    return f"no end of trees; of at most {space.max_nodes} productions there are about 1e{math.log10(bounded):.0f}, with the numbers that are listed"


def samples(config: Config, space: SearchSpace, seed: int) -> tuple[list[str], Counter[str]]:
    """Twenty candidates, and what the driver's screen says of them, by reason; "passes" for those that would be dispatched."""
    drawn = list(islice(_drawn(config, space, seed), SAMPLES))
    return [text for text, _ in drawn], Counter(reason or "passes" for _, reason in drawn)


def passing(config: Config, space: SearchSpace, seed: int, wanted: int) -> list[str]:
    """Candidates that the screen lets through. Raises ValueError where a thousand proposals hold too few."""
    found = list(islice((text for text, reason in islice(_drawn(config, space, seed), 1000) if reason is None), wanted))
    if len(found) < wanted:
        raise ValueError(f"of 1,000 random candidates the screen lets {len(found)} through; the space is too narrow, or `require` asks too much")
    return found


def _drawn(config: Config, space: SearchSpace, seed: int) -> Iterator[tuple[str, str | None]]:
    """Random candidates, and why the screen would turn each away after those before; None where it would not."""
    rng, screen = random.Random(seed), screen_of(config, space)
    for i in count_from(0):
        text = str(space.sample(rng))
        verdict = screen.check(text)
        if verdict is None:
            screen.add(i, text)
        yield text, None if verdict is None else verdict.reason


def tried(config: Config, texts: Sequence[str], plugins: Sequence[PlugIn]) -> list[Result]:
    """The candidates trained in full, as baselines are: no bar stops them."""
    jobs = [Job(i, text, config.seed) for i, text in enumerate(texts)]
    execution = config.execution
    return run_jobs(jobs, plan_of(config, plugins), "local", execution.workers, execution.time_limit, execution.memory_limit_gb)


def estimate_lines(config: Config, results: Sequence[Result]) -> list[str]:
    """Minutes and megabytes of the whole search, out of the seconds that each stage took."""
    seconds = {stage: _mean([r.seconds[stage] for r in results if stage in r.seconds]) for stage in ("numeric", "quick", "quality", *FULL_TEST)}
    functions = config.budget.evaluations - len(config.baselines)
    entered = dict.fromkeys(("numeric", "quick", "quality"), float(functions))
    reaching = float(functions)
    for stage, (share, _) in config.judging.shares.items():
        reaching = min(reaching, going_on(functions, share))
        entered |= {"quality": reaching} if stage == "quick" else dict.fromkeys(FULL_TEST, reaching) if stage == "quality" else {}
        entered |= {"first_seed": reaching, "full": reaching} if stage == "first_rate" else {"full": reaching} if stage == "first_seed" else {}
    search = sum(seconds[stage] * (entered[stage] + len(config.baselines)) for stage in seconds)
    step = sum(seconds[stage] for stage in FULL_TEST) / _trainings(config)
    final, full = config.judging.final, config.judging.full
    check = step * final.steps / full.steps * (len(final.rates) + final.seeds - 1) * len(final.pairs) * _CONTESTANTS
    workers = config.execution.workers or os.cpu_count() or 1
    row = _mean([float(len(r.to_text())) for r in results])
    lines = [f"seconds a function: {', '.join(f'{stage} {value:.2f}' for stage, value in seconds.items() if value)}"]
    lines.append(
        f"about {search / workers / 60:.1f} minutes of search and {check / workers / 60:.1f} of final check with {workers} workers, "
        f"about {row * config.budget.evaluations * (1 + _SCREENED) / 1e6:.1f} MB of log before it is packed"
    )
    broken = Counter(r.reason or r.status for r in results if r.status != "ok")
    if broken:
        lines.append(f"of {len(results)} tried {sum(broken.values())} ended early: {', '.join(f'{reason} {n}' for reason, n in broken.most_common())}")
    return lines


def _trainings(config: Config) -> int:
    """Trainings of one function in the full stage, over all its pairs."""
    full = config.judging.full
    return (len(full.rates) + full.seeds - 1) * len(full.pairs)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
