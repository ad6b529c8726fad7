"""A search with 10 to 10,000 workers, without the workers: the real Study and log on a virtual clock (docs/scale.md).

    python scripts/simulate.py                             # `law`: minutes; --workers 10000 takes longer
    python scripts/simulate.py windows limits driver       # other tables
    python scripts/simulate.py law --workers 100 --kinds constant --seed 1

Tables: `law`, each kind of duration at the window that the law gives; `windows`, what a smaller or larger one does; `limits`, how
the window follows from the time limit of a job; `driver`, the real milliseconds that ask and tell take and those of the processor, as history grows.

Time is virtual, results are invented, everything else is real: asks, window, screen, bars, log. The driver's own time does not pass
on the virtual clock; `load` says which share of real time it would take. `used` is busy worker-seconds over worker-seconds, `steady` from
one longest job after the first ask that its window can keep waiting to the last ask, `all` from the first baseline to the last result of the search.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evosearch.config import load
from evosearch.job import Job, Result
from evosearch.meaning.screen import Verdict
from evosearch.proposers import Outcome, Proposal, Proposer
from evosearch.proposers.registry import make_portfolio
from evosearch.search.store import Log
from evosearch.search.study import Settings, Study
from evosearch.search.window import law
from evosearch.space import SearchSpace

BASELINES = (("identity", "x"), ("relu", "relu(x)"), ("tanh", "tanh(x)"), ("sine", "sin(x)"))
EARLY = 5.0  # seconds until the quick test has turned a function away
LOOKS = 200  # of the driver at its workers in a mean duration: what came in between is told together
PROBED = 20_000  # durations from which a mean is estimated


@dataclass(frozen=True)
class Kind:
    """How long jobs take: what is not turned away after `EARLY` seconds takes 60 s in the mean, before the time limit."""

    name: str
    shape: str  # constant, lognormal (sigma 0.5) or pareto (the smallest 20 s, exponent 1.5: a third of the time is in the longest 2 %)
    rejected: float = 0.0
    limit: float = 300.0  # seconds, execution.time_limit

    def draw(self, seed: int, index: int) -> tuple[float, str]:
        """Seconds and status of a job: of its number alone, whatever ran before."""
        rng = random.Random(f"{seed}/{index}")
        if rng.random() < self.rejected and index >= len(BASELINES):
            return EARLY, "rejected"
        seconds = {"constant": lambda: 60.0, "lognormal": lambda: rng.lognormvariate(math.log(60) - 0.125, 0.5), "pareto": lambda: 20 * rng.paretovariate(1.5)}[
            self.shape
        ]()
        if seconds > self.limit:
            return self.limit, "timeout" if index >= len(BASELINES) else "ok"
        return seconds, "ok"

    def longest_and_mean(self, seed: int) -> tuple[float, float]:
        """The longest duration that may come, which the time limit bounds, and the mean."""
        drawn = [self.draw(seed, index)[0] for index in range(len(BASELINES), PROBED)]
        return 60.0 if self.shape == "constant" else self.limit, sum(drawn) / len(drawn)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("constant", "constant"), Kind("lognormal", "lognormal"), Kind("heavy-50", "pareto", rejected=0.5), Kind("heavy-90", "pareto", rejected=0.9),
    )
}  # fmt: skip


class Texts:
    """A screen that turns away nothing but texts that were asked: where only virtual time matters."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}

    def check(self, candidate: str) -> Verdict | None:
        return Verdict("duplicate", "duplicate", self._asked[candidate]) if candidate in self._asked else None

    def add(self, index: int, candidate: str) -> None:
        self._asked[candidate] = index


@dataclass
class Blind:
    """A proposer that notes how much it did not know when it was asked."""

    proposer: Proposer
    name: str = "simulated"
    asked: int = 0
    heard: int = 0  # results of functions that were proposed
    blind: int = 0  # asks before the first of them
    lacking: list[int] = field(default_factory=list)  # at each ask the functions that were dispatched and not heard of
    attempts: int = 0

    def tell(self, outcome: Outcome) -> None:
        self.heard += outcome.index >= len(BASELINES)
        self.proposer.tell(outcome)

    def ask(self, rng: random.Random) -> Proposal:
        self.attempts += 1
        return self.proposer.ask(rng)

    def dispatched(self) -> None:
        """One more ask was answered."""
        self.blind += not self.heard
        self.lacking.append(self.asked - self.heard)
        self.asked += 1


class Meter(Study):
    """A Study that lets `Blind` know when an ask is answered."""

    def _ask_proposer(self) -> Job:
        job = super()._ask_proposer()
        self.proposer.dispatched()  # type: ignore[attr-defined]
        return job


