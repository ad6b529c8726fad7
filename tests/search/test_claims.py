"""The scale, the bars, the pick and the verdict: what may be said of a function."""

from __future__ import annotations

import math
import random

import pytest

from evosearch.search.pareto import hypervolume, nondominated
from evosearch.search.pick import Pick, contestants, front, pick, volumes
from evosearch.search.scale import GOALS, Goal, Scale, freeze, pair_scores, point, promote_bar, standardize
from evosearch.search.verdict import compare, grain

NAN, INF = math.nan, math.inf
SCALE = Scale({"full:a": 0.0, "full:b": 0.0}, {"full:a": 1.0, "full:b": 1.0}, {})


def row(index, proposer, mean, worst, cost=5.0, **more):
    objectives = {"mean": mean, "worst": worst, "complexity": cost, "saved_per_element": 1.0}
    base = {"index": index, "candidate": f"f{index}", "proposer": proposer, "status": "ok", "stage": "full", "scores": {}}
    return base | {"objectives": {k: v for k, v in objectives.items() if v is not None}} | more


# -- the front ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_front_holds_what_nothing_dominates_and_nothing_that_is_not_finite(seed):
    rng = random.Random(seed)
    values = [0.0, -0.0, 1.0, 1.0, 2.0, 1e308, -1e308, NAN, INF, -INF, None]
    points = [tuple(rng.choice(values) for _ in range(3)) for _ in range(60)]
    members = nondominated(points)
    finite = [i for i, p in enumerate(points) if all(v is not None and math.isfinite(v) for v in p)]
    beaten = {i for i in finite for j in finite if points[j] != points[i] and all(a >= b for a, b in zip(points[j], points[i], strict=True))}
    assert members == [i for i in finite if i not in beaten]
    order = rng.sample(range(60), 60)
    assert sorted(order[i] for i in nondominated([points[i] for i in order])) == members


@pytest.mark.parametrize("seed", range(10))
def test_a_hypervolume_is_the_share_of_a_box_that_points_dominate(seed):
    """Counted on a grid of unit cubes; what is not finite, or not above the reference, adds nothing."""
    rng = random.Random(seed)
    points = [tuple(rng.randint(0, 4) for _ in range(3)) for _ in range(8)]
    cubes = {(a, b, c) for p in points for a in range(p[0]) for b in range(p[1]) for c in range(p[2])}
    assert hypervolume([*points, (NAN, 9, 9), (9, None, 9), (0, 9, 9)], (0, 0, 0)) == len(cubes)
    assert hypervolume(rng.sample(points, 8), (-1, 0, 0)) >= len(cubes)
    assert hypervolume([], (0, 0)) == 0


def test_what_was_found_is_measured_by_the_volume_that_it_adds():
    rows = [row(0, "baseline", 1.0, 1.0, -5.0), row(1, "baseline", 0.0, 0.0, -1.0), row(2, "g", 0.5, 0.5, -5.0), row(3, "control:random", 3.0, 2.0, -1.0)]
    found = volumes(rows)
    assert found["the finds"] == 1.0  # it is dominated
    assert found["random search"] > 1.2
    assert volumes(rows[2:]) == {}


def test_only_rows_that_were_fully_trained_enter_the_front():
    rows = [row(0, "g", 2.0, 2.0, status="nonfinite"), row(1, "g", 2.0, 2.0, stage="quality"), row(2, "g", None, 1.0), row(3, "g", 0.0, 0.0)]
    assert [r["index"] for r in front(rows)] == [3]


def test_goals_decide_what_dominates():
    rows = [row(0, "g", 1.0, 1.0, 5, noise=0.0), row(1, "g", 0.9, 0.5, 1, noise=-1.0), row(2, "g", 0.8, 0.0, 9, noise=2.0), row(3, "g", 2.0, 2.0, 1)]
    for r in rows:
        noise = r.pop("noise", None)
        r["objectives"] |= {} if noise is None else {"noise": noise}
    assert [r["index"] for r in front(rows[:3])] == [0, 1]
    noise = (Goal("noise", 0),)
    assert [r["index"] for r in front(rows, noise)] == [0, 2]  # the last was not measured
    assert [r["index"] for r in front(rows[:3], (Goal("complexity", -1, trained=False),))] == [0, 1]
    assert pick([row(9, "baseline", 0.0, 0.0), *rows], SCALE, noise) == Pick(0, "f0", True)


