"""Activations out of a task's own data: symbolic regression of the targets, whose unary parts are seeds of a search. What `evosearch mine` does.

Neuro-Symbolic Activation Discovery (arXiv 2601.10740) lets genetic programming classify a tenth of the data, before it is split, by a
formula of all inputs with protected operators, writes `x` for every input and takes the result for an activation that was never scored as
one. Here a formula has one input from the start, for it stands where a unit of a network stands: `y ~ a + v.x + b f(c w.x + d)`, a straight
line and one ridge function, the first step of projection pursuit regression (Friedman and Stuetzle 1981), whose sum is a hidden layer.
Only the training rows are fitted, operators are those of the language, and what is mined is judged by the search that it seeds.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from evosearch.config import Config
from evosearch.delivery.layout import Column, grid, prose
from evosearch.judging.objectives import parse_pair
from evosearch.judging.tasks import Split, task
from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.language.graph import Graph, canonical, constant, depends_on, replace, variable, walk
from evosearch.meaning.facts import complexity
from evosearch.meaning.numeric import Array, evaluate
from evosearch.meaning.screen import numeric
from evosearch.proposers import Outcome
from evosearch.proposers.registry import make_proposer
from evosearch.space.network import NetworkSpace

# `c` and `d` of `f(c w.x + d)`: a network scales and shifts the input of a unit as it likes.
UNITS = tuple((sign * 2 ** (k / 2), shift) for k in range(-2, 7) for sign in (1, -1) for shift in (-1.0, 0.0, 1.0))
ROWS = 500  # that are fitted, at most; of more, so many are drawn
TARGETS = 20  # at most
LEAST = 0.05  # of the line's squared error on the validation rows that has to go,
ERRORS = 3.0  # and so many standard errors of what goes
LARGEST = 1e6  # value of a formula
STARTS = 50  # random directions, beside those in which what the line leaves bends
CLIMBS = 200  # steps of a direction
WINNERS = 10  # of each regression, whose parts are looked at
_ALIKE = 0.99  # directions of so high a cosine are one, and so are fits


@dataclass(frozen=True)
class Mined:
    """A candidate with the figures of its best regression: R2 with it and of the straight line alone, and how many winners have it as a part.

    `known` says which baseline it is, if it is one.
    """

    candidate: str
    target: str
    direction: str
    train: float
    validation: float
    line: float  # of validation
    winners: int
    known: str = ""

    @property
    def gain(self) -> float:
        """The share of the straight line's squared error on the validation rows that the formula takes away."""
        return 1 - (1 - self.validation) / max(1 - self.line, 1e-12)


@dataclass(frozen=True)
class Mine:
    """What was mined, the best first; and what of."""

    found: tuple[Mined, ...]
    rows: int
    inputs: int
    targets: tuple[str, ...]
    left_out: int  # targets
    regressions: int


@dataclass(frozen=True)
class Fit:
    """R2 on both regions, the squared error taken from the line's on the validation rows in its standard errors, and what the formula adds, of length 1."""

    train: float
    validation: float
    errors: float
    curve: Array


