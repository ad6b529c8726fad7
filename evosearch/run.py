"""The loop that joins proposer, study and executor: one run, from configuration to the final check."""

from __future__ import annotations

import math
import os
import platform
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from evosearch import __version__
from evosearch.compiler.module import check_layer_cache
from evosearch.config import ConfigError, digest, read_run_of, run_file
from evosearch.dataset.read import check_unchanged
from evosearch.dataset.source import DataFile
from evosearch.execution import Cluster, Executor, make_executor
from evosearch.job import FULL_TEST
from evosearch.judging.baselines import QUALITY_BAR
from evosearch.judging.device import check_device
from evosearch.judging.evaluate import ENTRY, Plan, Stage
from evosearch.judging.filters import Limits
from evosearch.judging.fingerprint import data_hash, model_hashes
from evosearch.judging.objectives import check_models_given, direction
from evosearch.judging.preflight import check_models, check_networks
from evosearch.judging.tasks.files import install
from evosearch.meaning.screen import Screen
from evosearch.plugin import PlugIn, check_given
from evosearch.proposers import Proposer
from evosearch.proposers.registry import make_portfolio, make_tuner
from evosearch.search.clock import Clock, seconds_spent
from evosearch.search.store import TEMPORARY, Log, read_journal, unwritable, write_atomically
from evosearch.search.study import Settings, Study
from evosearch.search.window import Watch, unfed
from evosearch.sections import Config
from evosearch.space import SearchSpace
from evosearch.stopping import Stop, heard

_SHOWN = 3  # keys of a configuration that differs
_STATUS = 1.0  # seconds between two writings of status.json, each with two fsyncs
STATES = "states"  # the folder of long trainings under way
MAY_CHANGE = r"(budget|execution)\..*|data\..*\.path"  # on resume; the device is part of the fingerprint and may not
_PACKAGES = ("torch", "numpy", "deap", "optuna", "sympy", "pyarrow", "ray", "scikit-image", "scikit-learn")

OnProgress = Callable[[Study, Executor], None]


def space_of(config: Config) -> SearchSpace:
    """The search space of a configuration. Raises ValueError."""
    return config.space.space()


def plan_of(config: Config, plugins: Sequence[PlugIn] = (), directory: Path | None = None) -> Plan:
    """What the workers need to know of a configuration; with a run's `directory` long trainings are kept there."""
    sections = {name: getattr(config.judging, name) for name in ("quick", "quality", "full", "final")}
    rungs = tuple(stage for stage in FULL_TEST if stage in config.judging.shares)
    asked = {"quality": tuple(config.judging.goals or ()), "full": tuple(config.judging.objectives)}
    stages = {
        name: Stage(tuple(s.pairs), s.steps, tuple(s.rates), s.seeds, asked.get(name, ()), s.optimizer, rungs if name == "full" else ())
        for name, s in sections.items()
        if s is not None
    }
    after = config.execution.save_states_after
    travelling = {plugin.stem for plugin in plugins}  # the others have to be on every node
    installed = {name: digest for name, digest in model_hashes(config.judging.pairs).items() if name.partition(":")[0] not in travelling}
    return Plan(
        **stages, device=config.execution.device, plugins=tuple(plugins), slot=config.space.slot, filters=_limits(config), data=files_of(config),
        initialization=config.judging.initialization, gpu_share=min(1.0, config.execution.gpus or 1.0), states_after=after,
        models=installed, states=os.path.abspath(directory / STATES) if directory and after else "",
    )  # fmt: skip


def check_proposers(config: Config, space: SearchSpace) -> None:
    """Raises ValueError for a proposer, control or tuning that cannot work in the space."""
    make_portfolio(config.proposers, space, config.controls)
    _tuner(config, space)


def files_of(config: Config) -> tuple[DataFile, ...]:
    """The data files of a configuration."""
    return tuple(DataFile(name, **file.model_dump()) for name, file in config.data.items())


def install_data(config: Config) -> None:
    """Makes the data files of a configuration tasks. Raises DataError for one that is not as it was described."""
    files = files_of(config)
    for file in files:
        check_unchanged(file)
    install(files)


