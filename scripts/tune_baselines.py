"""Tunes a and b of a*f(b*x) for ReLU, GELU, tanh and sine: the strong baselines of every search.

    python scripts/tune_baselines.py            # about 3 minutes on one core; rewrites evosearch/judging/tuned_baselines.json

Each (a, b) is trained for 100 steps at two rates on every search pair of the default search. A candidate is one formula
for all pairs, so the (a, b) with the best mean standardized score is kept: centered and scaled by the plain baselines as
in a run, clipped at +-3, so that one pair where the function shines cannot pay for another where it breaks. The best
(a, b) of each task alone and every score are written beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean

import torch

from evosearch.compiler.module import compile_graph
from evosearch.judging.objectives import direction
from evosearch.judging.train import NonFinite, train
from evosearch.language.formula import parse
from evosearch.language.library import known
from evosearch.search.scale import CLIP, Scale, freeze

PAIRS = ("textures/plain-cnn", "textures/resnet", "photo/inr")
PLAIN = ("identity", "relu", "gelu", "silu", "mish", "selu", "tanh", "sine", "snake", "squared_relu")
FUNCTIONS = {"relu": "relu({})", "gelu": "gelu({})", "tanh": "tanh({})", "sine": "sin({})"}
OUTSIDE, INSIDE, RATES, STEPS = (0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 3.0), (0.5, 1.5), 100


def measure(formula: str) -> dict[str, float]:
    """Best validation score over the rates, by pair; a pair where training breaks at every rate is left out."""
    make = partial(compile_graph, parse(formula))
    found: dict[str, float] = {}
    for pair, rate in product(PAIRS, RATES):
        try:
            score = train(pair, make, 0, rate, STEPS).validation
        except NonFinite:
            continue
        if pair not in found or direction(pair) * (score - found[pair]) > 0:
            found[pair] = score
    return found


def standardized(scores: Mapping[str, float], scale: Scale) -> dict[str, float]:
    """Each pair's score on the scale of the plain baselines; the worst there is where training broke."""
    return {p: scale.standardized("quality", p, scores[p], direction(p)) if p in scores else -CLIP for p in PAIRS}


def formula(pattern: str, a: float, b: float) -> str:
    """`a * f(b * x)` without factors of one."""
    inside = "x" if b == 1 else f"{b:g} * x"
    return pattern.format(inside) if a == 1 else f"{a:g} * {pattern.format(inside)}"


def main() -> None:
    torch.set_num_threads(1)
    plain = {name: measure(known(name).formula) for name in PLAIN}
    keyed = {name: {f"quality:{pair}:0": score for pair, score in scores.items()} for name, scores in plain.items()}
    scale = freeze(keyed, {pair: direction(pair) for pair in PAIRS})
    chosen, per_pair, table = {}, {}, []
    for name, pattern in FUNCTIONS.items():
        scores = {text: measure(text) for text in (formula(pattern, a, b) for a, b in product(OUTSIDE, INSIDE))}
        points = {text: standardized(found, scale) for text, found in scores.items()}
        means = {text: fmean(point.values()) for text, point in points.items()}
        chosen[f"tuned_{name}"] = max(means, key=lambda text, means=means: means[text])
        per_pair[name] = {
            pair: max((text for text in scores if pair in scores[text]), key=lambda text, p=pair, s=scores: direction(p) * s[text][p]) for pair in PAIRS
        }
        table += [{"formula": text, "scores": found, "mean": round(means[text], 4)} for text, found in scores.items()]
        print(f"tuned_{name}: {chosen[f'tuned_{name}']}   alone: {per_pair[name]}", flush=True)
    path = Path(__file__).parent.parent / "evosearch" / "judging" / "tuned_baselines.json"
    data = {
        "made_by": "python scripts/tune_baselines.py", "torch": torch.__version__, "steps": STEPS, "rates": RATES,
        "formulas": chosen, "best_by_pair": per_pair, "plain": plain, "table": table,
    }  # fmt: skip
    path.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
