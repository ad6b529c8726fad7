"""What is said of a search before it is started, and every space that comes with the package."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from evosearch.config import load
from evosearch.estimate import estimate_lines, passing, samples, size_line, tried
from evosearch.language.candidate import parse_candidate
from evosearch.proposers import Outcome
from evosearch.proposers.registry import make_portfolio
from evosearch.run import screen_of
from evosearch.space.trees import count, count_up_to, smallest_first

SPACES = sorted(path.name for path in (Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_that_comes_along_can_be_searched(name):
    """Samples lie in it and go through text, a good part passes the screen, and what its proposers ask lies in it."""
    config = load(name)
    space, screen = config.space.space(), screen_of(config, config.space.space())
    found = [space.sample(random.Random(seed)) for seed in range(60)]
    assert len({str(candidate) for candidate in found}) > 30
    for candidate in found:
        assert space.contains(parse_candidate(str(candidate)))
    assert sum(screen.check(str(candidate)) is None for candidate in found) >= 8
    portfolio = make_portfolio(config.proposers, space, config.controls, config.judging.goals, by_earnings=True)
    for k in range(40):
        proposal = portfolio.ask(random.Random(k))
        assert space.contains(parse_candidate(proposal.candidate)) or proposal.proposer == "control:tuned"
        objectives = {"mean": -float(len(proposal.candidate)), "worst": 0.0, "complexity": 0.0, "saved_per_element": -1.0, "params": -1.0, "macs": -1.0}
        portfolio.tell(Outcome(k, proposal.candidate, proposal.proposer, "ok", objectives))


def test_a_space_is_counted_or_bounded():
    schema = load("aquasurf.yaml").space.space()
    assert size_line(schema).startswith("5,103 trees")
    assert count_up_to(schema, 3) == count(schema)
    free = load("smoke.yaml").space.space()
    assert re.match(r"no end of trees; of at most \d+ productions there are about 1e\d+", size_line(free))
    assert count_up_to(free, 4) == sum(1 for _ in smallest_first(free.productions, free.root, 4))


def test_samples_come_with_the_screens_verdicts():
    config = load("aquasurf.yaml")
    texts, verdicts = samples(config, config.space.space(), 0)
    assert (len(texts), sum(verdicts.values())) == (20, 20)
    assert 5 < verdicts["passes"] < 20
    assert samples(config, config.space.space(), 0) == (texts, verdicts)
    screen = screen_of(config, config.space.space())
    assert all(screen.check(text) is None for text in passing(config, config.space.space(), 0, 8))
    with pytest.raises(ValueError, match="the screen lets 1 through"):
        passing(load("smoke.yaml", ["space={layers: [tanh]}"]), load("smoke.yaml", ["space={layers: [tanh]}"]).space.space(), 0, 8)


def test_minutes_follow_from_what_was_trained():
    config = load("smoke.yaml")
    results = tried(config, passing(config, config.space.space(), 0, 2), ())
    assert [r.stage for r in results] == ["full", "full"]
    seconds, total = estimate_lines(config, results)
    assert re.match(r"seconds a function: numeric \d", seconds)
    minutes = float(re.search(r"about ([\d.]+) minutes of search", total).group(1))
    longer = load("smoke.yaml", [f"budget.evaluations={1000 * config.budget.evaluations}"])
    (_, thousandfold) = estimate_lines(longer, results)
    assert float(re.search(r"about ([\d.]+) minutes of search", thousandfold).group(1)) > 100 * minutes
