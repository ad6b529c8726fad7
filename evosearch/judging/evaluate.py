"""`evaluate(jobs, plan) -> Results`: filters, the quality test, longer training, or the final check. Never raises.

One job, one row: successive halving over steps, pairs and seeds. The worker goes on from the quick test to the quality test
and to the full one as long as the candidate is above the bars that the job carries. Every contestant is trained at the same
rates; the best is chosen on validation (a rate at which training breaks is out, as it would be for anyone who tunes), and
the test split is scored once, at that rate.

What a formula does is a status with a reason. But no formula opens a file: an OSError (a full disk, a cache that is not
writable) is the machine's fault and is answered as `error:environment`, which the study does not take for a verdict.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from evosearch.compiler.module import cache_directory, compile_graph
from evosearch.dataset.source import DataFile
from evosearch.job import Job, Result
from evosearch.judging import filters
from evosearch.judging.architectures import Layers, MakeLayer, factory
from evosearch.judging.architectures.slots import Product
from evosearch.judging.fingerprint import check_models_same
from evosearch.judging.objectives import TASKS, applies, direction, parse_pair
from evosearch.judging.state import SavedState
from evosearch.judging.tasks import files, task
from evosearch.judging.train import NonFinite, Trained, layers_of, train, untrained
from evosearch.language.candidate import inputs_of, parse_candidate
from evosearch.language.graph import Graph
from evosearch.meaning.facts import complexity, flops
from evosearch.meaning.gaussian import moments
from evosearch.plugin import PlugIn, install

ENTRY = "evosearch.judging.evaluate:worker"  # what executors load
PARAMETERS_A_UNIT = 1000  # of a network that is chosen, for one unit of its complexity


@dataclass(frozen=True)
class Stage:
    """Where and how long to train: pairs, steps, multipliers of the tuned rate, number of seeds; and what else to measure then."""

    pairs: tuple[str, ...]
    steps: int
    rates: tuple[float, ...]
    seeds: int = 1
    objectives: tuple[str, ...] = ()
    optimizer: str = "adam"
    rungs: tuple[str, ...] = ()  # of `full`: where it may end early, `first_rate` (of the first seed) and `first_seed` (at every rate)


@dataclass(frozen=True)
class Plan:
    """All that a worker needs to know besides the job."""

    quality: Stage
    full: Stage
    final: Stage
    device: str = "cpu"
    plugins: tuple[PlugIn, ...] = ()
    slot: str = "act"
    filters: filters.Limits = field(default_factory=filters.Limits)
    data: tuple[DataFile, ...] = ()
    quick: Stage | None = None  # before the quality test, fewer steps
    initialization: str = "lecun"  # or `gain`: weights scaled by the candidate's own 1 / sqrt(E f^2)
    states: str = ""  # folder of the states of long trainings, absolute; none without
    states_after: float = 300.0  # seconds
    gpu_share: float = 1.0  # of a GPU's memory: what is beyond it ends as the status memory, and leaves the neighbor's alone
    models: Mapping[str, str] = field(default_factory=dict)  # of the user's, with the digests of their files: `fingerprint.model_hashes`

    @property
    def pairs(self) -> tuple[str, ...]:
        """Every pair of every stage once."""
        stages = (self.quick, self.quality, self.full, self.final)
        return tuple(dict.fromkeys(pair for stage in stages if stage for pair in stage.pairs))

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_text(text: str) -> Plan:
        """Raises ValueError or KeyError for text that is not a plan."""
        data = json.loads(text)
        stages = {
            name: Stage(**data[name] | {key: tuple(data[name][key]) for key in ("pairs", "rates", "objectives", "rungs")})
            for name in ("quick", "quality", "full", "final")
            if data[name] is not None
        }
        plugins = tuple(PlugIn(**plugin) for plugin in data["plugins"])
        limits = filters.Limits(**data["filters"] | {"dtypes": tuple(data["filters"]["dtypes"])})
        given = tuple(DataFile(**file) for file in data["data"])
        return Plan(**data | stages | {"plugins": plugins, "filters": limits, "data": given})


# What torch's allocators say when they get no memory; they raise a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class _Rejected(Exception):
    """The candidate ends here, with a reason code and the figure that decided, if one did."""

    def __init__(self, reason: str, figure: float = math.nan) -> None:
        super().__init__(reason)
        self.figure = figure if math.isfinite(figure) else None


def worker(plan_text: str) -> Callable[[str], str]:
    """Loads plug-ins and data, does one complete training step (one on each pair of a user's file), and returns `run(job_text) -> result_text`."""
    torch.set_num_threads(1)
    plan = Plan.from_text(plan_text)
    if plan.gpu_share < 1 and torch.device(plan.device).type == "cuda":
        torch.cuda.set_per_process_memory_fraction(plan.gpu_share)
    install(plan.plugins, cache_directory().with_name("plugins"))
    files.install(plan.data)
    check_models_same(plan.models)
    for pair in plan.pairs:
        _prepare(pair, plan, first=pair == plan.quality.pairs[0])

    def run(job_text: str) -> str:
        (result,) = evaluate([Job.from_text(job_text)], plan)
        return result.to_text()

    return run


def _prepare(pair: str, plan: Plan, first: bool) -> None:
    """Loads a pair's data, and trains one step on the `first` and on a user's file. Raises ValueError that names the task and the user's line."""
    named, stand_in = parse_pair(pair), Product if plan.slot == "gate" else nn.ReLU
    if named.is_own_model:
        factory.find(named.architecture)  # here, so that no job has to import it
    try:
        task(named.task).load(named.variant)
        if first or TASKS[named.task].from_file:
            train(pair, lambda *features, **options: stand_in(), seed=0, rate=1.0, steps=1, device=plan.device, slot=plan.slot)
    except Exception as error:
        texts = {plugin.name for plugin in plan.plugins}
        places = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if os.path.basename(f.filename) in texts]
        where = f" in {places[-1]}" if places else ""
        raise ValueError(f"the task `{named.task}` failed{where}: {type(error).__name__}: {error}") from error


