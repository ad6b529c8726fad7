"""Tunes a and b of a*f(b*x) for ReLU, GELU, tanh and sine: the strong baselines of every search.

    python scripts/tune_baselines.py            # about 3 minutes on one core; rewrites evosearch/judging/tuned_baselines.json

Each (a, b) is trained for 100 steps at the tuned rate and three times it, on the default search's quality pairs; the
best by the mean over pairs of the rank-free gain (score - ReLU's) / |ReLU's - identity's| is kept, and the whole table
is written beside it. A learnable rate would hide the same freedom, so no search may call this a discovery.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import product
from pathlib import Path

import torch

from evosearch.compiler.module import compile_graph
from evosearch.judging.objectives import direction
from evosearch.judging.train import NonFinite, train
from evosearch.language.formula import parse

PAIRS = ("textures/plain-cnn", "photo/inr")
FUNCTIONS = {"relu": "relu({})", "gelu": "gelu({})", "tanh": "tanh({})", "sine": "sin({})"}
SCALES, RATES = (0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 3.0)


def measure(formula: str, pair: str) -> float | None:
    """Best validation score over two rates; None where training breaks."""
    make = partial(compile_graph, parse(formula))
    scores = []
    for rate in (1.0, 3.0):
        try:
            scores.append(direction(pair) * train(pair, make, 0, rate, 100).validation)
        except NonFinite:
            continue
    return max(scores) if scores else None


def formula(pattern: str, a: float, b: float) -> str:
    inside = "x" if b == 1 else f"{b:g} * x"
    return pattern.format(inside) if a == 1 else f"{a:g} * {pattern.format(inside)}"


def main() -> None:
    torch.set_num_threads(1)
    trivial = {pair: measure("x", pair) for pair in PAIRS}
    usual = {pair: measure("relu(x)", pair) for pair in PAIRS}
    chosen, table = {}, []
    for name, pattern in FUNCTIONS.items():
        gains = {}
        for a, b in product(SCALES, RATES):
            text = formula(pattern, a, b)
            scores = {pair: measure(text, pair) for pair in PAIRS}
            if all(score is not None for score in scores.values()):
                gains[text] = sum((scores[p] - usual[p]) / abs(usual[p] - trivial[p]) for p in PAIRS) / len(PAIRS)
                table.append({"formula": text, "scores": scores, "gain": round(gains[text], 4)})
        chosen[f"tuned_{name}"] = max(gains, key=lambda text: gains[text])
        print(f"tuned_{name}: {chosen[f'tuned_{name}']}", flush=True)
    path = Path(__file__).parent.parent / "evosearch" / "judging" / "tuned_baselines.json"
    data = {"made_by": "python scripts/tune_baselines.py", "torch": torch.__version__, "formulas": chosen, "table": table}
    path.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
