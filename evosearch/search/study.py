"""Study: ask / tell over the log, with the window that makes a search a function of (space, seed, window, results).

Dispatched jobs are numbered. Ask k sees exactly the results with index <= k - window, in index order, whatever order
they came in. The randomness of ask k is derived from (seed, k). Resume replays the asks; what the log answers is told.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from evosearch.job import Job, Result
from evosearch.language.candidate import parse_candidate
from evosearch.proposers import SCREENED, Outcome, Proposal, Proposer
from evosearch.search.pick import Pick, averaged, contestants, is_found, pick, seed_noise
from evosearch.search.scale import CLIP, GOALS, PREFIX, Goal, Scale, freeze, point, promote_bar, standardize
from evosearch.search.store import Log, LogError, Row

FINAL_SEED = 1000  # seeds that the search never used
SEARCH_SEEDS = 800  # of its trainings, the first of at most 100 in a row: below those of the final check, whatever the seed of the search is
FINAL_INDEX = 10**9  # final jobs are numbered apart, so that a longer search can follow a finished one
FRESH = 1_000_000  # between the seeds of a function's evaluations: beyond those of every check, verify's and transfer's too
MAX_ATTEMPTS = 300
UNFINISHED = ("timeout", "memory", "crash", "error", "lost", "quarantined")  # ended by a limit or a fault, not by a verdict

KILLS = ("crash:SIGKILL", "crash:server", "lost:server", "quarantined:lost_workers")  # ended by no limit, and by no fault that one can see


class ScreenLike(Protocol):
    """The driver's own verdicts (meaning.screen.Screen)."""

    def check(self, candidate: str) -> Any:
        """None, or a verdict with `status`, `reason`, `duplicate_of`."""

    def add(self, index: int, candidate: str) -> None:
        """Counts a dispatched candidate as asked."""


@dataclass(frozen=True)
class Settings:
    """What a study is a function of, besides its proposer and the results."""

    seed: int
    window: int
    evaluations: int  # dispatched jobs, baselines included, final check not
    baselines: tuple[tuple[str, str], ...]  # (name, formula)
    directions: Mapping[str, int]
    stages: Mapping[str, tuple[float, tuple[str, ...]]]  # those after which a share of all functions goes on: the share, the pairs
    final_pairs: tuple[str, ...]
    trivial: str = "identity"  # the baseline that gives what no layer gives
    usual: str = "relu"  # and what the usual one gives: the quality bar is half way between
    goals: tuple[Goal, ...] = GOALS  # what selection optimizes beside the mean
    check_controls: bool = False  # whether the final check has the best of each control too
    tuning: int = 0  # of the evaluations the last so many, which the tuner proposes
    retrain_after: int = 0  # proposals of a find that is known already; 0: never
    seeds: tuple[tuple[str, str], ...] = ()  # asked right after the baselines, by (proposer, candidate)


