"""Do training-free scores rank activation functions? Spearman of every score against the measured one, on three tasks.

    python scripts/rank_known.py [--workers 2]          # about 3 minutes on two cores; prints the table of docs/rank_known.md

Twenty known functions. Measured: validation score after 200 steps at three learning rates, the best rate on the first seed, mean
of three seeds. Scores: mean of three seeds at initialization, one batch of 64. The interval is the 2.5 to 97.5 % range over
2,000 bootstrap draws of the functions; where it holds 0, the score says nothing about that task.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from statistics import fmean

import numpy as np
import torch
from scipy.stats import spearmanr

from evosearch.compiler.module import compile_graph
from evosearch.judging import proxies
from evosearch.judging.objectives import direction
from evosearch.judging.train import NonFinite, train
from evosearch.language.library import known

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    work = list(product(PAIRS, FUNCTIONS))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = dict(zip(work, pool.map(measure, *zip(*work, strict=True)), strict=True))
    print(f"| score | {' | '.join(PAIRS)} |\n|---|{'---|' * len(PAIRS)}")
    for score in proxies.NAMES:
        cells = []
        for pair in PAIRS:
            rho, low, high, count = rank([found[pair, name] for name in FUNCTIONS], score)
            sure = "**" if low > 0 or high < 0 else ""
            cells.append(f"{sure}{rho:+.2f}{sure} [{low:+.2f}, {high:+.2f}]{'' if count == len(FUNCTIONS) else f' ({count})'}")
        print(f"| `{score}` | {' | '.join(cells)} |")
    print("\nmeasured: " + json.dumps({pair: {n: round(found[pair, n]["measured"], 3) for n in FUNCTIONS} for pair in PAIRS}), file=sys.stderr)


if __name__ == "__main__":
    main()