@dataclass(frozen=True)
class Measured:
    """What one simulated search gave; utilizations are shares, driver times milliseconds a dispatched function."""

    steady: float
    overall: float
    blind: int
    lacking: float
    driver: float  # real time of ask and tell
    processor: tuple[float, ...]  # processor time in the quarters of the search, a little of it the simulator's own: a busy machine leaves it nearly as it is
    attempts: float  # proposals a dispatched function


def simulate(
    workers: int, window: int, kind: Kind, *, functions: int, seed: int = 0, proposer: str = "random", screen: str = "texts", folder: str | None = None
) -> Measured:
    """One search of so many functions, baselines aside."""
    config = load("activation.yaml")
    space = config.space.space()
    settings = Settings(
        seed, window, functions + len(BASELINES), BASELINES, {"a": 1},
        {"quick": (0.5, ("a",)), "quality": (0.3, ("a",)), "first_seed": (0.2, ("a",))}, ("a",),
    )  # fmt: skip
    blind = Blind(_proposer(proposer, space))
    with tempfile.TemporaryDirectory(dir=folder) as directory, Log(Path(directory)) as log:
        study = Meter(log, blind, config.screen(space) if screen == "real" else Texts(), settings)
        return _drive(study, blind, workers, kind, seed)


def _proposer(name: str, space: SearchSpace) -> Proposer:
    shares = {"surrogate": 0.7, "genetic": 0.2, "bayes": 0.1} if name == "default" else {name: 1.0}
    return make_portfolio(shares, space, by_earnings=True)


