"""One formula at a time: trained against known ones on fresh seeds, compared by paired differences. What `evosearch evaluate` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any

from evosearch.dataset.source import DataFile
from evosearch.execution import make_executor
from evosearch.job import Job, Result
from evosearch.judging.baselines import QUALITY_BAR, baseline, check_inputs
from evosearch.judging.device import check_device
from evosearch.judging.evaluate import ENTRY, Plan, Stage
from evosearch.judging.objectives import SLOTS, TASKS, check_applies, check_objective, check_slot, direction, objective_unit, unit
from evosearch.judging.preflight import check_models, check_networks
from evosearch.judging.tasks.files import install
from evosearch.language.candidate import parse_candidate
from evosearch.language.formula import FormulaError, parse
from evosearch.plugin import PlugIn
from evosearch.search.verdict import Comparison, compare, half_width

RATES = (1 / 3, 1.0, 3.0)


@dataclass(frozen=True)
class Measured:
    """Test scores of one contestant on one pair, or values of an objective, a seed each, with the half-width of the mean's 95 % interval."""

    name: str
    pair: str
    scores: tuple[float, ...]
    mean: float
    half: float
    objective: str = ""

    @property
    def unit(self) -> str:
        """Of the score, or of the objective."""
        return objective_unit(self.objective, self.pair) if self.objective else unit(self.pair)


@dataclass(frozen=True)
class Evaluation:
    """What was measured, the comparisons of the formula with every other contestant, and who failed with which reason."""

    formula: str
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    failed: Mapping[str, str]
    name: str = ""  # the formula as it was given, by which `measured` and `failed` call it
    objectives: tuple[Measured, ...] = ()  # of the validation split, its score first

    @property
    def why_nothing(self) -> str | None:
        """Why no training of the formula gave a score; None where one did."""
        if any(m.name == self.name for m in self.measured):
            return None
        return "; ".join(dict.fromkeys(why for who, why in self.failed.items() if who.startswith(f"{self.name} on ")))

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON: scores in each pair's unit, differences in spreads, verdicts in words."""
        return {
            "formula": self.formula, "measured": [asdict(m) | {"unit": m.unit} for m in self.measured],
            "objectives": [asdict(m) | {"unit": m.unit} for m in self.objectives],
            "comparisons": [asdict(c) for c in self.comparisons], "failed": dict(self.failed),
        }  # fmt: skip


def pairs_of(tasks: Sequence[str], architecture: str | None = None, slot: str = "act") -> tuple[str, ...]:
    """`photo` as `photo/inr`: each task on its first architecture with the slot, or on the one named. Raises ValueError."""
    found: list[str] = []
    for task in tasks:
        name = task.partition(".")[0]
        there = TASKS[name].architectures if name in TASKS else ("",)
        first = next((a for a in there if slot in SLOTS.get(a, ("act",))), there[0])
        found.append(task if "/" in task else f"{task}/{architecture or first}")
    _check_pairs(found, slot)
    return tuple(found)


def _check_pairs(pairs: Sequence[str], slot: str) -> None:
    """Raises ValueError for none, for one that is not there or has no such slot, and for one that stands there twice."""
    if not pairs:
        raise ValueError("an evaluation needs at least one task or pair, e.g. photo,textures/resnet; received none")
    for i, pair in enumerate(pairs):
        check_slot(pair, slot)
        if pair in pairs[:i]:
            raise ValueError(f"the pair `{pair}` stands here twice; leave one out")


def names_of(texts: Sequence[str]) -> list[str]:
    """`relu,max(x, 0)` as `relu` and `max(x, 0)`: commas separate outside of parentheses, and not after a `where`."""
    found: list[str] = []
    for text in texts:
        head, where, tail = text.partition(" where ")
        depth, parts = 0, [""]
        for letter in head:
            depth += (letter == "(") - (letter == ")")
            parts = [*parts, ""] if letter == "," and not depth else [*parts[:-1], parts[-1] + letter]
        found += [*parts[:-1], parts[-1] + where + tail]
    return [name.strip() for name in found]