def evaluate(jobs: Sequence[Job], plan: Plan) -> list[Result]:
    """One Result a job; whatever a candidate does is a status with a reason."""
    return [_evaluate(job, plan) for job in jobs]


def _evaluate(job: Job, plan: Plan) -> Result:
    run = _Run(job, plan)
    status, reason, error, figure = "ok", None, None, None
    try:
        run.read()
        run.all_stages()
    except _Rejected as rejected:
        reason, figure = str(rejected), rejected.figure
        status = "nonfinite" if reason.startswith("nonfinite:") else "rejected"
    except NonFinite as cause:
        status, reason, error = "nonfinite", f"nonfinite:{run.stage}", str(cause)
    except Exception as cause:  # a candidate may do anything: what it did is the row
        error = str(cause)[:500]
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM or any(words in error for words in _NO_MEMORY):
            status, reason = "memory", f"memory:{run.stage}"
        elif isinstance(cause, OSError):
            status, reason = "error", "error:environment"
        else:
            status, reason = "error", f"error:{type(cause).__name__}"
    if reason != "error:environment":
        run.state.remove()
    return Result(
        job.index, job.candidate, status, reason, run.stage, run.scores, run.rates, run.objectives, run.seconds, plan.device,
        f"pid-{os.getpid()}", error, figure,
    )  # fmt: skip


