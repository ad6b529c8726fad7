"""What the funnel keeps and what it spends, replayed on the open table, where every stage's outcome of every function is known.

    python scripts/build_table.py --out tables/27x7          # once, some core-hours
    python scripts/replay_funnel.py tables/27x7

The eventual top are the best 5 % of the functions by the last stage (three rates, eight seeds, three pairs), by the mean of their
standardized test scores. The funnel goes through the table in its random order with the rules of a search (`search.scale`): a
function stops at the filters, below the share to keep of the quick test, below the quality bar, below the promoted share, or
below the share to keep after the first seed; shares are of the functions seen so far that pass the filters. What it spends is the
seconds and the optimizer steps of the stages that were entered, over those of giving every function that passes the filters
both last stages. The shares are chosen on the first half of the table: within a quarter of the steps those that lose least of its
top, the most generous of them. They are judged on the second half.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import insort
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from build_table import BASELINES, PAIRS, SWEEP, read

from evosearch.job import Result
from evosearch.judging.baselines import QUALITY_BAR
from evosearch.judging.objectives import direction
from evosearch.search.scale import CLIP, Scale, freeze, promote_bar

BUDGET = 0.24  # of the optimizer steps: a quarter, with some room for what the other half of the table may bring
RATE = 0.5  # of the quality test: the second of the table's two rates costs more than it tells
BARRED = PAIRS[:2]  # the deep plain network without activations beats ReLU: a bar between the two would be no bar
SHARE = 0.05  # of the functions that is worth finding
SHARES = {"quick": (0.35, 0.38, 0.4, 0.42, 0.45, 0.5), "quality": (0.14, 0.16, 0.18, 0.2, 0.22, 0.25), "first": (0.12, 0.14, 0.16, 0.18, 0.2, 1.0)}
STAGES = ("quick", "quality", "first", "seeds")
STEPS = {"quick": 40, "quality": 100, "first": 200 * len(SWEEP), "seeds": 200 * 7}  # of each pair
FULL = STEPS["first"] + STEPS["seeds"]


@dataclass(frozen=True)
class Function:
    """One row of the table: what each test says of it (standardized means, None where training broke), and what each stage costs."""

    text: str
    passes: bool  # the filters
    above: bool  # the quality bar of the pairs that have one
    means: dict[str, float | None]
    seconds: dict[str, float]


def early_scores(row: Result) -> dict[str, float]:
    """Scores of the quick and the quality test by the names that a search gives them."""
    found = {}
    for pair in PAIRS:
        if f"quick:{pair}" in row.scores:
            found[f"quick:{pair}:0"] = row.scores[f"quick:{pair}"]
        if f"quality:{pair}:{RATE:g}" in row.scores:
            found[f"quality:{pair}:0"] = row.scores[f"quality:{pair}:{RATE:g}"]
    return found


def scale_of(baselines: list[Result]) -> Scale:
    """The scale that a search with these baselines would freeze, of every stage."""
    if len(baselines) < len(BASELINES):
        sys.exit("the table has not all baselines yet; let build_table.py finish")
    scores = {BASELINES[r.index]: early_scores(r) | {k: v for k, v in r.scores.items() if k.startswith("full:")} for r in baselines}
    return freeze(scores, {pair: direction(pair) for pair in PAIRS}, *QUALITY_BAR["act"])


def function_of(row: Result, scale: Scale) -> Function:
    scores = early_scores(row) | {f"first:{p}:0": row.scores[f"full:{p}:0"] for p in PAIRS if f"full:{p}:0" in row.scores}

    def mean(stage: str) -> float | None:
        on = "full" if stage == "first" else stage
        values = [scale.standardized(on, p, scores[f"{stage}:{p}:0"], direction(p)) for p in PAIRS if f"{stage}:{p}:0" in scores]
        return fmean(values) if len(values) == len(PAIRS) else None

    above = all(direction(p) * (scores.get(f"quality:{p}:0", -math.inf * direction(p)) - scale.quality[p]) >= 0 for p in BARRED)
    step = sum(row.seconds.get(f"full:{p}", 0.0) for p in PAIRS) / (200 * 2)  # the table's full stage: two seeds of 200 steps
    seconds = {"filters": row.seconds.get("numeric", 0.0), "first": step * STEPS["first"], "seeds": step * STEPS["seeds"]}
    seconds |= {"quick": sum(row.seconds.get(f"quick:{p}", 0.0) for p in PAIRS), "quality": sum(row.seconds.get(f"quality:{p}", 0.0) for p in PAIRS) / 2}
    return Function(row.candidate, row.reason is None, above, {stage: mean(stage) for stage in STAGES[:-1]}, seconds)


def eventual_top(last: dict[str, Result], texts: list[str], scale: Scale) -> set[str]:
    """The best `SHARE` of the functions by the last stage: mean over the pairs of the standardized mean test score, as a search ranks."""
    ranked = {}
    for text in texts:
        if text in last and all(f"toptest:{p}:{s}" in last[text].scores for p in PAIRS for s in range(8)):
            means = {p: fmean(last[text].scores[f"toptest:{p}:{s}"] for s in range(8)) for p in PAIRS}
            ranked[text] = fmean(scale.standardized("full", p, means[p], direction(p)) for p in PAIRS)
    return set(sorted(ranked, key=lambda t: -ranked[t])[: round(SHARE * len(texts))])


def replay(functions: list[Function], shares: tuple[float, ...]) -> tuple[set[str], dict[str, float], dict[str, int]]:
    """Who reaches the last stage, the seconds of each stage, and how many entered it."""
    means: dict[str, list[float]] = {stage: [0.0] for stage in STAGES[:-1]}  # the baselines' median begins them, as in a search
    seconds = dict.fromkeys(("filters", *STAGES), 0.0)
    entered, reached = dict.fromkeys(STAGES, 0), set()
    for f in functions:
        seconds["filters"] += f.seconds["filters"]
        if not f.passes:
            continue
        bars = {stage: promote_bar(means[stage], share) for stage, share in zip(means, shares, strict=True)}
        goes_on = True
        for stage in STAGES:
            if goes_on:
                seconds[stage] += f.seconds[stage]
                entered[stage] += 1
            if stage == "seeds":
                break
            mean = f.means[stage] if goes_on else None
            insort(means[stage], -CLIP if mean is None else mean)
            goes_on = mean is not None and mean >= bars[stage] and (stage != "quality" or f.above)
        if goes_on:
            reached.add(f.text)
    return reached, seconds, entered


def spent(functions: list[Function], seconds: dict[str, float], entered: dict[str, int]) -> tuple[float, float]:
    """What the funnel spends over giving everything that passes the filters both last stages: of seconds, and of optimizer steps."""
    passing = [f for f in functions if f.passes]
    whole = sum(f.seconds["filters"] + f.seconds["first"] + f.seconds["seeds"] for f in passing)
    return sum(seconds.values()) / whole, sum(STEPS[stage] * n for stage, n in entered.items()) / (FULL * len(passing))


def choose(functions: list[Function], top: set[str]) -> tuple[float, ...]:
    """Of the shares that spend at most `BUDGET` of the steps on these functions, those that lose least of their top; of those the most generous."""

    def loss(shares: tuple[float, ...]) -> tuple[bool, int, float]:
        reached, seconds, entered = replay(functions, shares)
        steps = spent(functions, seconds, entered)[1]
        return steps > BUDGET, len(top - reached), -steps

    return min(product(*SHARES.values()), key=loss)


def show(name: str, functions: list[Function], top: set[str], shares: tuple[float, ...]) -> None:
    reached, seconds, entered = replay(functions, shares)
    wanted = top & {f.text for f in functions}
    of_seconds, of_steps = spent(functions, seconds, entered)
    print(f"{name}: shares {', '.join(f'{s:g}' for s in shares)}: {len(wanted & reached)} of {len(wanted)} of the eventual top reach the last stage; ", end="")
    print(f"{of_seconds:.3f} of the seconds, {of_steps:.3f} of the steps; entered: {', '.join(f'{stage} {n}' for stage, n in entered.items())}")
    for text in sorted(wanted - reached)[:10]:
        print(f"  lost: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    chosen = parser.parse_args()
    rows = read(chosen.table / "results.jsonl")
    rows.sort(key=lambda r: r.index)
    last = {r.candidate: r for r in read(chosen.table / "top.jsonl")}
    scale = scale_of(read(chosen.table / "baselines.jsonl"))
    functions = [function_of(r, scale) for r in rows]
    top = eventual_top(last, [f.text for f in functions], scale)
    print(f"{len(functions)} functions, {sum(f.passes for f in functions)} pass the filters; {len(last)} have the last stage; the eventual top has {len(top)}")
    half = len(functions) // 2
    first, second = functions[:half], functions[half:]
    shares = choose(first, top & {f.text for f in first})
    show("first half, chosen", first, top, shares)
    show("second half, judged", second, top, shares)
    show("whole table", functions, top, shares)


if __name__ == "__main__":
    main()