def formula_of(text: str) -> str:
    """A formula or a network as it is, or the formula of the baseline or known layer of that name. Raises ValueError."""
    if ":=" in text:
        return str(parse_candidate(text))
    try:
        return str(parse(text))
    except FormulaError:
        if text.isidentifier():
            return str(parse(baseline(text) if text not in ("x", "y") else text))
        raise


def evaluate_formula(
    text: str, against: Sequence[str], pairs: Sequence[str], *, seeds: int = 5, steps: int = 200, executor: str = "local",
    workers: int | None = None, device: str = "cpu", on_progress: Callable[[int, int], None] | None = None,
    plugins: Sequence[PlugIn] = (), data: Sequence[DataFile] = (), first_seed: int = 1000, objectives: Sequence[str] = (),
    on_start: Callable[[], None] | None = None, slot: str = "act",
) -> Evaluation:  # fmt: skip
    """Trains the formula and every one of `against` on each pair and compares them.

    Everyone gets three learning rates on the first seed and trains at the best of them (chosen on validation) on all `seeds`; the
    test split is scored once a seed. The interval of a comparison is corrected for the number of contestants. `workers` 0 or None
    is one a core. `objectives` are measured on every trained network as well, on the validation split, where they apply to the pair.
    `slot` is the place of the networks that the formula is for. The claim is about these pairs, which the caller chose. Raises
    ValueError, before anything is trained, for what cannot be; a training that fails is in `failed`. `on_start` is called once
    nothing is left that could refuse.
    """
    check_numbers(seeds, steps, workers)
    _check_pairs(pairs, slot)
    _check_objectives(objectives, pairs)
    check_device(device)
    formula = _for_slot(text, slot)
    names = {_for_slot(name, slot): name for name in against}
    names.pop(formula, None)
    if not names:
        other = "relu,gelu" if slot == "act" else f"'{QUALITY_BAR[slot][0]}'"
        raise ValueError(f"--against needs at least one function that is not the formula itself, e.g. --against {other}")
    wanted = ("score", *objectives) if objectives else ()  # what they are compared with is of the same split
    stage = Stage(tuple(pairs), steps, RATES, seeds, wanted)
    plan = Plan(stage, stage, stage, device, tuple(plugins), slot, data=tuple(data))
    contestants = [formula, *names]
    install(data)
    check_models(pairs, slot)
    for contestant in map(parse_candidate, contestants):
        if not contestant.is_layer:
            check_networks(pairs, list(contestant.slots), {name: (value,) for name, value in contestant.choices.items()})
    if on_start:
        on_start()
    rows, failed = train_finals(contestants, plan, first_seed, executor, workers, on_progress)
    directions = {pair: direction(pair) for pair in pairs}
    shown = {formula: text, **names}
    measured = tuple(m for c in contestants for pair in pairs if (m := _measured(shown[c], pair, rows, c)) is not None)
    further = tuple(m for pair in pairs for name in wanted for c in contestants if (m := _measured(shown[c], pair, rows, c, name)) is not None)
    comparisons = tuple(compare(rows, formula, shown, directions, tried=1, general=False))
    return Evaluation(formula, measured, comparisons, {f"{shown[who]} on {pair}": why for (who, pair), why in failed.items()}, text, further)


def check_numbers(seeds: int, steps: int, workers: int | None) -> None:
    """Raises ValueError for too few seeds or steps, or a number of workers that is none."""
    if seeds < 2:
        raise ValueError(f"an interval needs at least 2 seeds; received {seeds}")
    if steps < 1:
        raise ValueError(f"a training needs at least 1 step; received {steps}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers are counted from 1, and 0 is one a core; received {workers}")


def _check_objectives(names: Sequence[str], pairs: Sequence[str]) -> None:
    """Raises ValueError for one that is not measured on trained networks, that stands there twice, or that none of the pairs has."""
    for i, name in enumerate(names):
        check_objective(name, ("network",))
        if name in names[:i]:
            raise ValueError(f"the objective `{name}` stands here twice; leave one out")
    check_applies(names, pairs)


