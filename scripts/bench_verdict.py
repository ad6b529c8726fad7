"""Size and power of the verdict: how often nothing is called better, and how often something is.

    python scripts/bench_verdict.py size [--searches 1000]                             # some minutes
    python scripts/bench_verdict.py power [--repeats 20]                               # about 6 minutes on two cores

size: searches are replayed on a table whose scores are permuted, so that no function is better than another, with this project's
own scale, pick and comparison: 150 functions, 13 of them baselines; the pick against five of them on four unseen pairs with three
seeds. Two nulls: `seeds`, every score is permuted by itself; `pairs`, a function keeps its seeds together within a pair, so that
it is truly better on some pairs and worse on others, and on none by plan. Printed: the share of searches with any false "better".

power: sine against ReLU on `photo` must be called better, ReLU(3x) against ReLU must not (it is a rescaled ReLU, and the rates are
swept), each time on fresh seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evosearch.benchmarks import load
from evosearch.evaluation import evaluate_formula
from evosearch.judging.objectives import direction
from evosearch.language.formula import parse
from evosearch.meaning.facts import novelty
from evosearch.search.pick import contestants, pick
from evosearch.search.scale import freeze, standardize
from evosearch.search.verdict import compare

Scores = NDArray[np.float64]
FUNCTIONS, BASELINES, SEEDS = 150, 13, 3
FINAL_PAIRS = 4


def table_scores() -> dict[str, Scores]:
    """Per pair the scores `(functions, 2)` of two seeds in the open table, of functions that finished everywhere."""
    table = load("activations-27x7")
    scores = np.array([[table.column(f"full:{p}:{s}") for s in (0, 1)] for p in table.pairs], float)  # (pairs, seeds, functions)
    whole = scores[:, :, ~np.isnan(scores).any((0, 1))]
    return {pair: whole[i].T for i, pair in enumerate(table.pairs)}


def draw(table: dict[str, Scores], together: bool, count: int, seeds: int, rng: np.random.Generator) -> dict[str, Scores]:
    """Scores `(count, seeds)` per pair of functions that differ by luck alone."""
    found = {}
    for pair, scores in table.items():
        if together:  # two seeds of one function, and the gap between them once more for the third
            rows = scores[rng.integers(len(scores), size=count)]
            noise = (scores[:, 0] - scores[:, 1])[rng.integers(len(scores), size=(count, seeds))] / np.sqrt(2)
            found[pair] = rows.mean(1, keepdims=True) + noise
        else:
            found[pair] = scores.ravel()[rng.integers(scores.size, size=(count, seeds))]
    return found


def false_better(table: dict[str, Scores], together: bool, rng: np.random.Generator) -> tuple[bool, bool]:
    """One null search: whether its pick led the search, and whether it was called better than any contestant."""
    names = ["identity", "relu", *(f"b{i}" for i in range(BASELINES - 2)), *(f"f{i}" for i in range(FUNCTIONS - BASELINES))]
    directions = {pair: direction(pair) for pair in table}
    searched = draw(table, together, FUNCTIONS, 2, rng)
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        scores = {f"{stage}:{p}:{s}": float(searched[p][i, s]) for p in table for stage, s in (("quality", 0), ("full", 0), ("full", 1))}
        rows.append(
            {"index": i, "candidate": name, "proposer": "baseline" if i < BASELINES else "random", "status": "ok", "stage": "full", "scores": scores,
             "objectives": {"complexity": 5.0 + i % 9, "saved_per_element": 1.0}}
        )  # fmt: skip
    scale = freeze({row["candidate"]: row["scores"] for row in rows[:BASELINES]}, directions)
    for row in rows:
        row["objectives"] |= standardize(row, scale, directions)
    chosen = pick(rows, scale)
    checked = contestants(rows, chosen, "relu")
    finals, pairs = [], {}
    for k in range(FINAL_PAIRS):
        pair = sorted(table)[k % len(table)]
        fresh, shown = draw({pair: table[pair]}, together, len(checked), SEEDS, rng)[pair], f"{k}-{pair}"
        pairs[shown] = directions[pair]
        for i, name in enumerate(checked):
            finals.append({"candidate": name, "stage": "final", "status": "ok", "scores": {f"final:{shown}:{s}": float(fresh[i, s]) for s in range(SEEDS)}})
    tried = sum(1 for row in rows if row["proposer"] != "baseline") // 10
    found = compare(finals, checked[0], {name: name for name in checked}, pairs, tried)
    return bool(chosen and chosen.leads), any(c.verdict == "better" for c in found)


def size(table: dict[str, Scores], searches: int) -> None:
    for together in (False, True):
        rng = np.random.default_rng(0)
        led, wrong = np.array([false_better(table, together, rng) for _ in range(searches)]).mean(0)
        null = "pairs" if together else "seeds"
        print(f"null `{null}`: {searches} searches, the pick led in {100 * led:.0f} %, false better in {100 * wrong:.2f} % (at most 5 %)", flush=True)


def power(repeats: int) -> None:
    cases: list[tuple[str, str, Callable[[int], bool]]] = [
        ("sine", "relu", lambda better: better >= round(0.95 * repeats)), ("relu(3 * x)", "relu", lambda better: better == 0),
    ]  # fmt: skip
    for text, against, good in cases:
        better = 0
        for k in range(repeats):
            (comparison,) = evaluate_formula(text, [against], ["photo/inr"], seeds=5, steps=200, first_seed=2000 + 100 * k).comparisons
            better += comparison.verdict == "better"
        label = novelty(parse(text)).label if "(" in text else "known"
        word = "as it should" if good(better) else "NOT AS IT SHOULD"
        print(f"{text} ({label}) against {against} on photo/inr: better in {better} of {repeats}: {word}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("size", "power"))
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    if chosen.what == "power":
        power(chosen.repeats)
    else:
        size(table_scores(), chosen.searches)


if __name__ == "__main__":
    main()
