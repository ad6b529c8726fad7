"""Finds the base learning rate of (task, architecture) pairs: the one that is best for ReLU and GELU together.

    python scripts/tune_rates.py tabular/mlp ood/mlp            # some pairs, or all built-in ones without arguments
    python scripts/tune_rates.py --steps 200 --seeds 3 series/mlp

Every rate of the grid is trained with ReLU and with GELU on the same seeds, and scored on validation; a rate at which
any of them breaks is out. Prints one line a pair: the rate to write into the task's file (`rates=`), a warning where it
is at the end of the grid, and ReLU, GELU and identity at that rate x (1/3, 1, 3), each at its own best: what a search's
contestants will meet. A variant's pair (tabular.wine/mlp) is tuned like its task's; the file has one rate for all.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from statistics import fmean

import torch
from torch import nn

from evosearch.judging.objectives import TASKS, direction, parse_pair, unit
from evosearch.judging.tasks import task
from evosearch.judging.train import NonFinite, train

GRID = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
ROUND = (1 / 3, 1.0, 3.0)  # what every contestant is given in a search
Layer = Callable[[int], nn.Module]
TUNED_BY: tuple[Layer, ...] = (lambda features: nn.ReLU(), lambda features: nn.GELU())
SHOWN: dict[str, Layer] = {"relu": TUNED_BY[0], "gelu": TUNED_BY[1], "identity": lambda features: nn.Identity()}


def mean_score(pair: str, layer: Layer, rate: float, seeds: int, steps: int) -> float:
    """Mean validation score over the seeds at an absolute learning rate; nan where training breaks."""
    named = parse_pair(pair)
    try:
        return fmean(train(pair, layer, seed, rate / task(named.task).rates[named.architecture], steps).validation for seed in range(seeds))
    except NonFinite:
        return math.nan


def tuned(pair: str, seeds: int, steps: int) -> float:
    """The rate with the best mean over ReLU and GELU. Raises ValueError when training breaks at every rate."""
    scores = {rate: fmean(mean_score(pair, layer, rate, seeds, steps) for layer in TUNED_BY) for rate in GRID}
    print(f"  {pair}: " + "  ".join(f"{rate:g}: {score:.4g}" for rate, score in scores.items()), file=sys.stderr, flush=True)
    finite = {rate: score for rate, score in scores.items() if math.isfinite(score)}
    if not finite:
        raise ValueError(f"training {pair} breaks at every rate of {GRID}; is the task itself sound?")
    return max(finite, key=lambda rate: direction(pair) * finite[rate])


def best_score(pair: str, layer: Layer, rate: float, seeds: int, steps: int) -> float:
    """The score, higher is better, at the best of the rates of a search; nan where training breaks at all of them."""
    scores = [direction(pair) * mean_score(pair, layer, rate * factor, seeds, steps) for factor in ROUND]
    return max((score for score in scores if math.isfinite(score)), default=math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", default=[f"{name}/{a}" for name, measure in TASKS.items() for a in measure.architectures])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'pair':28} {'rate':>6} {'relu':>9} {'gelu':>9} {'identity':>9} unit, seconds a run; {chosen.steps} steps, {chosen.seeds} seeds")
    for pair in chosen.pairs:
        rate = tuned(pair, chosen.seeds, chosen.steps)
        start = time.perf_counter()
        best = {name: best_score(pair, layer, rate, chosen.seeds, chosen.steps) for name, layer in SHOWN.items()}
        seconds = (time.perf_counter() - start) / (len(SHOWN) * len(ROUND) * chosen.seeds)
        shown = " ".join(f"{direction(pair) * score:9.3f}" for score in best.values())
        edge = "  AT THE END OF THE GRID" if rate in (GRID[0], GRID[-1]) else ""
        print(f"{pair:28} {rate:6g} {shown} {unit(pair)}, {seconds:.2f} s{edge}", flush=True)


if __name__ == "__main__":
    main()
