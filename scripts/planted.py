"""Do proposers find a layer that they are led to? The score is the closeness to a hidden layer, and nothing else is known.

    python scripts/planted.py                                            # all targets, 10 seeds, genetic and portfolio against random
    python scripts/planted.py --targets silu --proposers genetic --seeds 3

Activations are searched in search_spaces/activation.yaml without the operators that are activations themselves, layers that
normalize in search_spaces/evonorm.yaml. A candidate is an evaluation when the driver's screen lets it through, so a function counts
once. The target is reached when the outputs differ by less than 1 % of their spread, on a fixed grid or tensor. Random search gets five
times the evaluations; a seed that does not reach the target counts as its whole budget.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from statistics import median

import numpy as np

from evosearch.config import load
from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.formula import parse
from evosearch.language.graph import Graph
from evosearch.meaning.facts import complexity
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.screen import Screen
from evosearch.proposers import SCREENED, Outcome, Proposer
from evosearch.proposers.registry import make_portfolio, make_proposer
from evosearch.space import SearchSpace

REACHED = 0.01
BUDGETS = {"activation.yaml": 2_000, "evonorm.yaml": 20_000}
PORTFOLIO = {"genetic": 2.0, "bayes": 1.0}
TARGETS = {
    "silu": ("activation.yaml", "x * sigmoid(x)"),
    "gelu": ("activation.yaml", "0.5 * x * (1 + erf(0.70710678 * x))"),
    "snake": ("activation.yaml", "x + square(sin(x))"),
    "bn_relu": ("evonorm.yaml", "max((x + -mean(x, batch)) / std(x, batch), 0)"),
    "evonorm_s0": ("evonorm.yaml", "x * sigmoid(v * x) / std(x, group, groups=8) where v: channel = 1"),
    "evonorm_b0": ("evonorm.yaml", "x / max(std(x, batch), v * x + std(x, instance)) where v: channel = 1"),
}
WHOLE = ("elu", "gelu", "silu", "softplus", "selu", "mish")  # operators that would be the answer


@cache
def space_of(name: str) -> SearchSpace:
    operators = [operator for operator in load(name).space.operators if operator not in WHOLE or name != "activation.yaml"]
    return load(name, [f"space.operators=[{', '.join(operators)}]"]).space.space()


@cache
def inputs(name: str) -> dict[str, np.ndarray]:
    grid = np.linspace(-4.0, 4.0, 161)
    return {"x": grid if name == "activation.yaml" else np.random.default_rng(0).normal(0.3, 1.5, (4, 16, 12))}


def gap(graph: Graph, wanted: np.ndarray, name: str) -> float:
    """The root mean square distance in spreads of the target; infinite for what is not finite."""
    with np.errstate(all="ignore"):
        found = np.broadcast_to(evaluate(graph, inputs(name)), wanted.shape)
        return float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std()) if np.isfinite(found).all() else math.inf


def proposer_of(name: str, space: SearchSpace) -> Proposer:
    return make_portfolio(PORTFOLIO, space, by_earnings=True) if name == "portfolio" else make_proposer(name, space)


def evaluations(proposer_name: str, target: str, seed: int, budget: int) -> tuple[int | None, str]:
    """How many it took, None where the budget did not do; and the nearest that was found."""
    file, text = TARGETS[target]
    space = space_of(file)
    graph = parse(text)
    graph = space.finish(graph) if hasattr(space, "finish") else graph
    wanted = evaluate(graph, inputs(file))
    proposer, screen = proposer_of(proposer_name, space), Screen(space.max_nodes, space.max_parameters)
    done, nearest, best = 0, "", math.inf
    for k in range(20 * budget):
        proposal = proposer.ask(random.Random(f"{seed}/{k}"))
        verdict = screen.check(proposal.candidate)
        if verdict is not None:
            proposer.tell(Outcome(SCREENED, proposal.candidate, proposal.proposer, verdict.status, {}))
            continue
        screen.add(done, proposal.candidate)
        candidate: Candidate = parse_candidate(proposal.candidate)
        distance = gap(candidate.graph, wanted, file)
        done += 1
        if distance < best:
            nearest, best = proposal.candidate, distance
        if distance < REACHED:
            return done, nearest
        if done == budget:
            break
        closeness = -math.log10(max(min(distance, 1e3), 1e-3))
        scores = {"mean": closeness, "worst": closeness, "complexity": -float(complexity(candidate.graph)), "saved_per_element": -1.0}
        proposer.tell(
            Outcome(done - 1, proposal.candidate, proposal.proposer, "ok" if distance < math.inf else "rejected", scores if distance < math.inf else {})
        )
    return None, f"{nearest} (off by {best:.2g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--proposers", nargs="+", default=["genetic", "portfolio", "random"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, help="evaluations of every proposer but random, which gets five times as many")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    print("| target | proposer | reached | median evaluations | found |\n|---|---|---|---|---|")
    with ProcessPoolExecutor(chosen.workers) as pool:
        for target in chosen.targets:
            for name in chosen.proposers:
                budget = (chosen.budget or BUDGETS[TARGETS[target][0]]) * (5 if name == "random" else 1)
                seeds = range(chosen.seeds)
                found = list(pool.map(evaluations, [name] * len(seeds), [target] * len(seeds), seeds, [budget] * len(seeds)))
                counts = [count if count is not None else budget for count, _ in found]
                reached = sum(count is not None for count, _ in found)
                shortest = min((text for count, text in found if (count is not None) == (reached > 0)), key=len)
                print(
                    f"| {target} | {name} | {reached} of {len(found)} | {'>= ' if 2 * reached <= len(found) else ''}{median(counts):g} | `{shortest}` |",
                    flush=True,
                )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
