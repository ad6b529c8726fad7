"""This project's proposers in the benchmark: their asks and tells over the rows of a table.

The space is the table's own, as a grammar of forms with holes, or as a network of choices alone. They are told
what a search tells them: the score, the worst pair, the formula's cost.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from boards import EDGES, OPERATIONS, Board, architecture
from numpy.typing import NDArray
from peers import PEERS
from ruamel.yaml import YAML
from table_spaces import Form, form_of

from evosearch.language.candidate import Candidate, parse_candidate
from evosearch.meaning.facts import complexity
from evosearch.proposers import Outcome, Proposer
from evosearch.proposers.registry import PROPOSERS, make_portfolio, make_proposer
from evosearch.space import SearchSpace
from evosearch.space.grammar import GrammarSpace
from evosearch.space.network import NetworkSpace

DEFAULT = "portfolio"
DEFAULT_SEARCH = Path(__file__).parent.parent / "search_spaces" / "activation.yaml"
OURS = "ours:"  # `ours:random` is the registry's, `random` the one of peers.py


def is_ours(name: str) -> bool:
    """Whether the registry is meant, or the default search's mixture of its proposers."""
    return name == DEFAULT or (name.removeprefix(OURS) in PROPOSERS and name not in PEERS)


def proposer_of(name: str, space: SearchSpace) -> Proposer:
    """The registry's; `portfolio`, where the registry has none of that name, is what the default search runs."""
    if name in PROPOSERS:
        return make_proposer(name, space)
    shares = YAML(typ="safe", pure=True).load(DEFAULT_SEARCH)["proposers"]
    return make_portfolio(shares, space)


def grammar(form: Form) -> GrammarSpace:
    """The form as rules: `formula` or, with an operator outside, `both` within it, and `unary`."""
    *outside, binary, left, right = form.places
    assert left == right
    both = [text.format("{unary}", "{unary}") for text in binary]
    rules = {"formula": both, "unary": list(left)}
    if outside:
        rules = {"formula": [re.sub(r"\bx\b", "({both})", text) for text in outside[0]], "both": both, "unary": list(left)}
    return GrammarSpace(rules)


def network() -> NetworkSpace:
    """NAS-Bench-201's cell: a choice for each edge."""
    return NetworkSpace({}, {f"edge{i}": OPERATIONS for i in range(EDGES)})


class Ours:
    """A proposer of the registry as the benchmark asks it: ask k draws from a generator of its own, as in a search."""

    def __init__(self, proposer: Proposer, row: Callable[[Candidate], int], worst: NDArray[np.float64], broken: NDArray[np.bool_], seed: int) -> None:
        self.proposer, self.row, self.worst, self.broken, self.seed = proposer, row, worst, broken, seed
        self.asks, self.goes_on = 0, False
        self.rng = random.Random()
        self.asked: dict[int, tuple[str, str]] = {}

    def ask(self) -> int:
        if not self.goes_on:
            self.rng = random.Random(int.from_bytes(hashlib.sha256(f"{self.seed}/{self.asks}".encode()).digest()))
            self.asks += 1
        self.goes_on = False
        proposal = self.proposer.ask(self.rng)
        row = self.row(parse_candidate(proposal.candidate))
        self.asked.setdefault(row, (proposal.candidate, proposal.proposer))
        return row

    def tell(self, row: int, value: float, index: int) -> None:
        text, name = self.asked.get(row, ("", "benchmark"))
        if not text:
            return  # a random row that the benchmark put in
        slots = parse_candidate(text).slots.values()
        objectives = {"mean": value, "worst": float(self.worst[row]), "complexity": -float(sum(map(complexity, slots)))}
        self.proposer.tell(Outcome(index, text, name, "nonfinite", {}) if self.broken[row] else Outcome(index, text, name, "ok", objectives))

    def again(self, row: int, value: float | None) -> None:
        self.goes_on = True  # as after the driver's verdict in a search: nothing is told, the same generator goes on


def make_ours(name: str, board: Board, which: NDArray[np.int64] | None, seed: int) -> Ours:
    """A proposer of the registry on the board's space; `which` is the seed that tells of each row, None for noise-free."""
    space: SearchSpace = network() if board.table is None else grammar(form_of(board.form))
    proposer = proposer_of(name.removeprefix(OURS), space)
    if board.table is None:
        at = {text: i for i, text in enumerate(board.texts)}
        return Ours(proposer, lambda c: at[_cell(c)], board.truth, np.zeros(len(at), bool), seed)
    table = board.table

    def row(candidate: Candidate) -> int:
        found = table.index(candidate.graph)
        assert found is not None, f"{candidate} is not of the space"
        return found

    several = [table.standardized((0, 1))] if which is None else [table.standardized((s,)) for s in (0, 1)]
    chosen = several[0] if which is None else np.stack(several)[which, np.arange(len(table))]
    return Ours(proposer, row, chosen.min(1), np.isnan(chosen).any(1), seed)


def _cell(candidate: Candidate) -> str:
    return architecture(tuple(OPERATIONS.index(str(candidate.choices[f"edge{i}"])) for i in range(EDGES)))