def test_a_point_is_of_one_stage():
    objectives = {"mean": 1.0, "worst": 0.5, "quality_mean": 2.0, "quality_worst": 1.5, "complexity": 7.0, "kurtosis": 3.0}
    goals = (*GOALS, Goal("kurtosis", -1))
    assert point(objectives, goals) == {"mean": 1.0, "worst": 0.5, "complexity": -7.0, "saved_per_element": None, "kurtosis": -3.0}
    assert point(objectives, goals, "quality_") == {"mean": 2.0, "worst": 1.5, "complexity": -7.0, "saved_per_element": None, "kurtosis": None}


# -- the pick ----------------------------------------------------------------------------------------------------------


def test_the_pick_leads_by_mean_and_is_the_best_by_its_worst_pair():
    rows = [row(0, "baseline", 1.0, 1.0, 1), row(1, "g", 1.5, -2.0), row(2, "g", 1.2, 0.9), row(3, "g", 0.9, 3.0)]
    assert pick(rows, SCALE) == Pick(2, "f2", True)


def test_where_no_mean_beats_every_baseline_the_best_found_mean_is_taken_and_flagged():
    """Even when a baseline dominates it and a poor simple function does not: simple is no reason to be recommended."""
    rows = [row(0, "baseline", 1.0, 1.0, 1), row(1, "g", 0.9, 0.9, 5), row(2, "g", -2.0, -2.0, 0)]
    assert pick(rows, SCALE) == Pick(1, "f1", False)
    assert pick([rows[0], rows[1]], SCALE) == Pick(1, "f1", False)


def test_an_equal_mean_does_not_lead():
    assert pick([row(0, "baseline", 1.0, 1.0), row(1, "g", 1.0, 2.0)], SCALE) == Pick(1, "f1", False)


def test_within_seed_noise_the_simpler_is_picked():
    noisy = {"full:a:0": 0.0, "full:a:1": 1.0, "full:b:0": 0.0, "full:b:1": 1.0}
    rows = [row(1, "g", 2.0, 1.00, 9, scores=noisy), row(2, "g", 2.1, 0.95, 3, scores=noisy), row(3, "g", 2.2, -2.0, 1, scores=noisy)]
    assert pick(rows, SCALE) == Pick(2, "f2", True)
    still = [r | {"scores": {}} for r in rows]
    assert pick(still, SCALE) == Pick(1, "f1", True)


@pytest.mark.parametrize("seed", range(5))
def test_the_pick_does_not_depend_on_the_order_of_rows(seed):
    rng = random.Random(seed)
    rows = [row(i, "baseline" if i < 3 else "g", rng.choice([0.0, 1.0, 2.0]), rng.random(), rng.randrange(5)) for i in range(20)]
    chosen = pick(rows, SCALE)
    assert all(pick(rng.sample(rows, 20), SCALE) == chosen for _ in range(5))


def test_there_is_no_pick_without_a_fully_trained_function():
    assert pick([], SCALE) is None
    assert pick([row(0, "baseline", 1.0, 1.0), row(1, "g", None, None)], SCALE) is None


def test_the_contestants_are_the_pick_the_strongest_baselines_and_relu():
    rows = [row(i, "baseline", float(i), 0.0) for i in range(6)]
    assert contestants(rows, Pick(9, "f9", True), "relu(x)") == ["f9", "f5", "f4", "f3", "relu(x)"]
    assert contestants(rows, None, "relu(x)") == []
    assert contestants([row(0, "baseline", 1.0, 1.0, candidate="relu(x)")], Pick(9, "f9", True), "relu(x)") == ["f9", "relu(x)"]


# -- the scale ---------------------------------------------------------------------------------------------------------


