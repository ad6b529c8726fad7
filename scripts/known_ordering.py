"""Is what is known of activation functions found again? Three orderings of the literature, measured with this project's judge.

    python scripts/known_ordering.py [--seeds 8] [--workers 2]       # about 4 minutes on two cores

- SELU over ReLU in a deep plain network (arXiv 1706.02515): digits on a 12-layer MLP without normalization.
- sine over ReLU by 3 dB or more in an implicit representation (arXiv 2006.09661): a photograph from coordinates.
- Snake over ReLU when a periodic series is continued beyond what was seen (arXiv 2006.08195).

Everyone gets three learning rates on the first seed and trains at the best of them on all seeds. The intervals are Student's,
95 %, of the mean test score; an ordering holds when they do not overlap. Exit code 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import sys

from evosearch.evaluation import Measured, evaluate_formula
from evosearch.judging.objectives import direction, unit

ORDERINGS = (  # pair, better, worse, least gap in the pair's unit, steps
    ("digits/deep-mlp", "selu", "relu", 0.0, 200),
    ("photo/inr", "sine", "relu", 3.0, 400),
    ("series/mlp", "snake", "relu", 0.0, 600),
)


def holds(better: Measured, worse: Measured, least: float) -> bool:
    """Whether the two intervals are apart on the right side, and the means by `least`."""
    sign = direction(better.pair)
    gap = sign * (better.mean - worse.mean)
    return gap - better.half - worse.half > 0 and gap >= least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    print("| pair | better | worse | gap | holds |\n|---|---|---|---|---|")
    all_hold = True
    for pair, name, other, least, steps in ORDERINGS:
        found = evaluate_formula(name, [other], [pair], seeds=chosen.seeds, steps=steps, workers=chosen.workers)
        by_name = {m.name: m for m in found.measured}
        first, second = by_name[name], by_name[other]
        good = holds(first, second, least)
        all_hold &= good
        cells = [f"{m.name} {m.mean:.3f} +- {m.half:.3f}" for m in (first, second)]
        gap = f"{abs(first.mean - second.mean):.3f} {unit(pair)}" + (f" (at least {least:g})" if least else "")
        print(f"| {pair}, {steps} steps | {cells[0]} | {cells[1]} | {gap} | {'yes' if good else 'NO'} |", flush=True)
    sys.exit(not all_hold)


if __name__ == "__main__":
    main()