class _Run:
    """One job on its way through the stages."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.job, self.plan = job, plan
        self.stage = "static"
        self.scores: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        self.objectives: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.state = SavedState(Path(plan.states or "-") / _state_name(job, plan), plan.states_after if plan.states else math.inf)
        self.gain = 1.0
        self.makers: list[MakeLayer] = []  # of each slot of a network, or the one of a layer
        self.layers: MakeLayer | Layers

    def read(self) -> None:
        candidate = parse_candidate(self.job.candidate)
        graphs = candidate.sites
        self.layers = layers_of(candidate, compile_graph)
        self.makers = list(self.layers.makers) if isinstance(self.layers, Layers) else [self.layers]
        self.objectives["complexity"] = float(sum(map(complexity, graphs)))
        if candidate.choices:  # what is chosen makes a network small or large
            count = sum(p.numel() for p in untrained(self.plan.full.pairs[0], candidate).parameters())
            self.objectives["complexity"] += round(count / PARAMETERS_A_UNIT, 3)
        if self.plan.initialization == "gain":
            self.gain = initial_gain(candidate.graph)
            self.objectives["gain"] = self.gain
        if "flops" in self.plan.full.objectives:
            self.objectives["flops"] = float(sum(map(flops, graphs)))

    def all_stages(self) -> None:
        with self._timed("numeric"):
            self._numeric()
        if self.job.stage == "final":
            with self._timed("final"):
                self._final()
            return
        if self.plan.quick is not None:
            with self._timed("quick"):
                self._quick(self.plan.quick)
        with self._timed("quality"):
            above = self._quality()
        if above:
            self._full(self.plan.full)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - start, 4)

    def _numeric(self) -> None:
        inputs = len(inputs_of(self.plan.slot))
        for make_layer in dict.fromkeys(self.makers):
            for finding in filters.all_filters(make_layer, self.plan.filters, self.plan.slot):
                if finding.reason:
                    raise _Rejected(finding.reason, finding.figure)
        self.objectives["saved_per_element"] = round(fmean(filters.saved_per_element(make_layer(8), inputs=inputs) for make_layer in self.makers), 3)

    def _quick(self, stage: Stage) -> None:
        """Raises _Rejected below the mean that the share to keep of the functions before reached."""
        mean = fmean(self._standardized("quick", pair, self._trained("quick", pair, stage).validation) for pair in stage.pairs)
        if mean < self._bar("quick"):
            raise _Rejected("quick:mean", mean)

    def _quality(self) -> bool:
        """Whether the candidate is good enough for the full stage. Raises _Rejected below a pair's threshold."""
        bar, standardized = self.job.bar, []
        for pair in self.plan.quality.pairs:
            trained = self._trained("quality", pair, self.plan.quality)
            score = trained.validation
            if bar and direction(pair) * (score - bar[f"quality:{pair}"]) < 0:
                raise _Rejected(f"quality:{pair}", score)
            standardized.append(self._standardized("quality", pair, score))
            self._measure(trained, self.plan.quality, pair, 0, "quality_")
        return fmean(standardized) >= self._bar("quality")

    def _bar(self, stage: str) -> float:
        """The standardized mean below which the candidate ends after the stage; there is none for a baseline."""
        return self.job.bar[f"bar:{stage}"] if self.job.bar else -math.inf

    def _trained(self, name: str, pair: str, stage: Stage) -> Trained:
        trained = self._best(pair, stage, 0)[1]
        self.scores[f"{name}:{pair}:0"] = trained.validation
        return trained

    def _standardized(self, name: str, pair: str, score: float) -> float:
        """In spreads of the baselines, as `search.scale` has it; 0 for a baseline, whose job has no bar."""
        if not self.job.bar:
            return 0.0
        distance = direction(pair) * (score - self.job.bar[f"center:{name}:{pair}"]) / self.job.bar[f"spread:{name}:{pair}"]
        return max(-3.0, min(3.0, distance))

    def _full(self, stage: Stage) -> None:
        """One rate of the first seed, every rate of it, all seeds: each on all pairs, as long as the candidate is above the rung's bar."""
        tried: dict[str, dict[float, Trained | NonFinite]] = {pair: {} for pair in stage.pairs}
        for rung in stage.rungs:
            rates = (min(stage.rates, key=lambda rate: abs(math.log(rate))),) if rung == "first_rate" else stage.rates
            with self._timed(rung):
                best = {pair: self._best(pair, replace(stage, rates=rates), self.job.seed, tried[pair])[1] for pair in stage.pairs}
                self.scores |= {f"{rung}:{pair}:0": trained.validation for pair, trained in best.items()}
                mean = fmean(self._standardized(rung, pair, trained.validation) for pair, trained in best.items())
            if mean < self._bar(rung):
                return
        with self._timed("full"):
            for pair in stage.pairs:
                self._on_seeds(pair, stage, "full", self.job.seed, *self._best(pair, stage, self.job.seed, tried.pop(pair)))

    def _final(self) -> None:
        for pair in self.job.pairs:
            self._on_seeds(pair, self.plan.final, "final", self.job.seed, *self._best(pair, self.plan.final, self.job.seed))

    def _on_seeds(self, pair: str, stage: Stage, name: str, first_seed: int, best: float, first: Trained) -> None:
        """The best rate of the first seed on every seed; the test split once a seed."""
        self.rates[f"{name}:{pair}"] = best
        for k in range(stage.seeds):
            trained = first if k == 0 else self._train(pair, first_seed + k, best, stage)
            self._measure(trained, stage, pair, first_seed + k if name == "final" else k)
            if name == "final":
                self.scores[f"final:{pair}:{first_seed + k}"] = trained.test()
            else:
                self.scores[f"full:{pair}:{k}"] = trained.validation
                self.scores[f"test:{pair}:{k}"] = trained.test()

    def _best(self, pair: str, stage: Stage, seed: int, tried: dict[float, Trained | NonFinite] | None = None) -> tuple[float, Trained]:
        """The rate with the best validation score, and its run; what was `tried` is not trained again. Raises NonFinite when training breaks at every rate."""
        tried = {} if tried is None else tried
        for rate in stage.rates:
            if rate not in tried:
                try:
                    tried[rate] = self._train(pair, seed, rate, stage)
                except NonFinite as cause:
                    tried[rate] = cause
        trained = {rate: found for rate in stage.rates if isinstance(found := tried[rate], Trained)}
        if not trained:
            raise next((cause for cause in tried.values() if isinstance(cause, NonFinite)), ValueError(f"a stage needs at least one rate; {pair} has none"))
        best = max(trained, key=lambda rate: direction(pair) * trained[rate].validation)
        return best, trained[best]

    def _measure(self, trained: Trained, stage: Stage, pair: str, seed: int, prefix: str = "") -> None:
        """The stage's objectives as `noise:PAIR:SEED`, those that the pair has."""
        names = [name for name in stage.objectives if applies(name, pair)]
        if names:
            self.objectives |= {f"{prefix}{name}:{pair}:{seed}": value for name, value in trained.measure(names).items()}

    def _train(self, pair: str, seed: int, rate: float, stage: Stage) -> Trained:
        return train(
            pair, self.layers, seed, rate, stage.steps, self.plan.device, self.plan.slot,
            optimizer=stage.optimizer, gain=self.gain, state=self.state,
        )  # fmt: skip


def _state_name(job: Job, plan: Plan) -> str:
    """The name of a job's saved states, by all that its trainings are a function of."""
    pairs = {parse_pair(pair).architecture for pair in (*plan.pairs, *job.pairs)}
    models = [factory.source(architecture) for architecture in sorted(pairs) if ":" in architecture] if plan.states else []
    parts = [job.to_text(), torch.__version__, plan.initialization, plan.slot, *(p.digest for p in plan.plugins), *(f.sha256 for f in plan.data)]
    return hashlib.sha256("\n".join(parts).encode() + b"".join(models)).hexdigest()[:32]


def initial_gain(graph: Graph) -> float:
    """1 / sqrt(E f^2) under a standard normal input, which keeps the variance from layer to layer. Raises _Rejected without one."""
    gain_squared = moments(graph).gain_squared
    if not (math.isfinite(gain_squared) and gain_squared > 0):
        raise _Rejected("numeric:gain", gain_squared)
    return math.sqrt(gain_squared)