def test_the_scale_is_the_baselines_median_and_interquartile_range():
    values = {"identity": 0, "relu": 10, "x": 20, "y": 30, "z": 40}
    scores = {name: {"quality:a:0": v, "full:a:0": v, "full:a:1": v + 2} for name, v in values.items()}
    scale = freeze(scores, {"a": 1})
    assert scale.center == {"quality:a": 20, "full:a": 21}
    assert scale.spread == {"quality:a": 30, "full:a": 30}  # quartiles of 0 10 20 30 40, exclusive: 5 and 35
    assert scale.quality == {"a": 5.0}


@pytest.mark.parametrize("value", [0.0, 50.0, -2.3])
def test_a_spread_is_never_zero(value):
    scale = freeze({name: {"quality:a:0": value} for name in ("identity", "relu", "tanh")}, {"a": 1})
    assert scale.spread["quality:a"] > 0
    assert scale.standardized("quality", "a", value, 1) == 0


def test_a_lower_score_is_better_where_the_task_says_so_and_everything_is_clipped():
    scale = Scale({"quality:nats": 2.0}, {"quality:nats": 0.5}, {})
    assert scale.standardized("quality", "nats", 1.5, -1) == 1.0
    assert scale.standardized("quality", "nats", -100.0, -1) == 3.0
    assert scale.standardized("quality", "nats", 100.0, -1) == -3.0


@pytest.mark.parametrize("broken", ["identity", "relu"])
def test_a_missing_anchor_is_named(broken):
    scores = {name: {"quality:a:0": 1.0, "quality:b:0": 1.0} for name in ("identity", "relu", "tanh")}
    with pytest.raises(ValueError, match=f"`{broken}` has no scores"):
        freeze(scores | {broken: {}}, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="the quality bar of b"):
        freeze(scores | {broken: {"quality:a:0": 1.0}}, {"a": 1, "b": 1})


def test_a_mean_needs_every_pair_of_its_stage():
    directions = {"a": 1, "b": 1}
    assert standardize({"scores": {"full:a:0": 1.0}}, SCALE, directions) == {}
    assert standardize({"scores": {"full:a:0": 1.0, "full:b:0": -2.0}}, SCALE, directions) == {"mean": -0.5, "worst": -2.0}


def test_goals_of_networks_are_means_over_their_pairs_and_scores_standardized_first():
    scale = Scale({"full:a": 10.0, "full:b": 1.0, "quality:a": 10.0}, {"full:a": 5.0, "full:b": 0.5, "quality:a": 5.0}, {})
    pairs = {"quality": ("a",), "full": ("a", "b")}
    noise, kurtosis = Goal("noise", 0, pairs=pairs), Goal("kurtosis", -1, pairs=pairs)
    objectives = {"noise:a:0": 15.0, "noise:a:1": 25.0, "noise:b:0": 2.0, "kurtosis:a:0": 3.0, "kurtosis:b:0": 5.0, "quality_noise:a:0": 0.0}
    found = standardize({"scores": {}, "objectives": objectives}, scale, {"a": 1, "b": -1}, (noise, kurtosis))
    assert found == {"noise": (2.0 - 2.0) / 2, "kurtosis": 4.0, "quality_noise": -2.0}
    again = standardize({"scores": {}, "objectives": objectives | found}, scale, {"a": 1, "b": -1}, (noise, kurtosis))
    assert again == found  # a closed segment has the means too
    del objectives["noise:b:0"]
    assert set(standardize({"scores": {}, "objectives": objectives}, scale, {"a": 1, "b": -1}, (noise, kurtosis))) == {"kurtosis", "quality_noise"}
    assert pair_scores({"noise": 1.0, "noise:a:0": 2.0}, "noise") == {"a": 2.0}


def test_the_bar_lets_the_best_share_go_on_and_more_while_little_is_known():
    assert promote_bar([], 0.08) == -1.0  # a spread below the baselines' median
    assert promote_bar([0.0, 1.0, 2.0], 0.01) == 2.0  # at least one
    means = [float(m) for m in range(100)]
    assert promote_bar(means, 1.0) == -3.0  # all go on, a new worst too
    going_on = [(count - promote_bar(range(count), 0.08)) / count for count in (10, 100, 1000, 100_000)]
    assert going_on == sorted(going_on, reverse=True)
    assert 0.3 < going_on[0] < 0.5
    assert 0.08 < going_on[-1] < 0.09


