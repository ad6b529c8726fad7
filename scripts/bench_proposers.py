"""How many functions a proposer needs: unique evaluations until one of a table's best 1 %, against random search, DEAP, Optuna and others.

    python scripts/bench_proposers.py                                                          # the 27 x 7 table, everybody
    python scripts/bench_proposers.py --proposers knn,portfolio --windows 1 --noise free --screen off --seeds 200
    python scripts/bench_proposers.py --table three-operators --data FILE.parquet              # what build_table.py --space three-operators wrote
    python scripts/bench_proposers.py --table nasbench201 --data FILE.parquet --queries 100 --seeds 200 [--dump OUT]

Nobody is seeded from the library. An evaluation is a function that was not asked before, whether its training breaks or not; a second ask of
one is free. Ask k sees the results up to k - window. With the screen on, what the driver's own checks reject costs nothing, for
all alike. `noisy`: what is told is one training seed's score, drawn for each function; what counts as found is noise-free. Regret is
the best noise-free score of the table less that of the function with the best told score so far. Intervals are 95 %, by bootstrap over the seeds.

NAS-Bench-201 (arXiv 2001.00326): the columns of the file are arch, cifar10_val_accuracy_12_epochs, cifar10_test_accuracy; the architecture
with the best 12-epoch validation accuracy of all asked is picked, and its test accuracy reported. --dump writes what the last proposer picked.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from boards import TABLES, Board, board_of
from numpy.typing import NDArray
from peers import Peer, named
from proposing import is_ours, make_ours

CHECKPOINTS = (1, 2, 4, 8, 16, 32, 64, 128)
TRIES = 300  # asks in a row that cost nothing; then a random row is evaluated
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What is the same for all seeds of a row of the report."""

    table: str
    data: str
    proposer: str
    window: int
    noise: str
    screen: bool
    queries: int
    until_found: bool  # goes on behind the last checkpoint until the top is met, `queries` at most


@dataclass(frozen=True)
class Run:
    """One search: the rows in the order in which they were evaluated, the values that were told, and how often a random row had to help."""

    rows: list[int]
    told: list[float]
    helped: int


def search(peer: Peer, board: Board, value: Values, window: int, screen: bool, wanted: Callable[[list[int]], bool], rng: np.random.Generator) -> Run:
    """Asks and tells while `wanted(rows so far)`."""
    known: dict[int, float] = {}
    pending: deque[int] = deque()
    rows: list[int] = []
    helped = 0
    while wanted(rows) and len(rows) < len(value):
        while len(pending) >= window:
            row = pending.popleft()
            known[row] = float(value[row])
            peer.tell(row, known[row], len(rows) - len(pending) - 1)
        for _ in range(TRIES):
            row = peer.ask()
            if row in known or row in pending:
                peer.again(row, known.get(row))
            elif screen and board.screened[row]:
                known[row] = board.worst
                peer.again(row, board.worst)
            else:
                break
        else:
            helped += 1
            free = [r for r in range(len(value)) if r not in known and r not in pending and not (screen and board.screened[r])]
            if not free:
                break
            row = int(rng.choice(free))
        pending.append(row)
        rows.append(row)
    return Run(rows, [float(value[r]) for r in rows], helped)


def one(setting: Setting, seed: int) -> Run:
    """The search of one seed, the same in any process."""
    board = board_of(setting.table, setting.data)
    rng = np.random.default_rng([seed, 1])
    which = rng.integers(len(board.noisy), size=len(board.truth))
    value = board.truth if setting.noise == "free" else np.stack(board.noisy)[which, np.arange(len(board.truth))]
    if is_ours(setting.proposer):
        peer = make_ours(setting.proposer, board, None if setting.noise == "free" else which, seed)
    else:
        peer = named([setting.proposer])[setting.proposer](board.ground, seed)
    top = board.top

    def wanted(rows: list[int]) -> bool:
        if len(rows) >= setting.queries:
            return False
        return not setting.until_found or len(rows) < CHECKPOINTS[-2] or not top.intersection(rows)

    return search(peer, board, value, setting.window, setting.screen, wanted, rng)