def _limits(config: Config) -> Limits:
    fields = config.judging.filters.model_dump(exclude={"cost"})
    return Limits(**fields | {"dtypes": tuple(fields["dtypes"])})


def open_study(config: Config, log: Log) -> Study:
    """The study over an open log; asks that the log answers are replayed as they come."""
    space = space_of(config)
    judging = config.judging
    settings = Settings(
        seed=config.seed, window=config.window, evaluations=config.budget.evaluations,
        baselines=tuple(config.baseline_texts().items()),
        directions={pair: direction(pair) for pair in config.judging.pairs},
        stages={stage: (share, tuple(pairs)) for stage, (share, pairs) in judging.shares.items()}, final_pairs=tuple(judging.final.pairs),
        trivial=QUALITY_BAR[space.slot][0], usual=QUALITY_BAR[space.slot][1], goals=config.judging.selection(),
        check_controls=config.network is not None, seeds=tuple((f"seed:{seed.source}", seed.candidate) for seed in config.asked_first),
        tuning=config.tuning.evaluations if config.tuning else 0, retrain_after=config.retrain_after or 0,
    )  # fmt: skip
    proposer = make_portfolio(config.proposers, space, config.controls, config.judging.goals, config.sharing == "earned")
    return Study(log, proposer, screen_of(config, space), settings, _tuner(config, space))


def _tuner(config: Config, space: SearchSpace) -> Proposer | None:
    return make_tuner(config.tuning.survivors, config.tuning.sampler, space, config.controls) if config.tuning else None


def screen_of(config: Config, space: SearchSpace) -> Screen:
    """The driver's own checks of a configuration."""
    return config.screen(space)


def prepare(directory: Path, config: Config, accept_new_environment: bool = False, plugins: Sequence[PlugIn] = ()) -> Config:
    """Makes the folder of a new run; for an existing one, checks what may change. Returns the configuration to run.

    Whatever can be known to fail is said before anything is written. Raises ConfigError when `directory` holds something
    else or what must not change has changed, LogError when it cannot be written or is in use.
    """
    if not config.execution.gpus:  # else the workers have them, and say so if not
        try:
            check_device(config.execution.device)
        except ValueError as error:
            raise ConfigError(f"execution.device: {error}") from None
    check_layer_cache()
    install_data(config)
    space = space_of(config)
    space.sample(random.Random(0))
    check_proposers(config, space)
    check_models(config.judging.pairs, space.slot, per_channel=space.per_channel)
    if config.network is not None:
        check_networks(config.judging.pairs, tuple(config.network.slots), config.network.choices)
    if not os.path.exists(directory / "run.yaml"):
        return _begin(directory, config, plugins)
    before, recorded = stored(directory, plugins)
    _refuse_changes(directory, before, config)
    now = environment(config, plugins)
    changed = [key for key in ("torch", "device", "cpu", "data", "models") if recorded.get(key) != now.get(key)]
    if changed and not accept_new_environment:
        shown = "; ".join(f"{key}: {recorded.get(key)} -> {now.get(key)}" for key in changed)
        raise ConfigError(f"{directory} was made in another environment ({shown}); scores would not compare. --accept-new-environment goes on all the same")
    return config


def _begin(directory: Path, config: Config, plugins: Sequence[PlugIn]) -> Config:
    """A journal first, then run.yaml, both under the lock: of two drivers that begin at once, one writes."""
    _refuse_foreign(directory)
    text = run_file(config, environment(config, plugins))
    with Log(directory) as log:
        if not (directory / "run.yaml").exists():
            log.append([_mark(config, text)])
            write_atomically(directory / "run.yaml", text.encode())
            return config
    _refuse_changes(directory, stored(directory, plugins)[0], config)
    return config