class Regression:
    """One target along one direction `w`; how much of what a straight line leaves a formula of `w.x` explains."""

    def __init__(self, inputs: tuple[Array, Array], values: tuple[Array, Array], direction: Array, target: str, name: str) -> None:
        self.target, self.name = target, name
        self._lines = [np.column_stack([np.ones(len(x)), x]) for x in inputs]
        self._inverse = np.linalg.pinv(self._lines[0])
        self._values, self._left = values, self._rest(values[0])
        along = [x @ direction for x in inputs]
        self._along = [(z - along[0].mean()) / max(along[0].std(), 1e-12) for z in along]

    def _rest(self, values: Array) -> Array:
        """What the best straight line over the training rows leaves."""
        rest: Array = values - self._lines[0] @ (self._inverse @ values)
        return rest

    @property
    def line(self) -> float:
        """R2 of the straight line on the validation rows."""
        return _r2(self._values[1], self._straight)

    @property
    def _straight(self) -> Array:
        fitted: Array = self._lines[1] @ (self._inverse @ self._values[0])
        return fitted

    def fit(self, graph: Graph, rounds: int = 0) -> tuple[float, tuple[float, float]]:
        """The share of what the line leaves that the formula explains on the training rows, 0 where it is not finite; and the best unit's slope and shift.

        With `rounds` slope and shift are then refined, each round by half the step.
        """
        best = self._best_of(graph, UNITS)
        for step in (2.0**-i for i in range(1, rounds + 1)):
            slope, shift = best[1]
            near = [(slope * 2 ** (i * step / 2), shift + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            best = max(best, self._best_of(graph, near))
        return best

    def _best_of(self, graph: Graph, units: Sequence[tuple[float, float]]) -> tuple[float, tuple[float, float]]:
        curves = evaluate(graph, {"x": np.array([slope * self._along[0] + shift for slope, shift in units])})
        usable = np.isfinite(curves).all(1) & (np.abs(np.nan_to_num(curves)).max(1) < LARGEST)
        curves = np.where(usable[:, None], curves, 0.0)
        rests = curves - (curves @ self._inverse.T) @ self._lines[0].T
        sizes = np.square(rests).sum(1)
        shares = np.square(rests @ self._left) / np.maximum(sizes * (self._left @ self._left), 1e-12)
        shares[sizes <= 1e-9 * np.maximum(1.0, np.square(curves).sum(1))] = 0.0  # a straight line itself
        best = int(shares.argmax())
        return float(shares[best]), units[best]

    def figures(self, graph: Graph) -> Fit:
        """What line and formula together, fitted on the training rows, give there and on the validation rows."""
        _, (slope, shift) = self.fit(graph, rounds=6)
        curves = [evaluate(graph, {"x": slope * along + shift}) for along in self._along]
        if not all(np.isfinite(curve).all() and np.abs(curve).max() < LARGEST for curve in curves):
            return Fit(-np.inf, -np.inf, -np.inf, np.zeros(len(curves[0])))
        rest = self._rest(curves[0])
        size = float(rest @ rest)
        factor = float(rest @ self._left) / max(size, 1e-12)
        weights = self._inverse @ (self._values[0] - factor * curves[0])
        both = [line @ weights + factor * curve for line, curve in zip(self._lines, curves, strict=True)]
        train, validation = (_r2(y, fitted) for y, fitted in zip(self._values, both, strict=True))
        saved = np.square(self._values[1] - self._straight) - np.square(self._values[1] - both[1])
        errors = float(saved.mean() / max(saved.std() / np.sqrt(len(saved)), 1e-12))
        return Fit(train, validation, errors, rest / max(size**0.5, 1e-12))


def mine(pair: str, config: Config, *, seed: int = 0, formulas: int = 300, top: int = 5, on_progress: Callable[[int, int], None] | None = None) -> Mine:
    """The `top` unary formulas of the configuration's space that fit the pair's task best, out of `formulas` in each regression.

    Each target, of classes each one against the rest, is regressed along two directions, climbed to from that of the straight line and
    from the best of those in which what it leaves bends (principal Hessian directions, Li 1992) and random ones. Raises ValueError for
    a task without rows of numbers to fit, and for a space of networks or of another slot than act.
    """
    if formulas < 20 or top < 1 or seed < 0:
        raise ValueError(
            f"mine takes at least 20 formulas a regression (--formulas), 1 candidate (--top) and a seed from 0 on; received {formulas}, {top} and {seed}"
        )
    space = config.space.space()
    if isinstance(space, NetworkSpace) or space.slot != "act":
        of = "networks" if isinstance(space, NetworkSpace) else f"layers of the slot {space.slot}"
        raise ValueError(f"mine looks for activations of one input, and this space is of {of}; take another --space")
    train, validation = _regions(pair, random.Random(f"{seed}/rows"))
    names, columns = _targets(train[1], validation[1])
    regressions: list[Regression] = []
    for i, name in enumerate(names[:TARGETS]):
        regressions += _regressions((train[0], validation[0]), (columns[0][:, i], columns[1][:, i]), name, random.Random(f"{seed}/directions/{i}"))
    parts: Counter[Graph] = Counter()
    for i, regression in enumerate(regressions):
        for winner in _winners(regression, config, formulas, f"{seed}/{i}"):
            parts.update(set(_parts(winner)))
        if on_progress:
            on_progress(i + 1, len(regressions))
    found = _best(parts, regressions, config)
    return Mine(tuple(found[:top]), len(train[0]), train[0].shape[1], tuple(names[:TARGETS]), max(0, len(names) - TARGETS), len(regressions))


def seeds(found: Mine) -> list[str]:
    """What may be given to the search: all but its baselines, which it asks anyway."""
    return [one.candidate for one in found.found if not one.known]


def lines(found: Mine, width: int | None) -> list[str]:
    """The table and its legend, for a terminal of `width` columns."""
    said = f"regressions: {found.regressions}, of {found.rows} training rows; inputs: {found.inputs}; {', '.join(found.targets)}"
    head = prose(said + f" ({found.left_out} more left out)" * bool(found.left_out), width)
    if not found.found:
        nothing = (
            f"no formula takes {100 * LEAST:.0f} % and {ERRORS:g} standard errors off a straight line's squared error on validation rows: nothing to seed with"
        )
        return [*head, *prose(nothing, width)]
    columns = [
        Column("formula", [one.candidate for one in found.found], right=False, flexible=True),
        Column("R2", [f"{one.train:.3f}" for one in found.found], 1),
        Column("validation", [f"{one.validation:.3f}" for one in found.found]),
        Column("line", [f"{one.line:.3f}" for one in found.found]),
        Column("winners", [str(one.winners) for one in found.found], 3),
        Column("of", [f"{one.target}, {one.direction}" for one in found.found], 2, False),
        Column("known", [f"baseline {one.known}" * bool(one.known) for one in found.found], 0, False),
    ]
    table, left_out = grid(columns, width)
    nothing = "" if seeds(found) else "the search asks all of these anyway: nothing to seed with"
    legend = [
        "R2 of y ~ a + v.x + b f(c w.x + d), on the training rows, which are fitted, and on the validation rows; line: of a + v.x alone, on the "
        "validation rows; winners: how many of the best formulas have it as a part; of: the regression in which it takes most of the line's error "
        "away, along a w near the line's own or near another; figures that choose, and no claim",
        f"left out at {width} columns: {', '.join(left_out)}" if left_out else "",
        nothing,
    ]
    return [*head, "", *table, "", *(line for text in legend if text for line in prose(text, width))]


def _regions(pair: str, rng: random.Random) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Inputs, scaled by the training rows, and targets of both regions, as a task has them. Raises ValueError."""
    named = parse_pair(pair)
    of = task(named.task)
    where = "take a task whose inputs are rows of numbers: tabular, ood, series, photo, digits, or a table of your own (--data)"
    if of.loop is not None:
        raise ValueError(f"{named.task} is a training loop of its own, and shows no data; {where}")
    if of.objective is not None:
        raise ValueError(f"{named.task} has no targets to regress, its loss is an equation; {where}")
    data = of.load(named.variant)
    shape = tuple(data.train[0].shape)
    if len(shape) != 2 or not data.train[0].is_floating_point():
        what = "whole numbers" if len(shape) == 2 else f"of shape {shape[1:]} each"
        raise ValueError(f"a regression takes rows of numbers, and the inputs of {named.task} are {what}; {where}")
    train, validation = (_rows(split, rng) for split in (data.train, data.validation))
    center, spread = train[0].mean(0), train[0].std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    if len(train[0]) < 2 * (shape[1] + 1):
        raise ValueError(f"a straight line of {shape[1]} inputs leaves nothing of {len(train[0])} rows; {where}")
    return ((train[0] - center) / spread, train[1]), ((validation[0] - center) / spread, validation[1])


def _rows(split: Split, rng: random.Random) -> tuple[Array, Array]:
    inputs, targets = (part.double().numpy() if part.is_floating_point() else part.numpy() for part in split)
    chosen = sorted(rng.sample(range(len(inputs)), min(ROWS, len(inputs))))
    return inputs[chosen], targets[chosen]


def _targets(*regions: Array) -> tuple[list[str], list[Array]]:
    """Numbers column by column, classes as one against the rest, `(N, K)` each; and what to call them."""
    first = regions[0]
    if first.ndim == 2:
        return [f"target {i + 1}" for i in range(first.shape[1])], list(regions)
    classes = np.unique(first)[-1:] if len(np.unique(first)) == 2 else np.unique(first)
    return [f"class {c}" for c in classes], [(region[:, None] == classes).astype(np.float64) for region in regions]


def _regressions(inputs: tuple[Array, Array], values: tuple[Array, Array], target: str, rng: random.Random) -> Iterator[Regression]:
    """The target along two directions: one near the line's own, and one near that of all others which explains most."""
    x, y = inputs[0], values[0] - values[0].mean()
    if y.std() < 1e-9:
        return
    covariance = x.T @ x / len(x) + 1e-3 * np.eye(x.shape[1])
    slope: Array = linalg.solve(covariance, x.T @ y / len(x), assume_a="pos")
    left = y - x @ slope
    bends = linalg.eigh(x.T @ (x * left[:, None]) / len(x), covariance)[1].T
    chance = np.array([[rng.gauss(0, 1) for _ in range(x.shape[1])] for _ in range(STARTS)])
    others = [way / max(float(np.linalg.norm(way)), 1e-12) for way in (*bends, *chance)]
    along = _climbed(x, left, slope / max(float(np.linalg.norm(slope)), 1e-12), rng)
    across = _climbed(x, left, max(others, key=lambda way: _explained(x, left, way)), rng)
    yield Regression(inputs, values, along, target, "line")
    if abs(along @ across) < _ALIKE:
        yield Regression(inputs, values, across, target, "other")


def _explained(x: Array, left: Array, way: Array) -> float:
    """How much of the squares of what the line leaves the means of equal parts of the rows, in their order along a direction, explain."""
    parts = np.array_split(left[np.argsort(x @ way, kind="stable")], max(5, min(20, len(x) // 15)))
    return float(sum(len(part) * part.mean() ** 2 for part in parts))


def _climbed(x: Array, left: Array, best: Array, rng: random.Random) -> Array:
    """A direction of length 1 near the given one that explains more, if there is one."""
    most, step = _explained(x, left, best), 0.5
    for _ in range(CLIMBS if len(best) > 1 else 0):
        trial = best + step * np.array([rng.gauss(0, 1) for _ in best]) / np.sqrt(len(best))
        trial /= max(float(np.linalg.norm(trial)), 1e-12)
        value = _explained(x, left, trial)
        if value > most:
            best, most = trial, value
        else:
            step *= 0.98
    return best


def _winners(regression: Regression, config: Config, formulas: int, seed: str) -> list[Graph]:
    """The best formulas of a run of genetic programming, the search's own, that is told how well each fits."""
    proposer = make_proposer("genetic", config.space.space(), ("complexity",))
    scores: dict[Graph, float] = {}
    for k in range(formulas):
        text = proposer.ask(random.Random(f"{seed}/{k}")).candidate
        graph = parse_candidate(text).graph
        if graph in scores:
            continue
        scores[graph] = regression.fit(graph)[0] if numeric(graph) is None else 0.0
        if scores[graph] > 0:
            proposer.tell(Outcome(k, text, "genetic", "ok", {"mean": scores[graph], "complexity": -float(complexity(graph))}))
    return sorted((graph for graph in scores if scores[graph] > 0), key=lambda graph: (-scores[graph], graph.size, str(graph)))[:WINNERS]


def _parts(graph: Graph) -> Iterator[Graph]:
    """The formula, every part of it that is a function of x, and, where it is `h(g(x))`, what `h` is."""
    for node in walk(graph):
        if node.args and depends_on(node):
            yield canonical(node)
            if node is not graph and not depends_on(replace(graph, {node: constant(1.0)})):
                yield canonical(replace(graph, {node: variable("x")}))


def _best(parts: Counter[Graph], regressions: Sequence[Regression], config: Config) -> list[Mined]:
    """Those that the search would ask and that gain enough, by tenths of gain and then by size; of those that fit alike the first."""
    space, asked = config.space.space(), config.asked()
    fits: list[tuple[Mined, Graph, Array]] = []
    for graph, winners in parts.items():
        if space.contains(Candidate({"act": graph})):
            found = [(Mined(str(graph), r.target, r.name, fit.train, fit.validation, r.line, winners), fit) for r in regressions for fit in [r.figures(graph)]]
            sure = [(one, fit) for one, fit in found if one.gain >= LEAST and fit.errors >= ERRORS]
            if sure:
                one, fit = max(sure, key=lambda pair: pair[0].gain)
                fits.append((one, graph, fit.curve))
    fits.sort(key=lambda fit: (-round(fit[0].gain, 1), fit[1].size, -fit[0].gain, fit[0].candidate))
    baselines = {f"is the same function as the baseline {name}": name for name in config.baselines}
    kept: list[tuple[Mined, Array]] = []
    for one, _, curve in fits:
        refusal = asked.refusal(one.candidate)
        alike = any((one.target, one.direction) == (other.target, other.direction) and abs(curve @ its) > _ALIKE for other, its in kept)
        if not alike and (not refusal or refusal in baselines):
            kept.append((dataclasses.replace(one, known=baselines.get(refusal, "")), curve))
    return [one for one, _ in kept]


def _r2(values: Array, fitted: Array) -> float:
    return float(1 - np.square(values - fitted).sum() / max(np.square(values - values.mean()).sum(), 1e-12))
