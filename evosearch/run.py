"""The loop that joins proposer, study and executor: one run, from configuration to the final check."""

from __future__ import annotations

import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evosearch import __version__
from evosearch.config import Config, ConfigError, dump_yaml, read_resolved
from evosearch.execution import Executor, make_executor
from evosearch.judging.baselines import baseline
from evosearch.judging.evaluate import Plan, Stage
from evosearch.judging.objectives import direction
from evosearch.meaning.screen import Screen
from evosearch.proposers.registry import make_portfolio
from evosearch.search.store import Log, write_atomically
from evosearch.search.study import Settings, Study
from evosearch.space import SearchSpace

ENTRY = "evosearch.judging.evaluate:worker"
MAY_CHANGE = ("budget", "execution")  # on resume; the device is part of the fingerprint and may not
_PACKAGES = ("torch", "numpy", "deap", "optuna", "sympy", "pyarrow", "ray", "scikit-image", "scikit-learn")

OnProgress = Callable[[Study, Executor], None]


def space_of(config: Config) -> SearchSpace:
    """The search space of a configuration. Raises ValueError."""
    return SearchSpace(**{**config.space.model_dump(), "operators": tuple(config.space.operators)})


def plan_of(config: Config) -> Plan:
    """What the workers need to know of a configuration."""
    stages = {
        name: Stage(tuple(s.pairs), s.steps, tuple(s.rates), s.seeds)
        for name, s in (("quality", config.judging.quality), ("full", config.judging.full), ("final", config.judging.final))
    }
    return Plan(**stages, device=config.execution.device)


def open_study(config: Config, log: Log) -> Study:
    """The study over an open log; asks that the log answers are replayed as they come."""
    space = space_of(config)
    pairs = {*config.judging.quality.pairs, *config.judging.full.pairs, *config.judging.final.pairs}
    settings = Settings(
        seed=config.seed, window=config.window, evaluations=config.budget.evaluations,
        baselines=tuple((name, baseline(name)) for name in config.baselines),
        directions={pair: direction(pair) for pair in sorted(pairs)}, quality_pairs=tuple(config.judging.quality.pairs),
        final_pairs=tuple(config.judging.final.pairs), promote=config.judging.promote,
    )  # fmt: skip
    return Study(log, make_portfolio(config.proposers, space), Screen(space.max_nodes, space.max_parameters), settings)


def prepare(directory: Path, config: Config, accept_new_environment: bool = False) -> Config:
    """Writes run.yaml for a new run; for an existing one, checks what may change. Returns the configuration to run.

    Raises ConfigError when `directory` holds something else, or when what must not change has changed.
    """
    file = directory / "run.yaml"
    space_of(config)
    _check_device(config.execution.device)
    if not file.exists():
        if directory.exists() and any(directory.iterdir()):
            raise ConfigError(f"{directory} exists and is not a run of evosearch; choose another folder with --out")
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(file, dump_yaml({"config": config.model_dump(mode="json"), "environment": environment(config)}).encode())
        return config
    before, recorded = stored(directory)
    _refuse_changes(directory, before, config)
    now = environment(config)
    changed = [key for key in ("torch", "device", "cpu", "data") if recorded.get(key) != now[key]]
    if changed and not accept_new_environment:
        shown = "; ".join(f"{key}: {recorded.get(key)} -> {now[key]}" for key in changed)
        raise ConfigError(f"{directory} was made in another environment ({shown}); scores would not compare. --accept-new-environment goes on all the same")
    return config


def stored(directory: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration and environment of an existing run. Raises ConfigError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    file = directory / "run.yaml"
    if not file.is_file():
        raise ConfigError(f"{directory} is not a run (it has no run.yaml); `evosearch run SPACE.yaml --out {directory}` makes one")
    try:
        data = YAML(typ="safe", pure=True).load(file.read_text())
    except (YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{file} is damaged: not YAML; restore it from a copy") from None
    if not isinstance(data, dict) or not {"config", "environment"} <= set(data):
        raise ConfigError(f"{file} is not what evosearch wrote; restore it from a copy")
    return read_resolved(dump_yaml(data["config"]), str(file)), dict(data["environment"])


def _check_device(device: str) -> None:
    """Raises ConfigError for a device that this machine's torch does not have."""
    import torch

    if device != "cpu" and not (re.fullmatch(r"cuda(:\d+)?", device) and torch.cuda.is_available()):
        raise ConfigError(f"execution.device: `{device[:40]}` is not there (torch {torch.__version__} sees no such device); use cpu")


def _refuse_changes(directory: Path, before: Config, after: Config) -> None:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    changed = [key for key in old if key not in MAY_CHANGE and old[key] != new[key]]
    if changed:
        shown = "; ".join(f"{key}: {_short(old[key])} -> {_short(new[key])}" for key in changed)
        raise ConfigError(f"{directory} was started with another configuration ({shown}); only budget and execution may change. Use another --out")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def environment(config: Config) -> dict[str, Any]:
    """Versions, hardware, device and a hash of the tasks' data: what a score depends on besides the configuration."""
    from evosearch.judging.fingerprint import data_hash

    pairs = sorted({*config.judging.quality.pairs, *config.judging.full.pairs, *config.judging.final.pairs})
    return {
        "evosearch": __version__, "python": platform.python_version(), **{name: version(name) for name in _PACKAGES},
        "platform": platform.platform(), "machine": platform.machine(), "cpu": cpu_capability(), "cores": os.cpu_count(),
        "threads": 1, "device": config.execution.device, "data": data_hash(pairs), "command": " ".join(sys.argv)[:500],
    }  # fmt: skip


def cpu_capability() -> str:
    """The instruction set that torch's kernels use: it changes the last bits of a score."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def run(config: Config, directory: Path, on_progress: OnProgress | None = None, on_notice: Callable[[str], None] = print) -> bool:
    """Runs (or resumes) a search to its end. Returns False when it was interrupted; what was told is kept either way."""
    with Log(directory) as log:
        for notice in log.notices:
            on_notice(notice)
        study = open_study(config, log)
        with _interruptible() as interrupted, _executor(config) as executor:
            _loop(study, executor, config, interrupted, on_progress)
        log.write_status(study.progress() | {"finished": not study.wants_more()})
        study.close_segment()
        return not study.wants_more()


def _executor(config: Config) -> Executor:
    execution = config.execution
    workers = min(execution.workers or os.cpu_count() or 1, config.window)
    return make_executor(
        execution.executor, ENTRY, plan_of(config).to_text(), workers=workers, time_limit=execution.time_limit,
        memory_limit_gb=0.0 if execution.device != "cpu" else execution.memory_limit_gb, address=execution.address,
    )  # fmt: skip


def _loop(study: Study, executor: Executor, config: Config, interrupted: Callable[[], bool], on_progress: OnProgress | None) -> None:
    deadline = time.monotonic() + config.budget.minutes * 60 if config.budget.minutes else None
    while study.wants_more() or executor.in_flight:
        if deadline is not None and time.monotonic() > deadline:
            study.stop_asking()
            deadline = None
        if not interrupted():
            for job in study.ask(executor.free_slots()):
                executor.submit(job)
        elif not executor.in_flight:
            return
        if executor.in_flight:
            results = executor.poll(0.5)
            if results:
                study.tell(results)
        study.log.write_status(study.progress() | {"finished": False})
        if on_progress:
            on_progress(study, executor)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM lets what is in flight finish; a second Ctrl-C stops at once."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        if seen.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    before: Mapping[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