def _refuse_foreign(directory: Path) -> None:
    """Raises for a folder without run.yaml that holds more than a beginning that did not get as far."""
    if not directory.name:
        raise ConfigError(f"a run needs a folder of its own, e.g. --out runs/first; received `{directory}`")
    try:
        held = {file.name for file in directory.iterdir() if not file.name.startswith(TEMPORARY)}
        held -= {"lock"} | ({"results"} if (directory / "results").is_dir() and not any((directory / "results").iterdir()) else set())
        if "journal.jsonl" in held and {r["type"] for r in read_journal(directory / "journal.jsonl")[0]} <= {"open", "config"}:
            held.remove("journal.jsonl")
    except FileNotFoundError:
        return  # it is made now
    except OSError as error:
        raise unwritable(directory, error) from error
    if "journal.jsonl" in held:
        raise ConfigError(f"{directory} holds the journal of a run whose run.yaml is gone; restore it from a copy, or choose another folder with --out")
    if held:
        raise ConfigError(f"{directory} exists and is not a run of evosearch (it holds {min(held)[:60]}); choose another folder with --out")


def stored(directory: Path, plugins: Sequence[PlugIn] = ()) -> tuple[Config, dict[str, Any]]:
    """The configuration and environment of an existing run.

    Raises ConfigError for a run.yaml that evosearch did not write so, PluginError unless `plugins` are those of the run, and
    LogError.
    """
    return read_run_of(directory, lambda recorded: check_given(recorded, plugins, directory))


def trusted(directory: Path, plugins: Sequence[PlugIn] = (), models: Sequence[str] = ()) -> Config:
    """`stored`, to be trained: raises ValueError unless the models that it would import are `models` or of `plugins`, as their user said."""
    config = stored(directory, plugins)[0]
    check_models_given(config.judging.pairs, models, [plugin.stem for plugin in plugins], directory)
    return config


def _mark(config: Config, text: str) -> dict[str, Any]:
    """The journal's record of what the run was begun with, and of run.yaml's bytes: that alone could be changed without a trace."""
    return {"type": "config", "sha256": digest(Config.model_validate(config.model_dump())), "file": sha256(text.encode()).hexdigest()}


def _refuse_changes(directory: Path, before: Config, after: Config) -> None:
    for name in before.data.keys() & after.data.keys():
        old, new = before.data[name].sha256, after.data[name].sha256
        if old != new:
            what = f"{after.data[name].path} has changed since {directory} was begun (SHA-256 {old[:12]}, now {new[:12]})"
            raise ConfigError(f"{what}; restore it, or use another --out")
    changed = [text for key, text in _changes(before, after).items() if not re.fullmatch(MAY_CHANGE, key)]
    if changed:
        shown = "; ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
        raise ConfigError(f"choose another --out: {directory} was started with another configuration, and only budget and execution may change ({shown})")


def _changes(before: Config, after: Config) -> dict[str, str]:
    """The leaves that differ by key, each as `key: old -> new`; of a list, what went and what came."""
    old, new = _leaves(before.model_dump(mode="json")), _leaves(after.model_dump(mode="json"))
    found = {}
    for key in sorted({*old, *new}):
        left, right = old.get(key), new.get(key)
        if left == right:
            continue
        if isinstance(left, list) and isinstance(right, list) and any(v not in right for v in left) | any(v not in left for v in right):
            left, right = [v for v in left if v not in right] or "none", [v for v in right if v not in left] or "none"
        found[key] = f"{key}: {_short(left)} -> {_short(right)}"
    return found