def _for_slot(text: str, slot: str) -> str:
    """`formula_of`, whose layers have to be of the inputs that the slot gives them. Raises ValueError."""
    formula = formula_of(text)
    candidate = parse_candidate(formula)
    if slot != "act" and not candidate.is_layer:
        raise ValueError(f"the slots of a network are activations; received `{text[:60]}` for the slot {slot}: give one layer")
    for graph in candidate.sites:
        check_inputs(text, graph, slot)
    return formula


def run_jobs(
    jobs: Sequence[Job], plan: Plan, executor: str, workers: int | None, time_limit: float, memory_limit_gb: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Result]:  # fmt: skip
    """Every job's result, by index; `workers` 0 or None is one a core, limits are seconds and GB (of memory on a CPU alone) a job."""
    waiting, results = list(jobs), list[Result]()
    memory = memory_limit_gb if plan.device == "cpu" else 0.0  # CUDA reserves address space as it likes
    workers = workers or min(os.cpu_count() or 1, len(jobs))
    with make_executor(executor, ENTRY, plan.to_text(), workers=workers, time_limit=time_limit, memory_limit_gb=memory) as running:
        while waiting or running.in_flight:
            for _ in range(min(running.free_slots(), len(waiting))):
                running.submit(waiting.pop(0))
            results += running.poll(0.5)
            if on_progress:
                on_progress(len(results), len(jobs))
    return sorted(results, key=lambda result: result.index)


def train_finals(
    contestants: Sequence[str], plan: Plan, first_seed: int, executor: str, workers: int | None, on_progress: Callable[[int, int], None] | None,
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:  # fmt: skip
    """Trains every contestant on every pair of the plan's final stage: the rows, pair by pair; and by contestant and pair why it failed, where it did.

    `workers` 0 or None is one a core; `on_progress` hears how many trainings are done, of how many.
    """
    jobs = [Job(i, text, first_seed, "final", (pair,)) for i, (pair, text) in enumerate(product(plan.final.pairs, contestants))]
    results = run_jobs(jobs, plan, executor, workers, 3600.0, 8.0, on_progress)
    failed = {(r.candidate, jobs[r.index].pairs[0]): r.error or r.reason or r.status for r in results if r.status != "ok"}
    return [asdict(result) for result in results], failed


def _measured(name: str, pair: str, rows: Sequence[Mapping[str, Any]], candidate: str, objective: str = "") -> Measured | None:
    table, begin = ("objectives", objective) if objective else ("scores", "final")
    scores = tuple(
        score for row in rows if row["candidate"] == candidate and row["status"] == "ok"
        for key, score in row[table].items() if key.rpartition(":")[0] == f"{begin}:{pair}"
    )  # fmt: skip
    if not scores:
        return None
    half = half_width(scores, 0.95) if len(scores) < 2 or stdev(scores) > 0 else 0.0
    return Measured(name, pair, scores, fmean(scores), half, objective)


def _line(m: Measured) -> str:
    return f"{m.name[:28]:<28} {m.pair:<26} {m.mean:>9.3f} {'+-' + format(m.half, '.3f'):>8}"


def table_of(found: Evaluation) -> list[str]:
    """The scores and the verdict as lines of text."""
    lines = [f"{'function':<28} {'pair':<26} {'mean':>9} {'95 %':>8}  unit"]
    for m in found.measured:
        lines.append(f"{_line(m)}  {m.unit}")
    if found.objectives:
        lines += ["", f"{'on the validation split':<28} {'pair':<26} {'mean':>9} {'95 %':>8}  objective"]
        lines += [f"{_line(m)}  {m.objective} {m.unit}".rstrip() for m in found.objectives]
        lines.append("")
    for c in found.comparisons:
        gaps = ", ".join(f"{pair} {gap:+.3g} {unit(pair)}" for pair, gap in c.per_pair.items())
        lines.append(f"{c.verdict} than {c.against}: {c.difference:+.2f} spreads [{c.low:+.2f}, {c.high:+.2f}] at {100 * c.level:.1f} %; {gaps}")
    lines += [f"failed: {who}: {why}" for who, why in found.failed.items()]
    return lines
