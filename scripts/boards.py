"""The tables as a benchmark plays them: rows, values, and which row a choice of operators leads to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from peers import Choice, Ground
from table_spaces import form_of

from evosearch.benchmarks import NAMES, Table, load, open_table
from evosearch.benchmarks.table import SEEDS, WORST
from evosearch.language.formula import parse
from evosearch.meaning.numeric import evaluate_all
from evosearch.meaning.screen import Screen

TABLES = ("activations-27x7", "three-operators", "nasbench201")
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = 6

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Board:
    """A table's rows: `truth` decides what is good, `noisy` is what one training seed says, `top` are the rows to be found."""

    said: str
    texts: tuple[str, ...]
    truth: Values
    noisy: tuple[Values, ...]
    top: frozenset[int]
    screened: NDArray[np.bool_]
    ground: Ground
    table: Table | None = None
    form: str = ""
    test: tuple[float, ...] = ()
    worst: float = WORST


@cache
def board_of(name: str, data: str = "") -> Board:
    """Raises ValueError and OSError for a file that is not the table."""
    if not data and name not in NAMES:
        raise ValueError(f"{name} needs --data FILE.parquet: the package has no such file")
    if data and not Path(data).is_file():
        raise ValueError(f"there is no file {data}")
    if name == "nasbench201":
        return _networks(data)
    table = open_table(data) if data else load(name)
    return _functions(table, name.removeprefix("activations-"))


def _functions(table: Table, space: str) -> Board:
    form = form_of(space)
    rows: dict[Choice, int] = {}
    for choice in form.choices():
        graph = form.graph(choice)
        row = None if graph is None else table.index(graph)
        if row is None:
            raise ValueError(f"{table.name} does not hold `{form.text(choice)}`, a function of the space {space}: build all of it")
        rows[choice] = row
    graphs = [parse(text) for text in table.functions]
    screen = Screen(max_nodes=64, max_parameters=0)
    screened = np.array([screen.check(text) is not None for text in table.functions])
    ground = Ground(tuple(len(options) for options in form.places), rows.__getitem__, len(table), _curves(graphs))
    truth = table.score()
    top = frozenset(table.functions.index(text) for text in table.top(0.01))
    said = f"{table.name}: {len(table)} functions, {int((~np.isnan(table.standardized()).any(1)).sum())} trained, {len(top)} in the top 1 %, "
    said += f"{int(screened.sum())} that the driver's screen rejects ({len([r for r in top if screened[r]])} of the top)"
    return Board(said, table.functions, truth, tuple(table.noisy(s) for s in SEEDS), top, screened, ground, table, space)


def _curves(graphs: list[object]) -> NDArray[np.float32]:
    """Output curves at 64 quantiles of N(0, 1), signed logarithm, what is not finite far away."""
    points = np.array([NormalDist().inv_cdf((i + 0.5) / 64) for i in range(64)])
    values = np.stack(evaluate_all(graphs, {"x": points}))  # type: ignore[arg-type]
    with np.errstate(all="ignore"):
        squashed = np.sign(values) * np.log1p(np.abs(values))
    return np.where(np.isfinite(squashed), np.clip(squashed, -8, 8), 20.0).astype(np.float32)


def architecture(choice: Choice) -> str:
    """NAS-Bench-201's string: the operations on the edges 0-1 | 0-2, 1-2 | 0-3, 1-3, 2-3."""
    names = iter(OPERATIONS[i] for i in choice)
    return "+".join("|" + "".join(f"{next(names)}~{source}|" for source in range(node)) for node in (1, 2, 3))


def choice_of(text: str) -> Choice:
    """The choice that an architecture string writes."""
    return tuple(OPERATIONS.index(part.partition("~")[0]) for part in text.replace("+", "").split("|") if part)


def _networks(data: str) -> Board:
    wanted = ["arch", "cifar10_val_accuracy_12_epochs", "cifar10_test_accuracy"]
    columns = pq.read_table(data, columns=wanted).to_pydict()
    at = {arch: i for i, arch in enumerate(columns["arch"])}
    truth = np.array(columns[wanted[1]])
    marks = np.eye(len(OPERATIONS), dtype=np.float32)
    told = np.stack([marks[list(choice)].ravel() for choice in map(choice_of, columns["arch"])])
    ground = Ground((len(OPERATIONS),) * EDGES, lambda choice: at[architecture(choice)], len(at), told)
    said = f"nasbench201: {len(at)} architectures, test accuracy {max(columns[wanted[2]]):.2f} at most"
    none = np.zeros(len(at), bool)
    return Board(said, tuple(columns["arch"]), truth, (truth,), frozenset(), none, ground, test=tuple(columns[wanted[2]]), worst=0.0)


__all__ = ["NAMES", "TABLES", "Board", "architecture", "board_of"]