class Study:
    """One run: proposes jobs, takes results, keeps the log, knows the scale and the pick."""

    def __init__(self, log: Log, proposer: Proposer, screen: ScreenLike, settings: Settings, tuner: Proposer | None = None) -> None:
        assert (tuner is None) == (settings.tuning == 0)
        self.log, self.proposer, self.screen, self.settings = log, proposer, screen, settings
        self.tuner = tuner
        self._seed_of_trainings = settings.seed % SEARCH_SEEDS
        self.scale: Scale | None = None
        self._noise = 0.0
        self.replayed = 0
        self._results: dict[int, Row] = {}
        self._told = 0  # of them those of the search
        self._jobs: dict[int, Job] = {}
        self._proposers: dict[int, str] = {}
        self._pending_rows: dict[int, list[Row]] = {}
        self._visible = 0  # results with a smaller index have been told to the proposer
        self._means: dict[str, list[float]] = {stage: [] for stage in settings.stages}  # of all but baselines, sorted; what did not finish counts as the worst
        self._proposed_again: Counter[int] = Counter()  # by the index of the find's first evaluation
        self._told_before: dict[str, list[dict[str, float]]] = {}  # objectives by candidate
        self._next = 0
        self._search_end = settings.evaluations
        self._tune_from = settings.evaluations - settings.tuning
        self._tuned = [(mark["from"], mark["to"]) for mark in log.marks("tuning")]  # a search that was extended tuned before it went on
        self._queue: list[Job] = []
        self._final: list[Job] | None = None
        self._logged = {row["index"]: row for row in log.rows() if row["index"] is not None}
        functions = sum(index < FINAL_INDEX for index in self._logged)
        self.resumed = functions, len(self._logged) - functions  # what the log answers: of the search, of the final check
        self._reached = 1 + max((index for index in self._logged if index < FINAL_INDEX), default=-1)
        if settings.evaluations < self._reached:
            raise ValueError(
                f"budget.evaluations is a total: {log.directory} has dispatched {self._reached} functions; received {settings.evaluations}: "
                f"give at least {self._reached}"
            )

    # -- ask ---------------------------------------------------------------------------------------------------------

    def wants_more(self) -> bool:
        """Whether a job is still to be asked or told."""
        return self._final is None or bool(self._queue) or any(job.index not in self._results for job in self._final)

    def ask(self, slots: int) -> list[Job]:
        """Up to `slots` jobs to be dispatched now; none while the window waits for results."""
        jobs: list[Job] = []
        while len(jobs) < slots:
            job = self._queue.pop(0) if self._queue else self._ask_one()
            if job is None:
                break
            answer = self._logged.get(job.index)
            if answer is None:
                jobs.append(job)
            else:
                self._replay(job, answer)
        return jobs

    def _ask_one(self) -> Job | None:
        if self._final is not None:
            return None
        count = len(self.settings.baselines)
        if self._next < min(count, self._search_end):
            name, formula = self.settings.baselines[self._next]
            return self._number(Proposal(str(parse_candidate(formula)), (name,), "baseline"), {}, [])
        if self._next >= self._search_end:
            return self._ask_final()
        if not self._told_up_to(max(count - 1, self._next - self.settings.window)):
            return None
        return self._ask_proposer()

    def _usual(self) -> str:
        return str(parse_candidate(dict(self.settings.baselines)[self.settings.usual]))

    def _told_up_to(self, last: int) -> bool:
        """Tells the proposer every result with index <= last, in order; False while one is missing."""
        if any(index not in self._results for index in range(self._visible, last + 1)):
            return False
        self._freeze()
        while self._visible <= last:
            self._tell_proposer(self._results[self._visible])
            self._visible += 1
        return True

    def _ask_proposer(self) -> Job:
        k = self._next
        rng = random.Random(int.from_bytes(hashlib.sha256(f"{self.settings.seed}/{k}".encode()).digest()))
        proposer = self._proposer_of(k)
        screened: list[Row] = []
        for attempt in range(MAX_ATTEMPTS):
            seed = self._seed(k) if attempt == 0 else None
            proposal = proposer.ask(rng) if seed is None else seed
            verdict = self.screen.check(proposal.candidate)
            if verdict is None:
                return self._number(proposal, self._bar(), screened)
            screened.append(_screened_row(k, attempt, proposal, verdict, self._seed_of_trainings))
            if verdict.duplicate_of is not None and self._is_forgotten(verdict.duplicate_of, proposal):
                known = replace(proposal, candidate=self._jobs[verdict.duplicate_of].candidate)
                return self._number(known, self._bar(), screened, self._proposed_again[verdict.duplicate_of] // self.settings.retrain_after)
            self._tell(Outcome(SCREENED, proposal.candidate, proposal.proposer, verdict.status, {}))  # visible at once: it depends on no result
        raise ValueError(
            f"{MAX_ATTEMPTS} proposals in a row were screened out at ask {k} (last: {screened[-1]['reason']}); "
            "the space is used up or too narrow: widen it or lower budget.evaluations"
        )

    def _proposer_of(self, k: int) -> Proposer:
        """The tuner for the last asks of the search, and for what was the last of it before it was extended."""
        if self.tuner is None:
            return self.proposer
        if not any(begin <= k < end for begin, end in self._tuned):
            if k < max(self._tune_from, self._reached):  # what was asked before a smaller total was given remains the proposers'
                return self.proposer
            self._tuned.append((k, self._search_end))
            self.log.append([{"type": "tuning", "from": k, "to": self._search_end}])
        return self.tuner

    def _is_forgotten(self, index: int, proposal: Proposal) -> bool:
        """Whether a find is to be trained again: it was proposed once more, by now often enough (AutoML-Zero, arXiv 2003.03384, section 3.1)."""
        if not self.settings.retrain_after or not is_found(vars(proposal)) or not is_found({"proposer": self._proposers[index]}):
            return False
        self._proposed_again[index] += 1
        return self._proposed_again[index] % self.settings.retrain_after == 0

    def _seed(self, k: int) -> Proposal | None:
        """The seed that ask k is for: of the ask's number alone, whatever is told by then."""
        mine = self.settings.seeds[k - len(self.settings.baselines) :][:1]
        return Proposal(mine[0][1], (), mine[0][0]) if mine else None

    def _number(self, proposal: Proposal, bar: Mapping[str, float], screened: list[Row], again: int = 0) -> Job:
        job = Job(self._next, proposal.candidate, self._seed_of_trainings + again * FRESH, "search", (), dict(bar))
        self._register(job, proposal, screened)
        self._next += 1
        self.screen.add(job.index, job.candidate)
        return job

    def _register(self, job: Job, proposal: Proposal, screened: list[Row]) -> None:
        row: Row = _row(job.index, len(screened), proposal, job.seed) | {"index": job.index}
        self._jobs[job.index], self._proposers[job.index] = job, proposal.proposer
        self._pending_rows[job.index] = [*screened, row]

    def _bar(self) -> dict[str, float]:
        assert self.scale is not None
        bar = {}
        for stage, (share, pairs) in self.settings.stages.items():
            bar[f"bar:{stage}"] = promote_bar(self._means[stage], share)
            for pair in pairs:
                bar[f"center:{stage}:{pair}"] = self.scale.center[f"{stage}:{pair}"]
                bar[f"spread:{stage}:{pair}"] = self.scale.spread[f"{stage}:{pair}"]
        return bar | {f"quality:{pair}": self.scale.quality[pair] for pair in self.settings.stages["quality"][1]}

    def _ask_final(self) -> Job | None:
        if any(index not in self._results for index in range(self._next)):
            return None
        self._freeze()
        self._final = []
        first = FINAL_INDEX + 1000 * self._search_end
        for candidate in contestants(self.rows(), self.pick(), self._usual(), controls=self.settings.check_controls):
            for pair in self.settings.final_pairs:
                job = Job(first + len(self._final), candidate, FINAL_SEED, "final", (pair,), {})
                self._register(job, Proposal(candidate, (), "final"), [])
                self._final.append(job)
        self._queue = list(self._final)
        return self._queue.pop(0) if self._queue else None

    # -- tell --------------------------------------------------------------------------------------------------------

    def tell(self, results: Sequence[Result]) -> None:
        """Logs results (fsynced before they count); one that was told already is dropped.

        Raises ValueError for a result that is no verdict on its candidate; that one is not logged, and its job is asked again
        by whoever resumes.
        """
        fresh: dict[int, list[Row]] = {}
        refusals: list[str] = []
        for result in results:
            job = self._jobs.get(result.index)
            if job is None or result.candidate != job.candidate:
                raise ValueError(f"a result for job {result.index} (`{result.candidate[:60]}`) that was not asked")
            if result.index in self._results or result.index in fresh:
                continue
            refusal = self._no_verdict(result)
            if refusal:
                refusals.append(refusal)
                continue
            *screened, row = self._pending_rows[result.index]
            fresh[result.index] = [*screened, _filled(row, result)]
        if fresh:
            self.log.append([{"type": "result", "rows": rows} for rows in fresh.values()])  # it counts once this returns
            for index, rows in fresh.items():
                self._keep(index, rows[-1])
            self._freeze()
        if self.log.is_full():
            self.close_segment()
        if refusals:
            raise ValueError(refusals[0])

    def _no_verdict(self, result: Result) -> str | None:
        """Why the search cannot go on with this result: the machine failed, or a baseline, from which the scale follows, was not finished."""
        error = result.error or result.reason
        if result.reason == "error:environment":
            return f"a worker cannot do its work ({error}); nothing is logged for job {result.index}: mend that and resume"
        if result.index < len(self.settings.baselines) and result.status in UNFINISHED:
            name, _ = self.settings.baselines[result.index]
            what = f"the baseline {name} did not finish: {result.reason} ({error}); every score is in units of the baselines"
            if result.reason in KILLS:
                return f"{what}, and this one's worker was killed from outside: `evosearch resume {self.log.directory}` asks it again"
            return f"{what}: resume with a larger execution.time_limit or execution.memory_limit_gb, or leave it out in a new --out"
        return None

    def _replay(self, job: Job, answer: Row) -> None:
        if answer["candidate"] != job.candidate:
            raise LogError(
                f"job {job.index} of the log is `{answer['candidate'][:80]}`, but this code, space and seed propose "
                f"`{job.candidate[:80]}`: resume with the evosearch and the space that started the run"
            )
        self._keep(job.index, answer)
        self.replayed += 1

    def _keep(self, index: int, row: Row) -> None:
        self._results[index] = row
        self._told += index < FINAL_INDEX
        del self._pending_rows[index]

    def _freeze(self) -> None:
        count = len(self.settings.baselines)
        if self.scale is not None or any(i not in self._results for i in range(count)):
            return
        scores = {name: self._results[i]["scores"] for i, (name, _) in enumerate(self.settings.baselines)}
        for i, (name, _) in enumerate(self.settings.baselines):
            if name in (self.settings.trivial, self.settings.usual) and not scores[name]:
                row = self._results[i]
                raise ValueError(
                    f"the quality bar follows from the baselines {self.settings.trivial} and {self.settings.usual}, and `{name}` has no score: "
                    f"{row['reason']} ({row['error']}); "
                    "change judging so that it trains, in a new --out"
                )
        self.scale = freeze(scores, self.settings.directions, self.settings.trivial, self.settings.usual)
        self._noise = seed_noise([self._results[i] for i in range(count)], self.scale) * math.sqrt(2)  # that of one seed, from the baselines' two
        frozen = {"center": dict(self.scale.center), "spread": dict(self.scale.spread), "quality": dict(self.scale.quality)}
        logged = self.log.marks("scale")
        if not logged:
            self.log.append([{"type": "scale", **frozen}])
        elif any(logged[-1][name] != values for name, values in frozen.items()):
            raise LogError("this code makes another scale from the log's baselines than the run froze: resume with the evosearch that started it")

    def _tell_proposer(self, row: Row) -> None:
        assert self.scale is not None
        objectives = standardize(row, self.scale, self.settings.directions, self.settings.goals)
        if row["proposer"] != "baseline":
            for stage, means in self._means.items():
                insort(means, objectives.get(f"{stage}_mean", -CLIP))
        values = point({**row["objectives"], **objectives}, self.settings.goals, "quality_")
        told = {name: value for name, value in values.items() if value is not None}
        told |= {f"{stage}_mean": objectives[f"{prefix}mean"] for stage, prefix in PREFIX.items() if f"{prefix}mean" in objectives}
        if self.settings.retrain_after:
            before = self._told_before.setdefault(row["candidate"], [])
            before.append(told)
            told = averaged(before)
        self._tell(Outcome(row["index"], row["candidate"], row["proposer"], row["status"], told, self._noise))

    def _tell(self, outcome: Outcome) -> None:
        for proposer in (self.proposer, self.tuner):
            if proposer is not None:
                proposer.tell(outcome)

    # -- budget, pause, reading --------------------------------------------------------------------------------------

    def stop_asking(self) -> None:
        """The time budget is over: what was asked, in this session or before, is tuned (if it is), and once that is told checked."""
        asked = max(self._next, self._reached, len(self.settings.baselines))
        under_way = [end for begin, end in self._tuned if begin <= asked <= end]
        if self._final is None and under_way:
            self._search_end = min(self._search_end, max(asked, *under_way))
        elif self._final is None and asked < self._tune_from:
            self._tune_from, self._search_end = asked, asked + self.settings.tuning

    @property
    def is_blocked(self) -> bool:
        """Whether the next ask of the search waits for a result that it has to see, the baselines aside."""
        is_searching = self.scale is not None and self._final is None and self._next < self._search_end
        return is_searching and any(index not in self._results for index in range(self._visible, self._next - self.settings.window + 1))

    @property
    def is_asking(self) -> bool:
        """Whether the search goes on: the final check has not begun."""
        return self._final is None

    def close_segment(self) -> None:
        """Closes the open segment into Parquet, objectives filled in."""
        self.log.close_segment([self._with_objectives(r) for record in self.log.records if record["type"] == "result" for r in record["rows"]])

    def _with_objectives(self, row: Row) -> Row:
        if self.scale is None or row["index"] is None or row["index"] >= FINAL_INDEX:
            return row
        return {**row, "objectives": {**row["objectives"], **standardize(row, self.scale, self.settings.directions, self.settings.goals)}}

    def rows(self) -> list[Row]:
        """Every search row told so far, in index order, objectives filled in."""
        return [self._with_objectives(self._results[i]) for i in sorted(self._results) if i < FINAL_INDEX]

    def pick(self) -> Pick | None:
        """The recommended function of the rows told so far."""
        return pick(self.rows(), self.scale, self.settings.goals) if self.scale else None

    def final_rows(self) -> list[Row]:
        """The rows of the final check that belong to this length of search."""
        return [self._results[job.index] for job in self._final or [] if job.index in self._results]

    def progress(self) -> dict[str, int]:
        """Counts for a progress line: asked, told, end of the search, and jobs altogether where known; at once, however many were told."""
        return {"asked": self._next, "told": self._told, "evaluations": self._search_end,
                "final": len(self._final or []), "final_told": len(self.final_rows())}  # fmt: skip


def _row(ask: int, attempt: int, proposal: Proposal, seed: int) -> Row:
    return {
        "index": None, "ask": ask, "attempt": attempt, "candidate": proposal.candidate,
        "canonical_id": parse_candidate(proposal.candidate).canonical_id, "parents": " ".join(proposal.parents),
        "proposer": proposal.proposer, "stage": "", "status": "", "reason": None, "duplicate_of": None, "seed": seed,
        "device": None, "worker": None, "error": None, "figure": None, "objectives": {}, "scores": {}, "rates": {}, "seconds": {},
    }  # fmt: skip


def _screened_row(ask: int, attempt: int, proposal: Proposal, verdict: Any, seed: int) -> Row:
    stage = verdict.reason.partition(":")[0]
    return _row(ask, attempt, proposal, seed) | {
        "stage": stage, "status": verdict.status, "reason": verdict.reason, "duplicate_of": verdict.duplicate_of,
        "figure": verdict.figure,
    }  # fmt: skip


def _filled(row: Row, result: Result) -> Row:
    return row | {
        "stage": result.stage, "status": result.status, "reason": result.reason, "device": result.device, "worker": result.worker,
        "error": result.error, "figure": result.figure, "objectives": dict(result.objectives), "scores": dict(result.scores), "rates": dict(result.rates),
        "seconds": dict(result.seconds),
    }  # fmt: skip
