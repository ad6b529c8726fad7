"""Do training-free scores rank activation functions, one by one or combined? Spearman against the measured score, on three tasks.

    python scripts/rank_known.py [--workers 2]          # about 3 minutes on two cores; prints the first table of docs/rank_known.md
    python scripts/rank_known.py combine                # the second: weights fitted on two tasks, asked about the third

With `--measurements FILE` what was measured is kept in FILE, and read from it where it is there.

Twenty known functions. Measured: validation score after 200 steps at three learning rates, the best rate on the first seed, mean
of three seeds. Scores: mean of three seeds at initialization, one batch of 64. The interval is the 2.5 to 97.5 % range over
2,000 bootstrap draws of the functions; where it holds 0, the score says nothing about that task.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from scipy.stats import spearmanr

from evosearch.compiler.module import compile_graph
from evosearch.judging import proxies
from evosearch.judging.objectives import direction
from evosearch.judging.train import NonFinite, train
from evosearch.language.library import known
from evosearch.search.combine import TRIALS, Ranked, combine, fit_weights, spearman

PAIRS = ("textures/plain-cnn", "photo/inr", "digits/deep-mlp")
FUNCTIONS = (
    "identity", "relu", "leaky_relu", "relu6", "squared_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "softplus", "squareplus",
    "tanh", "softsign", "hardtanh", "sigmoid", "sine", "snake", "gaussian",
)  # fmt: skip
RATES, STEPS, SEEDS, BATCH = (1 / 3, 1.0, 3.0), 200, 3, 64


def measure(pair: str, name: str) -> dict[str, float]:
    """The measured score (higher is better) and every training-free score of one function on one pair."""
    torch.set_num_threads(1)
    make = partial(compile_graph, known(name).graph)

    def trained(rate: float, seed: int) -> float:
        try:
            return direction(pair) * train(pair, make, seed, rate, STEPS).validation
        except NonFinite:
            return -math.inf

    best = max(RATES, key=lambda rate: trained(rate, 0))
    found = {"measured": fmean(trained(best, seed) for seed in range(SEEDS))}
    drawn = [proxies.measure(pair, make, seed, BATCH) for seed in range(SEEDS)]
    for score in proxies.NAMES:
        found[score] = fmean(d[score] for d in drawn)
    return found


def rank(rows: list[dict[str, float]], score: str) -> tuple[float, float, float, int]:
    """Spearman's rho against the measured score, its bootstrap interval, and the number of functions that have the score."""
    both = np.array([(r["measured"], r[score]) for r in rows if math.isfinite(r[score])])
    if len(both) < 5 or np.ptp(both[:, 1]) == 0:
        return math.nan, math.nan, math.nan, len(both)
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        part = both[generator.integers(len(both), size=len(both))]
        if np.ptp(part[:, 0]) > 0 and np.ptp(part[:, 1]) > 0:
            draws.append(spearmanr(part[:, 0], part[:, 1]).statistic)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(spearmanr(both[:, 0], both[:, 1]).statistic), float(low), float(high), len(both)


def measure_all(workers: int) -> dict[str, dict[str, dict[str, float]]]:
    """`measure` of every function, by pair and name."""
    work = list(product(PAIRS, FUNCTIONS))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = dict(zip(work, pool.map(measure, *zip(*work, strict=True)), strict=True))
    return {pair: {name: found[pair, name] for name in FUNCTIONS} for pair in PAIRS}


def alone(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Prints Spearman's rho of every score on every task."""
    print(f"| score | {' | '.join(PAIRS)} |\n|---|{'---|' * len(PAIRS)}")
    for score in proxies.NAMES:
        cells = []
        for pair in PAIRS:
            rho, low, high, count = rank([found[pair][name] for name in FUNCTIONS], score)
            sure = "**" if low > 0 or high < 0 else ""
            cells.append(f"{sure}{rho:+.2f}{sure} [{low:+.2f}, {high:+.2f}]{'' if count == len(FUNCTIONS) else f' ({count})'}")
        print(f"| `{score}` | {' | '.join(cells)} |")


def ranked(rows: dict[str, dict[str, float]]) -> Ranked:
    """One task's functions as `fit_weights` takes them."""
    return Ranked({s: [rows[name][s] for name in FUNCTIONS] for s in proxies.NAMES}, [rows[name]["measured"] for name in FUNCTIONS])


def leave_out(pair: str, tasks: dict[str, Ranked], trials: int) -> tuple[dict[str, float], str]:
    """The weights fitted on the other tasks, and the row of the table: the combination and the best single score, both on this task."""
    torch.set_num_threads(1)
    others, asked = [task for name, task in tasks.items() if name != pair], tasks[pair]
    weights = fit_weights(others, 0, trials)
    means = {s: fmean(spearman(task.scores[s], task.measured) for task in others) for s in proxies.NAMES}
    best = max(means, key=lambda s: abs(means[s]))
    one = {best: math.copysign(1.0, means[best])}
    fitted = [fmean(spearman(combine(t.scores, w), t.measured) for t in others) for w in (weights, one)]
    values, measured = [combine(asked.scores, w) for w in (weights, one)], np.array(asked.measured)
    generator, draws = np.random.default_rng(0), []
    for _ in range(2000):
        part = generator.integers(len(measured), size=len(measured))
        first, second = (spearman(v[part], measured[part]) for v in values)
        draws.append((first, second, first - second))
    rho = [spearman(v, measured) for v in values]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    cells = [f"{value:+.2f} [{a:+.2f}, {b:+.2f}]" for value, a, b in zip((*rho, rho[0] - rho[1]), low, high, strict=True)]
    sign = "+" if one[best] > 0 else "-"
    return weights, f"| {pair} | {fitted[0]:+.2f} | {cells[0]} | {sign}`{best}` | {fitted[1]:+.2f} | {cells[1]} | {cells[2]} |"


def combined(found: dict[str, dict[str, dict[str, float]]], workers: int, trials: int) -> None:
    """Prints, for each task, what weights that were fitted on the other two are worth there."""
    tasks = {pair: ranked(found[pair]) for pair in PAIRS}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(partial(leave_out, tasks=tasks, trials=trials), PAIRS))
    print(f"{trials} weights tried for each row\n\n| asked about | combined, fitted | combined, asked | best single | fitted | asked | difference, asked |")
    print("|---|---|---|---|---|---|---|\n" + "\n".join(row for _, row in rows) + "\n")
    print(f"| score | {' | '.join(f'without {pair}' for pair in PAIRS)} |\n|---|{'---|' * len(rows)}")
    for score in proxies.NAMES:
        print(f"| `{score}` | {' | '.join(f'{weights[score]:+.2f}' for weights, _ in rows)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("alone", "combine"), default="alone")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measurements", type=Path)
    parser.add_argument("--trials", type=int, default=TRIALS)
    options = parser.parse_args()
    kept = options.measurements
    found = json.loads(kept.read_text()) if kept and kept.exists() else measure_all(options.workers)
    if kept and not kept.exists():
        kept.write_text(json.dumps(found))
    if options.what == "combine":
        combined(found, options.workers, options.trials)
    else:
        alone(found)


if __name__ == "__main__":
    main()
