"""What the funnel keeps and what it spends, replayed on the open table, where every stage's outcome of every function is known.

    python scripts/build_table.py --out tables/27x7          # once, some core-hours
    python scripts/replay_funnel.py tables/27x7

The eventual top are the best 5 % of all functions by the last stage (three rates, eight seeds, three pairs), by the mean of their
standardized test scores; what the filters reject was trained too, so that they can be wrong. The funnel goes through the table in
its random order with the rules of a search (`search.scale`) and its window: a function stops at the filters, below the share to
keep of the quick test, below the quality bar, below the promoted share, or below the share to keep after one rate or after all
rates of the first seed; shares are of the functions seen so far that pass the filters. What it spends is the optimizer steps and the
seconds of the stages that were entered, over those of giving every function the whole training. The shares are chosen on the
first half of the table: within a budget of steps those that lose least of its top, the most generous of them. They are judged on the
second half.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import insort
from collections import deque
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from build_table import BASELINES, PAIRS, SWEEP, read

from evosearch.job import Result
from evosearch.judging.baselines import QUALITY_BAR
from evosearch.judging.objectives import direction
from evosearch.search.scale import CLIP, Scale, freeze, promote_bar

BUDGET = 0.15  # of the optimizer steps of giving all functions the whole training
WINDOW = 16  # as in a search: a function is judged by the results up to so many before it
RATE = 0.5  # of the quality test: the second of the table's two rates costs more than it tells
BARRED = PAIRS[:2]  # the deep plain network without activations beats ReLU: a bar between the two would be no bar
SHARE = 0.05  # of the functions that is worth finding
SHARES = {"quick": (0.35, 0.4, 0.45), "quality": (0.2, 0.22, 0.24, 0.26), "first_rate": (0.14, 0.15, 0.17, 0.19), "first_seed": (0.08, 0.09, 0.1, 0.11, 0.12)}
STAGES = (*SHARES, "seeds")
STEPS = {"quick": 40, "quality": 100, "first_rate": 200, "first_seed": 200 * (len(SWEEP) - 1), "seeds": 200 * 7}  # of each pair
WHOLE = STEPS["first_rate"] + STEPS["first_seed"] + STEPS["seeds"]


@dataclass(frozen=True)
class Function:
    """One row of the table: what each test says of it (standardized means, None where training broke), and what each stage costs."""

    text: str
    passes: bool  # the filters
    above: bool  # the quality bar of the pairs that have one
    means: dict[str, float | None]
    seconds: dict[str, float]


def scale_of(baselines: list[Result]) -> Scale:
    """The scale that a search with these baselines would freeze, of every stage."""
    if len(baselines) < len(BASELINES):
        sys.exit("the table has not all baselines yet; let build_table.py finish")
    scores = {BASELINES[r.index]: early_scores(r) | {k: v for k, v in r.scores.items() if k.startswith("full:")} for r in baselines}
    return freeze(scores, {pair: direction(pair) for pair in PAIRS}, *QUALITY_BAR["act"])


def early_scores(row: Result) -> dict[str, float]:
    """Scores of the quick and the quality test by the names that a search gives them."""
    quick = {f"quick:{p}:0": row.scores[f"quick:{p}"] for p in PAIRS if f"quick:{p}" in row.scores}
    return quick | {f"quality:{p}:0": row.scores[f"quality:{p}:{RATE:g}"] for p in PAIRS if f"quality:{p}:{RATE:g}" in row.scores}


def function_of(row: Result, last: Result | None, scale: Scale) -> Function:
    scores = early_scores(row) | {f"first_rate:{p}:0": row.scores[f"full:{p}:0"] for p in PAIRS if f"full:{p}:0" in row.scores}
    for p in PAIRS if last is not None else ():
        swept = [value for key, value in last.scores.items() if key.startswith(f"sweep:{p}:")]
        scores |= {f"first_seed:{p}:0": max(swept, key=lambda v: direction(p) * v)} if swept else {}

    def mean(stage: str) -> float | None:
        on = stage if stage in ("quick", "quality") else "full"
        values = [scale.standardized(on, p, scores[f"{stage}:{p}:0"], direction(p)) for p in PAIRS if f"{stage}:{p}:0" in scores]
        return fmean(values) if len(values) == len(PAIRS) else None

    above = all(direction(p) * (scores.get(f"quality:{p}:0", -math.inf * direction(p)) - scale.quality[p]) >= 0 for p in BARRED)
    step = sum(row.seconds.get(f"full:{p}", 0.0) for p in PAIRS) / (200 * 2)  # the table's full stage: two seeds of 200 steps
    seconds = {stage: step * STEPS[stage] for stage in STAGES[2:]} | {"filters": row.seconds.get("numeric", 0.0)}
    seconds |= {"quick": sum(row.seconds.get(f"quick:{p}", 0.0) for p in PAIRS), "quality": sum(row.seconds.get(f"quality:{p}", 0.0) for p in PAIRS) / 2}
    return Function(row.candidate, row.reason is None, above, {stage: mean(stage) for stage in SHARES}, seconds)


def eventual_top(last: dict[str, Result], texts: list[str], scale: Scale) -> set[str]:
    """The best `SHARE` of the functions by the last stage: mean over the pairs of the standardized mean test score, as a search ranks."""
    ranked = {}
    for text in texts:
        if text in last and all(f"toptest:{p}:{s}" in last[text].scores for p in PAIRS for s in range(8)):
            means = {p: fmean(last[text].scores[f"toptest:{p}:{s}"] for s in range(8)) for p in PAIRS}
            ranked[text] = fmean(scale.standardized("full", p, means[p], direction(p)) for p in PAIRS)
    return set(sorted(ranked, key=lambda t: -ranked[t])[: round(SHARE * len(texts))])


@dataclass
class Spending:
    """Who reaches the last stage, what each stage took, and how many entered it; `unknown` are those that the table did not follow so far."""

    reached: set[str]
    seconds: float
    entered: dict[str, int]
    unknown: int


def replay(functions: list[Function], last: dict[str, Result], shares: tuple[float, ...]) -> Spending:
    """The funnel over the functions in their order."""
    means: dict[str, list[float]] = {stage: [] for stage in SHARES}
    waiting: deque[dict[str, float]] = deque()
    found = Spending(set(), sum(f.seconds["filters"] for f in functions), dict.fromkeys(STAGES, 0), 0)
    for f in functions:
        if not f.passes:
            continue
        bars = {stage: promote_bar(means[stage], share) for stage, share in zip(SHARES, shares, strict=True)}
        told = dict.fromkeys(SHARES, -CLIP)  # what does not get so far counts as the worst
        goes_on = True
        for stage in STAGES:
            found.entered[stage] += 1
            found.seconds += f.seconds[stage]
            if stage == "seeds":
                found.reached.add(f.text)
                break
            found.unknown += stage == "first_seed" and f.text not in last
            mean = f.means[stage]
            told[stage] = -CLIP if mean is None else mean
            goes_on = mean is not None and mean >= bars[stage] and (stage != "quality" or f.above)
            if not goes_on:
                break
        waiting.append(told)
        if len(waiting) == WINDOW:
            for stage, mean in waiting.popleft().items():
                insort(means[stage], mean)
    return found


def steps(functions: list[Function], spending: Spending) -> float:
    """The optimizer steps that were taken, over those of giving every function the whole training."""
    return sum(STEPS[stage] * n for stage, n in spending.entered.items()) / (WHOLE * len(functions))


def choose(functions: list[Function], last: dict[str, Result], top: set[str]) -> tuple[float, ...]:
    """Of the shares that spend at most `BUDGET` of the steps on these functions, those that lose least of their top; of those the most generous."""

    def loss(shares: tuple[float, ...]) -> tuple[bool, int, float]:
        spending = replay(functions, last, shares)
        taken = steps(functions, spending)
        return taken > BUDGET, len(top - spending.reached), -taken

    return min(product(*SHARES.values()), key=loss)


def show(name: str, functions: list[Function], last: dict[str, Result], top: set[str], shares: tuple[float, ...]) -> None:
    spending = replay(functions, last, shares)
    wanted = top & {f.text for f in functions}
    passing = sum(f.passes for f in functions)
    taken = steps(functions, spending)
    whole = sum(f.seconds["filters"] + sum(f.seconds[stage] for stage in STAGES[2:]) for f in functions)
    print(f"{name}: shares {', '.join(f'{s:g}' for s in shares)}: {len(wanted & spending.reached)} of {len(wanted)} of the eventual top reach the last stage")
    print(f"  optimizer steps {taken:.3f} of the whole training of all, {taken * len(functions) / passing:.3f} of that of those that pass the filters;", end="")
    print(f" seconds {spending.seconds / whole:.3f}; entered: {', '.join(f'{stage} {n}' for stage, n in spending.entered.items())}")
    if spending.unknown:
        print(f"  {spending.unknown} got as far as the sweep and have none in the table: they count as stopped there")
    for text in sorted(wanted - spending.reached)[:10]:
        print(f"  lost: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    chosen = parser.parse_args()
    rows = sorted(read(chosen.table / "results.jsonl"), key=lambda r: r.index)
    last = {r.candidate: r for r in read(chosen.table / "top.jsonl")}
    scale = scale_of(read(chosen.table / "baselines.jsonl"))
    functions = [function_of(r, last.get(r.candidate), scale) for r in rows]
    top = eventual_top(last, [f.text for f in functions], scale)
    print(f"{len(functions)} functions, {sum(f.passes for f in functions)} pass the filters; {len(last)} have the last stage; the eventual top has {len(top)}")
    half = len(functions) // 2
    first, second = functions[:half], functions[half:]
    shares = choose(first, last, top & {f.text for f in first})
    show("first half, chosen", first, last, top, shares)
    show("second half, judged", second, last, top, shares)
    show("whole table", functions, last, top, shares)


if __name__ == "__main__":
    main()
