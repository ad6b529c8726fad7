"""Do proposers find a layer that they are led to? The score is the closeness to a hidden layer, and nothing else is known.

    python scripts/planted.py                                            # all targets, 10 seeds, genetic and portfolio against random
    python scripts/planted.py --targets silu --proposers genetic --seeds 3

Activations are searched in search_spaces/activation.yaml without the operators that are activations themselves, layers that
normalize in search_spaces/evonorm.yaml; nothing is seeded from the library. A candidate is an evaluation when the driver's screen lets it
through, so a function counts once. Outputs are compared with parameters at their initial values: of an activation as they are, on a grid; of
a layer that ends with a scale and a shift of each channel after the best of both (linear scaling, Keijzer 2003, doi 10.1007/3-540-36599-0_7),
on batches whose channels and samples have means and scales of their own, so that every statistic is another one. The target is reached
when what is left is less than 1 % of its spread, for all proposers alike. Random search gets five times the evaluations, one walk a seed
for all targets of a space, for it learns from none; a seed that does not reach the target counts as its whole budget.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from statistics import median

import numpy as np

from evosearch.config import load
from evosearch.language.candidate import parse_candidate
from evosearch.language.formula import parse
from evosearch.language.graph import Graph
from evosearch.meaning.facts import complexity
from evosearch.meaning.numeric import evaluate
from evosearch.meaning.screen import Screen
from evosearch.proposers import SCREENED, Outcome, Proposal, Proposer
from evosearch.proposers.registry import make_portfolio
from evosearch.space import SearchSpace
from evosearch.space.operators import OperatorSpace

REACHED = 0.01
BUDGET = 10_000
FILES = ("activation.yaml", "evonorm.yaml")
PORTFOLIO = {"surrogate": 0.7, "genetic": 0.2, "bayes": 0.1}
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
def space_of(name: str) -> OperatorSpace:
    operators = [operator for operator in load(name).space.operators if operator not in WHOLE or name != "activation.yaml"]
    found = load(name, [f"space.operators=[{', '.join(operators)}]"]).space.space()
    assert isinstance(found, OperatorSpace)
    return found


@cache
def batches(name: str) -> list[np.ndarray]:
    """What a layer is looked at on: a grid, or batches whose channels and samples have means and scales of their own."""
    if name == "activation.yaml":
        return [np.linspace(-4.0, 4.0, 161)[None]]  # one channel
    rng = np.random.default_rng(0)

    return [_batch(rng) for _ in range(3)]


def _batch(rng: np.random.Generator) -> np.ndarray:
    channel, sample = (1, 16, 1), (4, 1, 1)
    scales = np.exp(rng.normal(0.0, 0.5, channel) + rng.normal(0.0, 0.5, sample))
    means = rng.normal(0.0, 1.0, channel) + rng.normal(0.0, 0.5, sample)
    return means + scales * rng.normal(size=(4, 16, 6))


def outputs(graph: Graph, name: str) -> np.ndarray:
    """One row a channel; of layers that end with a shift about its mean."""
    with np.errstate(all="ignore"):
        values = [np.broadcast_to(evaluate(graph, {"x": x}), x.shape) for x in batches(name)]
        rows = np.concatenate([np.moveaxis(value, -2, 0).reshape(value.shape[-2], -1) for value in values], 1)
        return np.asarray(rows - rows.mean(1, keepdims=True) if space_of(name).affine else rows)


def gaps(graph: Graph, wanted: Sequence[np.ndarray], name: str) -> list[float]:
    """What is left of each target, in spreads of the target; infinite for what is not finite."""
    found = outputs(graph, name)
    with np.errstate(all="ignore"):
        if space_of(name).affine:  # after the best scale of every channel
            agreed = [(found * one).sum(1) ** 2 / np.maximum((found**2).sum(1) * (one**2).sum(1), 1e-30) for one in wanted]
            left = [float(np.sqrt(np.mean(np.clip(1.0 - r, 0.0, 1.0)))) for r in agreed]
        else:
            left = [float(np.sqrt(np.square(found - one).mean()) / one.std()) for one in wanted]
    return [gap if math.isfinite(gap) and np.isfinite(found).all() else math.inf for gap in left]


def proposer_of(name: str, space: SearchSpace) -> Proposer:
    return make_portfolio(PORTFOLIO if name == "portfolio" else {name: 1.0}, space, by_earnings=True)


Found = tuple[int | None, str]  # how many evaluations it took, None where the budget did not do; and the nearest that was found


def evaluations(proposer_name: str, targets: Sequence[str], seed: int, budget: int) -> list[Found]:
    """One search, led to the first of targets of one space and measured by all of them."""
    file = TARGETS[targets[0]][0]
    space = space_of(file)
    wanted = [outputs(space.finish(parse(TARGETS[target][1])), file) for target in targets]
    proposer, screen = proposer_of(proposer_name, space), Screen(space.max_nodes, space.max_parameters)
    reached: list[int | None] = [None] * len(targets)
    nearest, best, done = [""] * len(targets), [math.inf] * len(targets), 0
    for k in range(20 * budget):
        proposal = proposer.ask(random.Random(f"{seed}/{k}"))
        verdict = screen.check(proposal.candidate)
        if verdict is not None:
            proposer.tell(Outcome(SCREENED, proposal.candidate, proposal.proposer, verdict.status, {}))
            continue
        screen.add(done, proposal.candidate)
        done += 1
        graph = parse_candidate(proposal.candidate).graph
        distances = gaps(graph, wanted, file)
        for i, distance in enumerate(distances):
            if distance < best[i] and reached[i] is None:
                nearest[i], best[i] = proposal.candidate, distance
                reached[i] = done if distance < REACHED else None
        if done == budget or None not in reached:
            break
        proposer.tell(_outcome(done - 1, proposal, graph, distances[0]))
    return [(count, text if count else f"{text} (off by {off:.2g})") for count, text, off in zip(reached, nearest, best, strict=True)]


def _outcome(index: int, proposal: Proposal, graph: Graph, distance: float) -> Outcome:
    if math.isinf(distance):
        return Outcome(index, proposal.candidate, proposal.proposer, "rejected", {})
    closeness = -math.log10(max(distance, 1e-3))
    scores = {"mean": closeness, "worst": closeness, "complexity": -float(complexity(graph)), "saved_per_element": -1.0}
    return Outcome(index, proposal.candidate, proposal.proposer, "ok", scores)


def searches(proposer_name: str, targets: Sequence[str], budget: int, seeds: int, pool: ProcessPoolExecutor) -> Iterator[tuple[str, int, list[Found]]]:
    """Each target with the evaluations that there were, and what every seed found."""
    together = [[t for t in targets if TARGETS[t][0] == file] for file in FILES] if proposer_name == "random" else [[t] for t in targets]
    for some in filter(None, together):
        size = budget * (5 if proposer_name == "random" else 1)
        found = list(pool.map(partial(evaluations, proposer_name, some, budget=size), range(seeds)))
        yield from ((target, size, list(each)) for target, each in zip(some, zip(*found, strict=True), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--proposers", nargs="+", default=["genetic", "portfolio", "random"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=BUDGET, help="evaluations of every proposer but random, which gets five times as many")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    print("| target | proposer | reached | median evaluations | found |\n|---|---|---|---|---|")
    with ProcessPoolExecutor(chosen.workers) as pool:
        for name in chosen.proposers:
            for target, budget, found in searches(name, chosen.targets, chosen.budget, chosen.seeds, pool):
                counts = [count if count is not None else budget for count, _ in found]
                reached = sum(count is not None for count, _ in found)
                shortest = min((text for count, text in found if (count is not None) == (reached > 0)), key=len)
                least = ">= " if 2 * reached <= len(found) else ""
                print(f"| {target} | {name} | {reached} of {len(found)} | {least}{median(counts):g} | `{shortest}` |", flush=True)


if __name__ == "__main__":
    main()
