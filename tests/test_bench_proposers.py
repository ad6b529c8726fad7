"""The benchmark of proposers: what an evaluation is, what a peer may see, and that the peers are what they say."""

from __future__ import annotations

import importlib
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
SIZES = (7, 9, 9)


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


def script(name):
    return importlib.import_module(name)


class Recorder:
    """Asks the given rows in turn and notes everything that it hears."""

    def __init__(self, rows):
        self.rows, self.asked, self.heard = iter(rows), 0, []

    def ask(self):
        self.asked += 1
        return next(self.rows)

    def tell(self, row, value, index):
        self.heard.append(("tell", row, value, index))

    def again(self, row, value):
        self.heard.append(("again", row, value))


def board(values, screened=()):
    boards = script("boards")
    values = np.asarray(values, float)
    top = frozenset(int(i) for i in np.argsort(-values)[: max(1, len(values) // 100)])
    marks = np.array([i in screened for i in range(len(values))])
    return boards.Board("", tuple(map(str, range(len(values)))), values, (values, values), top, marks, ground(len(values)))


def ground(rows):
    choices = list(product(*map(range, SIZES)))
    at = {choice: i % rows for i, choice in enumerate(choices)}
    curves = np.array([choices[i] for i in range(rows)], np.float32)
    return script("peers").Ground(SIZES, at.__getitem__, rows, curves)


def run(peer, board, window, count, screen=False):
    search = script("bench_proposers").search
    return search(peer, board, board.truth, window, screen, lambda rows: len(rows) < count, np.random.default_rng(0))


@pytest.mark.parametrize("window", [1, 3])
def test_ask_k_sees_the_results_up_to_k_less_window_in_order(window):
    peer = Recorder(range(10))
    told = []
    ask = peer.ask

    def watched():
        told.append([heard[3] for heard in peer.heard])
        return ask()

    peer.ask = watched
    run(peer, board(range(100)), window, 8)
    assert told == [list(range(max(0, k - window + 1))) for k in range(8)]
    assert all(value == row for _, row, value, _ in peer.heard)


def test_a_second_ask_costs_nothing():
    peer = Recorder([4, 4, 5, 4, 6])
    found = run(peer, board(range(100)), 2, 3)
    assert found.rows == [4, 5, 6]
    assert found.told == [4.0, 5.0, 6.0]
    assert ("again", 4, None) in peer.heard  # asked, not known yet
    assert ("again", 4, 4.0) in peer.heard
    assert peer.asked == 5


def test_what_the_screen_rejects_is_free_only_with_the_screen():
    values = [*range(50), *(-3.0 for _ in range(50))]
    peer = Recorder([60, 60, 1, 2])
    assert run(peer, board(values, screened=range(50, 100)), 1, 2, screen=True).rows == [1, 2]
    assert peer.heard[:2] == [("again", 60, -3.0)] * 2
    assert run(Recorder([60, 1]), board(values, screened=range(50, 100)), 1, 2).rows == [60, 1]


def test_a_peer_that_is_stuck_is_helped_out_and_it_is_counted():
    found = run(Recorder([3] * 10_000), board(range(100)), 1, 3)
    assert len(set(found.rows)) == 3
    assert found.rows[0] == 3
    assert found.helped == 2


def easy():
    """Each place adds its own worth, so that what is learned at one helps at all; 567 rows, the best is (6, 8, 8)."""
    values = np.array([a / 6 + b / 8 + c / 8 for a, b, c in product(*map(range, SIZES))])
    found = board(values)
    return script("boards").Board(**{**found.__dict__, "ground": ground(len(values))})


@pytest.mark.parametrize("name", ["eaSimple", "evolution", "tpe", "nsga2", "knn"])
def test_a_peer_learns_and_repeats_itself(name):
    window = 4
    peers, bench = script("peers"), script("bench_proposers")
    place = easy()

    def needed(make):
        runs = [run(make(place.ground, seed), place, window, 100) for seed in range(4)]
        assert all(len(set(r.rows)) == len(r.rows) == 100 for r in runs)
        return np.minimum(bench.hits(runs, place), 100).mean(), runs[0].rows

    mean, first = needed(peers.PEERS[name])
    assert mean < needed(peers.PEERS["random"])[0]
    assert run(peers.PEERS[name](place.ground, 0), place, window, 100).rows == first


def test_random_needs_what_arithmetic_says():
    peers, bench = script("peers"), script("bench_proposers")
    place = board(range(500))  # five of 500: the median is at 500 (1 - 2 ** (-1 / 5)), 65
    found = bench.hits([run(peers.Random(place.ground, seed), place, 1, 500) for seed in range(300)], place)
    median, low, high = bench.interval(found)
    assert low <= 65 <= high
    assert low <= median <= high
    assert high - low < 30


def test_regret_is_of_what_was_told_best_and_its_true_score():
    bench = script("bench_proposers")
    place = board([0.0, 1.0, 2.0, 5.0])
    runs = [bench.Run([0, 1, 2], [0.0, 9.0, 3.0], 0)]
    assert {n: list(v) for n, v in bench.regrets(runs, place).items()} == {1: [5.0], 2: [4.0]}
    assert bench.picks(runs) == [1]


def test_an_architecture_is_its_string_and_back():
    boards = script("boards")
    choice = (4, 2, 1, 2, 1, 1)
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert boards.architecture(choice) == text
    assert boards.choice_of(text) == choice


def test_the_spaces_of_the_tables():
    from evosearch.benchmarks import load

    spaces = script("table_spaces")
    three = spaces.functions(spaces.form_of("three-operators"))
    assert len(three) == len(set(three)) == 1954
    assert three[:2] == ["i0e(gelu(x) + gelu(x))", "logsigmoid(min(-x, softsign(x)))"]
    assert spaces.form_of("27x7").text((0, 0, 1)) == "(0) + (1)"
    assert spaces.form_of("27x7").text((4, 0, 0)) == "1"  # 0 ** 0
    assert set(load("activations-27x7").functions) <= set(spaces.functions(spaces.form_of("27x7")))


@pytest.mark.parametrize("table", ["27x7", "three-operators"])
def test_our_space_is_the_space_of_the_table(table):
    spaces, proposing = script("table_spaces"), script("proposing")
    form = spaces.form_of(table)
    space = proposing.grammar(form)
    told = {form.graph(choice) for choice in form.choices()}
    rng = random.Random(0)
    sampled = [space.sample(rng) for _ in range(60)]
    assert all(c.graph in told for c in sampled)
    assert len({str(c) for c in sampled}) > 40


def test_ours_play_by_the_same_rules():
    """The registry's random search on the true table: in its space, the same again, a generator of its own for every ask."""
    boards, proposing = script("boards"), script("proposing")
    place = boards.board_of("activations-27x7")
    first, again, other = (run(proposing.make_ours("ours:random", place, None, seed), place, 4, 12) for seed in (0, 0, 1))
    assert first.rows == again.rows != other.rows
    assert not first.helped


def test_ours_hear_what_a_search_would_tell_them():
    boards, proposing = script("boards"), script("proposing")
    place = boards.board_of("activations-27x7")
    heard, trained = [], ~np.isnan(place.table.standardized()).any(1)
    ours = proposing.make_ours("ours:random", place, None, 0)
    ours.proposer.tell = heard.append
    found = run(ours, place, 1, 30)
    assert [o.index for o in heard] == list(range(29))
    for outcome, row in zip(heard, found.rows, strict=False):
        assert place.table.index(outcome.candidate) == row
        assert (outcome.status == "ok") == bool(trained[row])
        if outcome.status == "ok":
            assert outcome.objectives["mean"] == place.truth[row] >= outcome.objectives["worst"]
            assert outcome.objectives["complexity"] < 0


def test_everybody_comes_in_the_order_of_the_names_and_the_default_ends_with_ours():
    bench = script("bench_proposers")
    assert bench.everybody("knn,portfolio,random") == ["knn", "portfolio", "random"]
    assert bench.everybody("peers,portfolio")[-1] == "portfolio"  # whose picks --dump writes
    with pytest.raises(ValueError, match="unknown proposer `genetics`"):
        bench.everybody("peers,genetics")
