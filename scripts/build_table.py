"""Builds an open table of activation functions: every function of a space, trained on three tasks, with every stage's outcome.

    python scripts/build_table.py --space 27x7 --out tables/27x7 [--workers 2] [--functions 3000]   # about 4 core-hours; again to resume
    python scripts/build_table.py --space three-operators --out tables/three-operators              # see table_spaces.py

One function a row, in a fixed random order, so that any beginning of the table is a random sample of the space. On three pairs
`full` and `test` are scores after 200 steps at the tuned rate with two seeds and `curve` the mean training loss of each eighth: they come
first, and OUT/table.parquet is written as soon as every function has them, for they are what proposers are compared by. Then those whose mean
rank by `full` is among the best 300 get `sweep` (three rates) and `top` (eight seeds at the best), and then everybody `quick`,
validation after 40 steps, `quality`, after 100 steps at two rates, and `proxy`, the training-free scores; the table is written once more.
The usual baselines, of the default search, have a file of their own: most are not of the space. What a search's filters would reject is
marked with their reason and trained like all others, so that the table says what the filters cost. OUT/*.jsonl are appended and fsynced.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pack_table import pack
from table_spaces import BASELINES, SPACES, form_of, functions

from evosearch.compiler.module import compile_graph
from evosearch.execution import make_executor
from evosearch.job import Job, Result
from evosearch.judging import filters, proxies
from evosearch.judging.architectures import MakeLayer
from evosearch.judging.baselines import baseline
from evosearch.judging.objectives import direction, parse_pair
from evosearch.judging.tasks import task
from evosearch.judging.train import NonFinite, Trained, train
from evosearch.language.candidate import parse_candidate
from evosearch.language.formula import parse

PAIRS = ("textures/plain-cnn", "photo/inr.32", "digits/deep-mlp")
QUALITY_RATES, SWEEP = (0.5, 1.5), (1 / 3, 1.0, 3.0)
TOP = 300
TIME_LIMIT = 7200.0  # of one function; a minute on a quiet machine, and this one may have other things to do


def worker(plan_text: str) -> Callable[[str], str]:
    """What the executor runs in each worker: loads the data, returns `run(job_text) -> result_text`."""
    assert plan_text == ""
    torch.set_num_threads(1)
    for pair in PAIRS:
        named = parse_pair(pair)
        task(named.task).load(named.variant)
    train(PAIRS[0], lambda features: torch.nn.ReLU(), 0, 1.0, 1)
    return lambda text: _Row(Job.from_text(text)).result().to_text()


class _Row:
    """All that is measured of one function."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.scores: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.make: MakeLayer = partial(compile_graph, parse_candidate(job.candidate).graph)

    def result(self) -> Result:
        reason = said = None
        try:
            with self._timed("numeric"):
                reason = filters.finite(self.make) or filters.finite(self.make, torch.bfloat16)
            {"full": self.full, "top": self.best, "early": self.early}[self.job.stage]()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:200]
        status = "rejected" if reason else "error" if said else "ok"
        return Result(self.job.index, self.job.candidate, status, reason, "full", self.scores, seconds=self.seconds, error=said)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 4)

    def _train(self, pair: str, seed: int, rate: float, steps: int) -> Trained | None:
        try:
            return train(pair, self.make, seed, rate, steps)
        except NonFinite:
            return None

    def early(self) -> None:
        for pair in PAIRS:
            with self._timed(f"proxy:{pair}"):
                found = proxies.measure(pair, self.make, 0)
            self.scores |= {f"proxy:{pair}:{name}": value for name, value in found.items() if not math.isnan(value)}
        for pair in PAIRS:
            with self._timed(f"quick:{pair}"):
                if (done := self._train(pair, 0, 1.0, 40)) is not None:
                    self.scores[f"quick:{pair}"] = done.validation
            with self._timed(f"quality:{pair}"):
                for rate in QUALITY_RATES:
                    if (done := self._train(pair, 0, rate, 100)) is not None:
                        self.scores[f"quality:{pair}:{rate:g}"] = done.validation

    def full(self) -> None:
        for pair in PAIRS:
            with self._timed(f"full:{pair}"):
                for seed in (0, 1):
                    if (done := self._train(pair, seed, 1.0, 200)) is not None:
                        self.scores |= {f"full:{pair}:{seed}": done.validation, f"test:{pair}:{seed}": done.test()}
                        self.scores |= {f"curve:{pair}:{seed}:{k}": loss for k, loss in enumerate(done.curve)}

    def best(self) -> None:
        for pair in PAIRS:
            sweep = {rate: done for rate in SWEEP if (done := self._train(pair, 0, rate, 200)) is not None}
            self.scores |= {f"sweep:{pair}:{rate:.3g}": done.validation for rate, done in sweep.items()}
            if not sweep:
                continue
            rate = max(sweep, key=lambda r: direction(pair) * sweep[r].validation)
            for seed in range(8):
                if (done := sweep[rate] if seed == 0 else self._train(pair, seed, rate, 200)) is not None:
                    self.scores |= {f"top:{pair}:{seed}": done.validation, f"toptest:{pair}:{seed}": done.test()}


