"""Discovered on A, used on B: the best of each run trained on other tasks, beside the baselines. What `evosearch transfer` does.

Everyone gets the same steps, the same three learning rates and the same seeds, which no search and no other check has drawn from. A
gain is over the usual baseline of the same seeds: one would use that without a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from evosearch.config import Config, read_run_of
from evosearch.dataset.source import DataFile
from evosearch.delivery.layout import Column, grid, prose
from evosearch.delivery.summary import baseline_names, leaders, read, usual_baseline
from evosearch.evaluation import RATES, check_numbers, train_finals
from evosearch.judging.device import check_device
from evosearch.judging.evaluate import Plan, Stage
from evosearch.judging.objectives import check_slot, direction, parse_pair, unit
from evosearch.judging.preflight import check_models, check_networks
from evosearch.judging.tasks.files import install
from evosearch.language.candidate import parse_candidate
from evosearch.plugin import PlugIn, check_given
from evosearch.search.pick import is_seed
from evosearch.search.verdict import grain, half_width

FIRST_SEED = 30_000  # verify draws from 10,000 on, and under other conditions from 20,000


@dataclass(frozen=True)
class Contestant:
    """A function, who discovered it (a run's folder; of a baseline its name), and the tasks on which that run searched.

    A run that was given it as a seed has not discovered it.
    """

    candidate: str
    of: str
    is_baseline: bool
    searched: tuple[str, ...] = ()
    is_seed: bool = False


@dataclass(frozen=True)
class Cell:
    """A function on a pair: its test scores, one a seed, their mean and the half-width of its 95 % interval; and its gain.

    The gain is the mean difference to the usual baseline at the same seeds, in the pair's unit, more is better, from `low` to `high`
    at the level of all gains together (Bonferroni). Nothing where a training failed.
    """

    candidate: str
    pair: str
    scores: tuple[float, ...]
    mean: float
    half: float
    gain: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not better` than the usual baseline; an interval of no width, equal gaps at every seed, says neither."""
        if self.low == self.high:
            return "not better"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not better"


@dataclass(frozen=True)
class Transfer:
    """The matrix: rows are contestants, finds first and the usual baseline last, columns pairs; and who failed where, with the reason."""

    contestants: tuple[Contestant, ...]
    pairs: tuple[str, ...]
    cells: tuple[Cell, ...]
    failed: Mapping[str, str]
    seeds: int
    steps: int
    level: float

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"cells": [asdict(cell) | {"verdict": cell.verdict, "unit": unit(cell.pair)} for cell in self.cells]}


def open_run(directory: Path, plugins: Sequence[PlugIn] = ()) -> Config:
    """A run's configuration; of `plugins`, those that it was made with have to be the same. Raises ConfigError, PluginError, LogError."""

    def check(recorded: Mapping[str, str]) -> None:
        check_given(recorded, [plugin for plugin in plugins if plugin.name in recorded], directory)

    return read_run_of(directory, check)[0]


def transfer(
    runs: Mapping[Path, Config], pairs: Sequence[str], *, top: int = 1, seeds: int = 5, steps: int = 200, executor: str = "local", workers: int | None = None,
    device: str = "cpu", plugins: Sequence[PlugIn] = (), data: Sequence[DataFile] = (), on_progress: Callable[[int, int], None] | None = None,
    on_start: Callable[[], None] | None = None,
) -> Transfer:  # fmt: skip
    """Trains the `top` functions of each run and the baselines of its final check on every pair with `seeds` fresh seeds.

    `on_start` is called once nothing is left that could refuse. Raises ValueError for a run in which nothing was fully trained, for
    runs that search different kinds of layers, and for pairs that cannot have them.
    """
    if top < 1:
        raise ValueError(f"transfer takes at least 1 function of each run (--top); received {top}")
    check_numbers(seeds, steps, workers)
    check_device(device)
    contestants = _contestants(runs, top)
    first = next(iter(runs.values()))
    files = _files(runs.values(), data, pairs)
    for pair in pairs:
        check_slot(pair, first.space.slot)
    install(files)
    check_models(pairs, first.space.slot, per_channel=first.space.space().per_channel)
    for candidate in (parse_candidate(c.candidate) for c in contestants):
        if not candidate.is_layer:
            check_networks(pairs, list(candidate.slots), {name: (value,) for name, value in candidate.choices.items()})
    if on_start:
        on_start()
    stage = Stage(tuple(pairs), steps, RATES, seeds)
    plan = Plan(stage, stage, stage, device, tuple(plugins), first.space.slot, data=files, initialization=first.judging.initialization)
    texts = list(dict.fromkeys(c.candidate for c in contestants))
    rows, failed = train_finals(texts, plan, FIRST_SEED, executor, workers, on_progress)
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["status"] == "ok":
            for key, score in row["scores"].items():
                scores.setdefault((row["candidate"], key.partition(":")[2].rpartition(":")[0]), {})[key] = score
    level = 1 - 0.05 / max(1, (len(texts) - 1) * len(pairs))
    usual = contestants[-1].candidate
    cells = tuple(
        _cell(text, pair, scores[text, pair], scores[usual, pair], level)
        for pair in pairs for text in texts if (text, pair) in scores and (usual, pair) in scores
    )  # fmt: skip
    return Transfer(tuple(contestants), tuple(pairs), cells, {f"{who} on {pair}": why for (who, pair), why in failed.items()}, seeds, steps, level)