def _leaves(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def environment(config: Config, plugins: Sequence[PlugIn] = ()) -> dict[str, Any]:
    """Versions, hardware, device and a hash of the tasks' data: what a score depends on besides the configuration."""
    pairs = config.judging.pairs
    models = model_hashes(pairs)
    return {
        "evosearch": __version__, "python": platform.python_version(), **{name: version(name) for name in _PACKAGES},
        "platform": platform.platform(), "machine": platform.machine(), "cpu": cpu_capability(), "cores": os.cpu_count(),
        "threads": 1, "device": config.execution.device, "data": data_hash(pairs),
        **({"models": models} if models else {}), "plugins": {plugin.name: plugin.digest for plugin in plugins}, "command": " ".join(sys.argv)[:500],
    }  # fmt: skip


def cpu_capability() -> str:
    """The instruction set that torch's kernels use: it changes the last bits of a score."""
    return str(torch.backends.cpu.get_cpu_capability())


def run(
    config: Config, directory: Path, on_progress: OnProgress | None = None, on_notice: Callable[[str], None] = print, plugins: Sequence[PlugIn] = (),
    on_start: Callable[[Study], None] | None = None,
) -> bool:  # fmt: skip
    """Runs (or resumes) a search to its end. Returns False when it was interrupted; what was told is kept either way.

    What has changed of budget and execution since the run was prepared is logged and stored, so that `resume` goes on with it.
    `on_start` is called with the study once nothing is left that could refuse.
    """
    with Log(directory, config.execution.segment_rows) as log:
        for notice in log.notices:
            on_notice(notice)
        before, recorded = stored(directory, plugins)
        _refuse_changes(directory, before, config)
        study = open_study(config, log)
        changes = _changes(before, config)
        if changes:
            text = run_file(config, recorded)
            log.append([{"type": "change", "config": list(changes.values())}, _mark(config, text)])
            write_atomically(directory / "run.yaml", text.encode())
        has_begun = bool(log.marks("result") or log.marks("part"))
        few = unfed(config.window, _workers(config))
        if few:
            on_notice(few)
        clock = Clock(config.budget.minutes, seconds_spent(directory, has_begun, on_notice))
        with heard() as stop, _executor(config, plugins, directory) as executor:
            stop.listen()  # again: Ray took SIGTERM
            if on_start:
                on_start(study)
            _loop(study, executor, clock, stop, on_progress, Watch(config.window, executor.workers), on_notice)
        finished = not study.wants_more()
        if finished:  # of jobs that were killed by a limit
            shutil.rmtree(directory / STATES, ignore_errors=True)
        log.write_status(study.progress() | {"finished": finished, "seconds": round(clock.seconds, 1)})
        study.close_segment()
        if finished and study.pick() is None:
            when = f"{config.budget.minutes:g} minutes" if clock.is_over else f"{config.budget.evaluations} functions"
            on_notice(
                f"{when} ended before any found function was fully trained: there is nothing to check or recommend. "
                "Run again with a larger total (--minutes, --set budget.evaluations=N) to go on"
            )
        return finished


def _workers(config: Config) -> int:
    return config.execution.workers or os.cpu_count() or 1


def _executor(config: Config, plugins: Sequence[PlugIn], directory: Path) -> Executor:
    execution = config.execution
    cluster = Cluster(execution.address, execution.gpus, execution.insecure_cluster, cpu_capability())
    return make_executor(
        execution.executor, ENTRY, plan_of(config, plugins, directory).to_text(), workers=execution.workers or None, time_limit=execution.time_limit,
        memory_limit_gb=0.0 if execution.device != "cpu" else execution.memory_limit_gb, at_most=config.window, cluster=cluster,
    )  # fmt: skip


def _loop(
    study: Study, executor: Executor, clock: Clock, stop: Stop, on_progress: OnProgress | None, watch: Watch, on_notice: Callable[[str], None],
) -> None:  # fmt: skip
    written = -math.inf  # when status.json was
    while study.wants_more() or executor.in_flight:
        if clock.is_over:
            study.stop_asking()
        if not stop.asked:
            replayed = study.replayed
            jobs = study.ask(executor.free_slots())
            clock.tick(study.is_asking and study.replayed == replayed)  # what was counted then is not counted again
            for job in jobs:
                (study.log.directory / "summary.json").unlink(missing_ok=True)  # the run grows past it
                executor.submit(job)
            watch.dispatched(jobs, time.monotonic())
            notice = watch.look(executor.free_slots() if study.is_blocked else 0, time.monotonic())
            if notice:
                on_notice(notice)
        elif stop.is_over or not executor.in_flight:
            return
        if executor.in_flight:
            results = executor.poll(0.5)
            if results:
                study.tell(results)
                watch.told(results, time.monotonic())
        clock.tick(study.is_asking)
        if time.monotonic() - written >= _STATUS:
            study.log.write_status(study.progress() | {"finished": False, "seconds": round(clock.seconds, 1)})
            written = time.monotonic()
        if on_progress:
            on_progress(study, executor)