# -- the verdict -------------------------------------------------------------------------------------------------------


def final(candidate, pair, scores, **more):
    return {"stage": "final", "status": "ok", "candidate": candidate, "scores": {f"final:{pair}:{i}": s for i, s in enumerate(scores)}} | more


def two(ours, theirs, tried=1, direction=1, names=None):
    rows = [final("f", "a", ours), final("b", "a", theirs)]
    (c,) = compare(rows, "f", names or {"f": "f", "b": "B"}, {"a": direction}, tried)
    return c


STEADY = [10.0, 10.2, 9.9, 10.1, 10.0, 10.1]
HIGHER = [s + 1 + 0.02 * i for i, s in enumerate(STEADY)]


def test_the_three_words():
    assert two(HIGHER, STEADY).verdict == "better"
    assert two(STEADY, HIGHER).verdict == "worse"
    assert two(STEADY, STEADY[::-1]).verdict == "not better"
    assert two(HIGHER, STEADY, direction=-1).verdict == "worse"


def test_the_interval_is_student_s_and_widens_with_the_number_tried():
    one, many = two(HIGHER, STEADY), two(HIGHER, STEADY, tried=1000)
    assert one.level == pytest.approx(0.95)
    assert many.level == pytest.approx(1 - 0.05 / 1000)
    assert many.low < one.low < one.difference < one.high < many.high
    gaps = [1 + 0.02 * i for i in range(6)]
    center = sum(gaps) / 6
    deviation = math.sqrt(sum((g - center) ** 2 for g in gaps) / 5)
    assert (one.high - one.low) / 2 / one.difference == pytest.approx(2.570582 * deviation / math.sqrt(6) / center, rel=1e-5)


def test_more_comparisons_widen_every_interval():
    rows = [final("f", "a", HIGHER), final("b", "a", STEADY), final("c", "a", STEADY)]
    assert [c.level for c in compare(rows, "f", {"f": "f", "b": "B", "c": "C"}, {"a": 1}, 4)] == pytest.approx([1 - 0.05 / 8] * 2)


def test_luck_is_rarely_called_better():
    rng, better = random.Random(0), 0
    for _ in range(300):
        ours, theirs = ([rng.gauss(0, 1) for _ in range(6)] for _ in range(2))
        better += two(ours, theirs).verdict != "not better"
    assert better <= 30  # 5 % expected: 15


def test_a_single_sample_proves_nothing():
    assert two([99.0], [0.0]).verdict == "not better"


def test_two_equal_differences_prove_nothing():
    """Accuracies are counts: two seeds may differ from another's by just as much."""
    found = two([90.0, 91.0], [88.0, 89.0])
    assert found.verdict == "not better"
    assert found.low < 0 < found.high


def test_rounding_is_no_difference():
    """An accuracy that is a mean over batches differs in its last bits where the counts are equal."""
    assert grain([90.8, 91.1, 90.8 + 1e-14, 91.4]) == pytest.approx(0.3)
    assert grain([50.0, 50.0]) == grain([]) == 0


def test_a_pick_that_failed_on_a_pair_is_not_better():
    rows = [final("f", "a", HIGHER), final("b", "a", STEADY), final("b", "z", STEADY), final("f", "z", [], status="nonfinite")]
    (c,) = compare(rows, "f", {"f": "f", "b": "B"}, {"a": 1, "z": 1}, 1)
    assert (c.verdict, c.missing) == ("not better", ("z",))
    assert compare(rows[2:], "f", {"f": "f", "b": "B"}, {"a": 1, "z": 1}, 1) == []


def test_contestants_without_a_common_pair_are_not_compared():
    assert compare([final("f", "a", STEADY), final("b", "z", STEADY)], "f", {"f": "f", "b": "B"}, {"a": 1, "z": 1}, 1) == []