def _contestants(runs: Mapping[Path, Config], top: int) -> list[Contestant]:
    """The finds of every run, the baselines of their final checks, the usual one last."""
    kinds = {(usual_baseline(config), config.judging.initialization): path for path, config in runs.items()}
    if len(kinds) > 1:
        raise ValueError(f"runs of one matrix search the same kind of layer, weights set alike; {' and '.join(map(str, kinds.values()))} do not: one at a time")
    finds: list[Contestant] = []
    baselines: dict[str, str] = {}
    for path, config in runs.items():
        reading = read(path, config)
        stages = (config.judging.quick, config.judging.quality, config.judging.full)
        searched = dict.fromkeys(parse_pair(pair).task for stage in stages if stage for pair in stage.pairs)
        seeds = {row["candidate"] for row in reading.searched if is_seed(row)}
        finds += [Contestant(text, str(path), False, tuple(searched), text in seeds) for text in leaders(reading, top)]
        names = baseline_names(config)
        baselines |= {text: names[text] for text in reading.contestants if text in names}
    usual, _ = next(iter(kinds))
    return [*finds, *(Contestant(text, baselines[text], True) for text in sorted(baselines, key=usual.__eq__))]


def _files(configs: Iterable[Config], given: Sequence[DataFile], pairs: Sequence[str]) -> tuple[DataFile, ...]:
    """The data files that the pairs name: those given, and those of the runs. Raises ValueError for two of one name."""
    wanted = {parse_pair(pair).task for pair in pairs}
    found: dict[str, DataFile] = {}
    for file in [*given, *(DataFile(name, **file.model_dump()) for config in configs for name, file in config.data.items())]:
        if file.name in wanted and found.setdefault(file.name, file).sha256 != file.sha256:
            raise ValueError(f"two files are called `{file.name}`, {found[file.name].path} and {file.path}; give one another name: --data NAME=PATH")
    return tuple(found.values())


def _cell(text: str, pair: str, ours: Mapping[str, float], usual: Mapping[str, float], level: float) -> Cell:
    values, gaps = tuple(ours.values()), [direction(pair) * (ours[key] - usual[key]) for key in ours if key in usual]
    gain, reach = fmean(gaps), half_width(gaps, level, grain([*values, *usual.values()]) / 2)
    return Cell(text, pair, values, fmean(values), half_width(values, 0.95), gain, gain - reach, gain + reach)


def table_of(found: Transfer, width: int | None) -> list[str]:
    """The scores of everyone and the gains over the usual baseline, a column a pair, as lines for a terminal of `width` columns."""
    numbers = {pair: f"[{i}]" for i, pair in enumerate(found.pairs, 1)}
    cells = {(cell.candidate, cell.pair): cell for cell in found.cells}
    usual = found.contestants[-1]

    def column(pair: str, rows: Sequence[Contestant], show: Callable[[Cell], str]) -> Column:
        marks = ["*" if parse_pair(pair).task in c.searched else " " for c in rows]
        shown = [show(cells[c.candidate, pair]) if (c.candidate, pair) in cells else "failed" for c in rows]
        return Column(f"{numbers[pair]} ", [text + mark for text, mark in zip(shown, marks, strict=True)], 1)

    def matrix(rows: Sequence[Contestant], show: Callable[[Cell], str]) -> list[str]:
        who = Column("discovered by", [f"{'a seed of ' * c.is_seed}{c.of}, on {', '.join(c.searched)}" if c.searched else "baseline" for c in rows], 2, False)
        names = Column("function", [c.of if c.is_baseline else c.candidate for c in rows], right=False, flexible=True)
        lines, left_out = grid([who, names, *(column(pair, rows, show) for pair in found.pairs)], width)
        return [*lines, *([f"left out at {width} columns: {', '.join(left_out)}"] if left_out else [])]

    legend = [
        f"test scores, mean of {found.seeds} fresh seeds +- its 95 % interval; {found.steps} steps, the best of three rates: the same for all",
        "; ".join(f"{numbers[p]} {p} [{unit(p)}{', less is better' * (direction(p) < 0)}]" for p in found.pairs),
        f"gain over {usual.of} at the same seeds, more is better, with its interval at {100 * found.level:.2f} % (0.05 over all gains); "
        "*: of a task on which that run searched",
    ]
    lines = [*matrix(found.contestants, lambda c: f"{c.mean:.4g} +- {c.half:.2g}"), *(line for text in legend[:2] for line in prose(text, width)), ""]
    lines += [*matrix(found.contestants[:-1], lambda c: f"{c.gain:+.3g} [{c.low:+.3g}, {c.high:+.3g}] {c.verdict}"), *prose(legend[2], width)]
    return lines + [line for who, why in found.failed.items() for line in prose(f"failed: {who}: {why}", width)]