def build(jobs: list[Job], file: Path, workers: int) -> dict[int, Result]:
    """Runs the jobs that the file does not hold, appends each result, returns all."""
    found = {r.index: r for r in read(file)}
    waiting = [job for job in jobs if job.index not in found]
    start, begun = time.monotonic(), len(found)
    with (
        open(file, "a") as log,
        make_executor("local", "build_table:worker", "", workers=workers, time_limit=TIME_LIMIT, memory_limit_gb=4.0) as executor,
    ):
        while waiting or executor.in_flight:
            for _ in range(min(executor.free_slots(), len(waiting))):
                executor.submit(waiting.pop(0))
            for result in executor.poll(1.0):
                found[result.index] = result
                log.write(result.to_text() + "\n")
                log.flush()
                os.fsync(log.fileno())
                if len(found) % 20 == 0:
                    print(f"{len(found)}/{len(jobs)}, {(time.monotonic() - start) / (len(found) - begun):.2f} s a function", flush=True)
    return found


def read(file: Path) -> list[Result]:
    """The results of the file; a torn last line, left by a kill, is cut off."""
    if not file.exists():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        file.write_bytes(whole)
    return [Result.from_text(line) for line in whole.decode().splitlines()]


def leaders(results: dict[int, Result]) -> list[str]:
    """The best functions by their mean rank over the pairs' full scores."""
    whole = [r for r in results.values() if all(f"full:{pair}:{seed}" in r.scores for pair in PAIRS for seed in (0, 1))]
    values = np.array([[direction(p) * (r.scores[f"full:{p}:0"] + r.scores[f"full:{p}:1"]) for p in PAIRS] for r in whole])
    ranks = values.argsort(0).argsort(0).mean(1)
    return [whole[i].candidate for i in np.argsort(-ranks, kind="stable")[:TOP]]


def stage(folder: Path, file: str, name: str, texts: Sequence[str], workers: int) -> dict[int, Result]:
    """One stage of these functions, as far as FOLDER/FILE.jsonl does not hold it."""
    return build([Job(i, text, 0, name) for i, text in enumerate(texts)], folder / f"{file}.jsonl", workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=SPACES, default="27x7")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--functions", type=int, default=10_000, help="only so many, from the beginning of the order")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    texts = functions(form_of(chosen.space))[: chosen.functions]
    print(f"{len(texts)} functions, {len(PAIRS)} pairs: {json.dumps(PAIRS)}", flush=True)
    usual = [str(parse(baseline(name))) for name in BASELINES]
    every = partial(stage, chosen.out, workers=chosen.workers)
    every("baselines", "full", usual)
    found = every("results", "full", texts)
    pack(chosen.space, chosen.out, chosen.out / "table.parquet")
    every("top", "top", leaders(found))
    every("baselines-early", "early", usual)
    every("early", "early", texts)
    pack(chosen.space, chosen.out, chosen.out / "table.parquet")


if __name__ == "__main__":
    main()
