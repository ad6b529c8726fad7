"""What a proposal costs when much is known: the median milliseconds of an ask, of a tell, at so many told results.

    python scripts/bench_proposing.py [--told 5000] [--asks 40] [--space activation.yaml]

The results are random functions of the space with random scores; a tenth of them failed.
"""

from __future__ import annotations

import argparse
import random
import time
from statistics import median, quantiles

from evosearch.config import load
from evosearch.proposers import Outcome
from evosearch.proposers.registry import PROPOSERS, make_portfolio, make_proposer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--told", type=int, default=5000)
    parser.add_argument("--asks", type=int, default=40)
    parser.add_argument("--space", default="activation.yaml")
    parser.add_argument("--proposers", nargs="+", default=[*PROPOSERS, "portfolio"])
    chosen = parser.parse_args()
    config = load(chosen.space)
    space = config.space.space()
    rng = random.Random(0)
    outcomes = []
    for k in range(chosen.told + chosen.asks):
        score = rng.gauss(0, 1)
        scores = {"mean": score, "worst": score - 1, "complexity": -float(k % 50), "saved_per_element": -1.0}
        outcomes.append(Outcome(k, str(space.sample(rng)), "random", "ok" if rng.random() > 0.1 else "nonfinite", scores))
    print(f"{chosen.space}, {chosen.told} told\n| proposer | ask, median ms | ask, 95 % ms | tell, median ms |\n|---|---|---|---|")
    for name in chosen.proposers:
        proposer = make_portfolio(config.proposers, space, by_earnings=True) if name == "portfolio" else make_proposer(name, space)
        tells, asks = [], []
        for outcome in outcomes[: chosen.told]:
            start = time.perf_counter()
            proposer.tell(outcome)
            tells.append(time.perf_counter() - start)
        for k, outcome in enumerate(outcomes[chosen.told :]):
            proposer.tell(outcome)  # as in a search: what a proposer works out of all that it knows is part of the next ask
            start = time.perf_counter()
            proposer.ask(random.Random(k))
            asks.append(time.perf_counter() - start)
        print(f"| {name} | {1e3 * median(asks):.2f} | {1e3 * quantiles(asks, n=20)[-1]:.2f} | {1e3 * median(tells):.2f} |", flush=True)


if __name__ == "__main__":
    main()