def _drive(study: Meter, blind: Blind, workers: int, kind: Kind, seed: int) -> Measured:
    now, flying, total = 0.0, list[tuple[float, int, str]](), study.settings.evaluations
    jobs: dict[int, Job] = {}
    spent, quarters = 0.0, list[float]()
    seconds = 0.0  # of workers at work
    begun = ended = None  # when steady state began and ended, and `seconds` then
    filled = math.inf  # when the window could first keep an ask waiting
    longest, mean = kind.longest_and_mean(seed)
    used = time.process_time()
    while study.is_asking:
        if study.progress()["told"] == total:
            break  # the final check is no part of this
        start = time.perf_counter()
        fresh = study.ask(workers - len(flying)) if study.progress()["asked"] < total else []
        spent += time.perf_counter() - start
        for job in fresh:
            duration, status = kind.draw(seed, job.index)
            heapq.heappush(flying, (now + duration, job.index, status))
            jobs[job.index] = job
        asked = study.progress()["asked"]
        if asked >= len(BASELINES) + study.settings.window:
            filled = min(filled, now)
        if begun is None and now >= filled + longest:
            begun = (now, seconds)
        if fresh and asked == total:
            ended = (now, seconds)
        if asked - len(BASELINES) >= (len(quarters) + 1) * (total - len(BASELINES)) / 4:
            quarters.append(time.process_time() - used)
        then = flying[0][0] + mean / LOOKS
        seconds += len(flying) * (then - now)
        now = then
        done = []
        while flying and flying[0][0] <= now:  # what came in while the driver looked away is told together, as in a run
            finished, index, status = heapq.heappop(flying)
            seconds -= now - finished
            done.append(_result(jobs.pop(index), status))
        start = time.perf_counter()
        study.tell(done)
        spent += time.perf_counter() - start
    functions = blind.asked
    assert begun
    assert ended
    parts = [1e3 * 4 * (b - a) / functions for a, b in zip([0.0, *quarters], quarters, strict=False)]
    steady = (ended[1] - begun[1]) / workers / (ended[0] - begun[0])
    return Measured(
        steady, seconds / workers / now, blind.blind, sum(blind.lacking[len(blind.lacking) // 2 :]) / (functions - functions // 2),
        1e3 * spent / functions, tuple(parts), blind.attempts / functions,
    )  # fmt: skip


def _result(job: Job, status: str) -> Result:
    """What a worker might say: scores are of the candidate's text."""
    if status != "ok":
        return Result(job.index, job.candidate, status, "quick:mean" if status == "rejected" else "timeout", "quick")
    score = random.Random(job.candidate).uniform(0, 100)
    score = {"x": 10.0, "relu(x)": 50.0}.get(job.candidate, score)
    scores = {"quick:a:0": score / 2, "quality:a:0": score}
    objectives = {"complexity": float(len(job.candidate)), "saved_per_element": 1.0}
    if job.index < len(BASELINES):
        scores |= {f"{stage}:a:{s}": score for stage in ("first_seed", "full") for s in range(2)}
    return Result(job.index, job.candidate, "ok", None, "full" if job.index < len(BASELINES) else "quality", scores, objectives=objectives)


def functions_for(window: int, needed: int) -> int:
    """So many that the steady state is as long as the longest job may be, and half as long again."""
    return window + 5 * needed // 2


def _row(cells: Iterable[object]) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def _head(*titles: str) -> None:
    _row(titles)
    _row("---" for _ in titles)


def _cells(found: Measured, workers: int, mean: float) -> list[str]:
    needed = workers / mean
    load = f"{needed * found.driver / 1e3:.1%}"
    return [f"{found.steady:.1%}", f"{found.overall:.1%}", f"{found.blind}", f"{found.lacking:.0f}", f"{found.driver:.2f}", f"{needed:.1f}", load]


COLUMNS = ("used, steady", "used, all", "blind asks", "results lacking at an ask", "driver ms / function", "functions / s", "load of the driver")


def table_law(chosen: argparse.Namespace) -> None:
    """Each kind at the window of the law."""
    _head("workers", "durations", "longest / mean, s", "window by the law", "functions", *COLUMNS)
    for workers in chosen.workers:
        for kind in chosen.kinds:
            longest, mean = kind.longest_and_mean(chosen.seed)
            window = law(workers, longest, mean)
            functions = functions_for(window, window)
            found = simulate(workers, window, kind, functions=functions, seed=chosen.seed, folder=chosen.folder)
            _row([workers, kind.name, f"{longest:.0f} / {mean:.1f}", window, functions, *_cells(found, workers, mean)])


def table_windows(chosen: argparse.Namespace) -> None:
    """How the used share grows with the window."""
    workers, shares = min(chosen.workers), (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 2)
    print(f"{workers} workers; used in steady state at so many times the law's window")
    _head("durations", "law's window", *(f"{share:g}" for share in shares))
    for kind in chosen.kinds:
        needed = law(workers, *kind.longest_and_mean(chosen.seed))
        windows = [max(1, round(share * needed)) for share in shares]
        found = [simulate(workers, w, kind, functions=functions_for(w, needed), seed=chosen.seed, folder=chosen.folder) for w in windows]
        _row([kind.name, needed, *(f"{f.steady:.1%}" for f in found)])


def table_limits(chosen: argparse.Namespace) -> None:
    """The time limit bounds the longest job, so the window follows from it."""
    workers = min(chosen.workers)
    _head("workers", "durations", "time limit, s", "jobs cut off", "longest / mean, s", "window by the law", *COLUMNS[:4])
    for shape, rejected in (("lognormal", 0.0), ("pareto", 0.5)):
        for limit in (90.0, 150.0, 300.0, 600.0, 1200.0):
            kind = Kind(f"{shape}, {rejected:.0%} rejected", shape, rejected, limit)
            longest, mean = kind.longest_and_mean(chosen.seed)
            cut = sum(kind.draw(chosen.seed, i)[1] == "timeout" for i in range(PROBED)) / PROBED
            window = law(workers, longest, mean)
            found = simulate(workers, window, kind, functions=functions_for(window, window), seed=chosen.seed, folder=chosen.folder)
            _row([workers, kind.name, f"{limit:g}", f"{cut:.1%}", f"{longest:.0f} / {mean:.1f}", window, *_cells(found, workers, mean)[:4]])


def table_driver(chosen: argparse.Namespace) -> None:
    """Real time of ask and tell, with the real screen."""
    _head("proposer", "window", "functions", "proposals / function", "ms / function", "of processor, in each quarter", "functions / s at most")
    for proposer, window, functions in chosen.loads:
        more = {"seed": chosen.seed, "folder": chosen.folder, "proposer": proposer, "screen": "real"}
        found = simulate(max(1, window // 4), window, KINDS["lognormal"], functions=functions, **more)
        quarters = ", ".join(f"{ms:.1f}" for ms in found.processor)
        at_most = 1e3 * len(found.processor) / sum(found.processor)
        _row([proposer, window, functions, f"{found.attempts:.2f}", f"{found.driver:.1f}", quarters, f"{at_most:.0f}"])


TABLES = {"law": table_law, "windows": table_windows, "limits": table_limits, "driver": table_driver}
LOADS = (("random", 16, 1600), ("random", 1000, 3200), ("aging", 1000, 1600), ("genetic", 1000, 1600), ("default", 200, 800))  # window, functions


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=["law"], choices=[*TABLES, []], help=f"any of {', '.join(TABLES)}")
    parser.add_argument("--workers", nargs="+", type=int, default=None, help="default: 10 100 1000; of `windows` and `limits` 50")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="/dev/shm" if os.path.isdir("/dev/shm") else None, help="where the logs are; in memory by default")
    chosen = parser.parse_args(arguments)
    chosen.kinds, chosen.loads = [KINDS[name] for name in chosen.kinds], LOADS
    given = chosen.workers
    for name in chosen.tables or ["law"]:
        chosen.workers = given or ([10, 100, 1000] if name == "law" else [50])
        print(f"{name}:")
        TABLES[name](chosen)


if __name__ == "__main__":
    main()