def interval(values: Values, statistic: Callable[..., Values] = np.median) -> tuple[float, float, float]:
    """The statistic over the seeds with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    again = statistic(values[rng.integers(len(values), size=(2000, len(values)))], axis=1)
    low, high = np.quantile(again, [0.025, 0.975], method="nearest")
    return float(statistic(values, axis=0)), float(low), float(high)


def hits(runs: Sequence[Run], board: Board) -> Values:
    """Evaluations until the first of the top, infinite where it was not met."""
    return np.array([next((i + 1 for i, row in enumerate(run.rows) if row in board.top), np.inf) for run in runs])


def regrets(runs: Sequence[Run], board: Board) -> dict[int, Values]:
    """At each checkpoint that all runs reached, the regret of each run."""
    best = board.truth.max()
    reached = [n for n in CHECKPOINTS if all(len(run.rows) >= n for run in runs)]
    return {n: np.array([best - board.truth[run.rows[int(np.argmax(run.told[:n]))]] for run in runs]) for n in reached}


def everybody(names: str) -> list[str]:
    """The proposers in the order in which they were named. Raises ValueError for a name that is none."""
    found: list[str] = []
    for name in names.split(","):
        several = [name] if is_ours(name) else list(named([name]))
        if not several:
            raise ValueError(f"unknown proposer `{name}`; there are peers, all, {', '.join(named(['all']))} and those of the registry")
        found += several
    return list(dict.fromkeys(found))


def settings(chosen: argparse.Namespace) -> Iterator[Setting]:
    for screen in chosen.screen.split(","):
        for noise in chosen.noise.split(","):
            for window in map(int, chosen.windows.split(",")):
                for proposer in everybody(chosen.proposers):
                    yield Setting(chosen.table, chosen.data, proposer, window, noise, screen == "on", chosen.queries, chosen.table != "nasbench201")


def _cell(found: tuple[float, float, float], digits: int = 0) -> str:
    return f"{found[0]:.{digits}f} [{found[1]:.{digits}f}, {found[2]:.{digits}f}]"


def report(setting: Setting, runs: list[Run], board: Board, write: Callable[[list[object]], object]) -> str:
    """One line of the text table; every figure goes to `write` as well."""
    name = [setting.table, setting.proposer, setting.window, setting.noise, "on" if setting.screen else "off", len(runs)]
    head = f"| {setting.proposer} | {setting.window} | {setting.noise} | {name[4]} "
    helped = sum(run.helped for run in runs) / sum(len(run.rows) for run in runs)
    if setting.table == "nasbench201":
        picked = np.array([board.test[row] for row in picks(runs)])
        mean, low, high = interval(picks_test := picked, np.mean)
        write([*name, "test", setting.queries, mean, low, high])
        return head + f"| {_cell((mean, low, high), 3)} | {picks_test.std(ddof=1):.2f} | {helped:.3f} |"
    found = hits(runs, board)
    median = interval(found)
    write([*name, "evaluations", "", *median])
    curve = {n: interval(values, np.mean) for n, values in regrets(runs, board).items()}
    for n, (mean, low, high) in curve.items():
        write([*name, "regret", n, mean, low, high])
    p90 = float(np.quantile(found, 0.9, method="nearest"))
    regret = " ".join(f"{curve[n][0]:.2f}" for n in CHECKPOINTS[2:] if n in curve)
    return head + f"| {_cell(median)} | {found[np.isfinite(found)].mean():.0f} | {p90:.0f} | {np.isfinite(found).mean():.2f} | {regret} | {helped:.3f} |"


def picks(runs: Sequence[Run]) -> list[int]:
    """What each run hands back: the row with the best told value."""
    return [run.rows[int(np.argmax(run.told))] for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=TABLES, default=TABLES[0])
    parser.add_argument("--data", default="", help="the table's file, where the package has none")
    parser.add_argument("--proposers", default="peers,portfolio", help="`peers`, `all` (their variants too), or names: of peers.py or of the registry")
    parser.add_argument("--windows")
    parser.add_argument("--noise", help="free, noisy or both")
    parser.add_argument("--screen", help="off, on or both")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--queries", type=int, help="evaluations at most: 100 for nasbench201, 400 else")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--csv", type=Path, help="every figure, a line each")
    parser.add_argument("--dump", type=Path, help="what the last proposer picked, a line a seed")
    chosen = parser.parse_args()
    nas = chosen.table == "nasbench201"
    chosen.windows = chosen.windows or ("1" if nas else "1,8,16")
    chosen.noise = chosen.noise or ("free" if nas else "free,noisy")
    chosen.screen = chosen.screen or ("off" if nas else "off,on")
    chosen.queries = chosen.queries or (100 if nas else 400)
    try:
        board, every = board_of(chosen.table, chosen.data), list(settings(chosen))
    except (OSError, ValueError) as error:
        sys.exit(f"bench_proposers: {error}")
    print(board.said, flush=True)
    titles = "test accuracy | deviation" if nas else "median evaluations | mean | p90 | share found | regret at 4, 8, 16, ..."
    print(f"| proposer | window | noise | screen | {titles} | random helped |\n|{'---|' * (titles.count('|') + 6)}", flush=True)
    stream = open(chosen.csv, "w", newline="") if chosen.csv else open(os.devnull, "w")
    with stream, ProcessPoolExecutor(chosen.workers) as pool:
        writer = csv.writer(stream)
        writer.writerow(["table", "proposer", "window", "noise", "screen", "seeds", "figure", "at", "value", "low", "high"])
        for setting in every:
            runs = list(pool.map(partial(one, setting), range(chosen.seeds), chunksize=max(1, chosen.seeds // 40)))
            print(report(setting, runs, board, writer.writerow), flush=True)
            stream.flush()
    if chosen.dump:
        chosen.dump.write_text("".join(f"{board.texts[row]}\n" for row in picks(runs)))


if __name__ == "__main__":
    main()
