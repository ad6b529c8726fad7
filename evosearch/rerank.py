"""Does a gain last? The best functions once more, under a second optimizer and on wider networks.

A function that wins for one optimizer on narrow networks may be a find of that setting alone. So the leaders of a run and
their strongest rivals are trained on the run's final pairs again: as they are, by SGD, and at two and four times the
width, everyone at learning rates of the same sweep. A gain that vanishes with width is said to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evosearch.evaluation import train_finals
from evosearch.judging.evaluate import Plan
from evosearch.judging.objectives import OWN, direction, parse_pair, widened
from evosearch.search.verdict import compare

CONDITIONS = (("adam", 1), ("sgd", 1), ("adam", 2), ("adam", 4))  # optimizer, width over the pair's
SGD_RATES = (0.1, 1 / 3, 1.0, 3.0, 10.0)  # tuned rates are Adam's: a wider sweep for another optimizer
FIRST_SEED = 20_000  # verify draws from 10,000 on


@dataclass(frozen=True)
class Gain:
    """A candidate's mean difference to a rival under one condition, in spreads of each pair, with its 95 % interval over seeds."""

    candidate: str
    against: str
    optimizer: str
    width: int
    difference: float
    low: float
    high: float


def rerank(
    candidates: Sequence[str], rivals: Mapping[str, str], plan: Plan, seeds: int, executor: str, workers: int | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Gain], dict[str, str]]:  # fmt: skip
    """Every candidate against every rival (text to name) under each condition, on the plan's final pairs; and who failed where, with the reason.

    A training loop of the user's own has its own optimizer, and a model without a width is not widened: they are left out.
    """
    found: list[Gain] = []
    failed: dict[str, str] = {}
    texts = list(dict.fromkeys([*candidates, *rivals]))
    for optimizer, width in CONDITIONS:
        own = () if optimizer == "adam" else [pair for pair in plan.final.pairs if parse_pair(pair).architecture == OWN]  # has its own optimizer
        fits = [pair for pair in plan.final.pairs if all(widened(pair, w) for _, w in CONDITIONS)]  # the same ones at every width
        pairs = tuple(widened(pair, width) or pair for pair in fits if pair not in own)
        if not pairs:
            continue
        rates = SGD_RATES if optimizer == "sgd" else plan.final.rates
        there = replace(plan, final=replace(plan.final, pairs=pairs, rates=rates, seeds=seeds, optimizer=optimizer))
        rows, broken = train_finals(texts, there, FIRST_SEED, executor, workers, on_progress)
        failed |= {f"{who} on {pair} by {optimizer}": why for (who, pair), why in broken.items()}
        directions = {pair: direction(pair) for pair in pairs}
        for text in candidates:
            names = {t: rivals.get(t, t) for t in texts if t == text or t in rivals}
            for c in compare(rows, text, names, directions, tried=1, general=False):
                found.append(Gain(text, c.against, optimizer, width, c.difference, c.low, c.high))
    return found, failed


def trend(gains: Sequence[Gain]) -> str:
    """What becomes of a gain with the width, by its 95 % intervals: `grows`, `holds`, `vanishes`, `turns` or `unclear`.

    `none` where there was no gain to begin with, `unknown` where the narrowest or the widest networks were not trained.
    """
    by_width = {g.width: g for g in gains}
    widths = [width for optimizer, width in CONDITIONS if optimizer == "adam"]
    if min(widths) not in by_width or max(widths) not in by_width:
        return "unknown"
    first, last = by_width[min(widths)], by_width[max(widths)]
    if first.low <= 0:
        return "none"
    if last.low > first.high:
        return "grows"
    if last.high < 0:
        return "turns"
    if last.low > 0:
        return "holds"
    return "vanishes" if last.high < first.low else "unclear"


def table_of(gains: Sequence[Gain]) -> list[str]:
    """One line a candidate and rival: the gap under each condition, and what becomes of it with the width."""
    lines = ["by Adam, by SGD and on wider networks: gaps in spreads of each pair with 95 % intervals over seeds"]
    for candidate in dict.fromkeys(g.candidate for g in gains):
        lines += ["", candidate]
        for rival in dict.fromkeys(g.against for g in gains if g.candidate == candidate):
            rows = [g for g in gains if (g.candidate, g.against) == (candidate, rival)]
            shown = "; ".join(f"{g.optimizer} x{g.width} {g.difference:+.2f} [{g.low:+.2f}, {g.high:+.2f}]" for g in rows)
            word = trend([g for g in rows if g.optimizer == "adam"])
            lines.append(f"  over {rival}: {shown}; gain with width: {word if word != 'none' else 'none to begin with'}")
    return lines
