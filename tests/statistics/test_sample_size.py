"""How many episodes, queries and clips it takes."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fewshot_i2v.data.splits.summary import max_disjoint_episodes
from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import bounded_interval, mean_interval
from fewshot_i2v.statistics import sample_size as plan
from fewshot_i2v.statistics.paired_tests import minimum_detectable_difference
from fewshot_i2v.statistics.variance_components import (
    assumed_components,
    assumed_difference_components,
    constant_values_deviation,
    estimate_components,
)

Answers = NDArray[np.float64]


def answers(
    seed: int, episodes: int, way: int, query: int, *, between: float, classes: float
) -> Answers:
    """Right or wrong, (episodes, way, query), around chances with spread of both kinds."""
    generator = np.random.default_rng(seed)
    chance = 0.5 + sqrt(3 * between) * generator.uniform(-1, 1, (episodes, 1, 1))
    chance = chance + sqrt(3 * classes) * generator.uniform(-1, 1, (episodes, way, 1))
    return np.asarray(generator.random((episodes, way, query)) < chance, dtype=np.float64)


def test_components_are_those_of_the_analysis_of_variance() -> None:
    values = answers(0, 12, 4, 6, between=0.01, classes=0.01)
    found = estimate_components(values.tolist())
    cells = values.reshape(-1, 6)
    inside = cells.var(axis=1, ddof=1).mean()
    ratio, _ = stats.f_oneway(*cells)
    assert 6 * cells.mean(axis=1).var(ddof=1) / inside == pytest.approx(ratio)
    assert found.within == pytest.approx(inside)
    assert found.deviation() ** 2 == pytest.approx(values.mean(axis=(1, 2)).var(ddof=1))
    assert found.between == pytest.approx(found.deviation() ** 2 - inside / 24)
    assert (found.queries, found.episodes, found.per_class) == (24, 12, True)
    assert found.mean == pytest.approx(values.mean())


def test_with_one_query_per_class_the_groups_are_the_episodes() -> None:
    values = answers(1, 40, 5, 1, between=0.02, classes=0.0)
    found = estimate_components(values.tolist())
    rows = values.reshape(40, 5)
    ratio, _ = stats.f_oneway(*rows)
    inside = rows.var(axis=1, ddof=1).mean()
    assert not found.per_class
    assert found.within == pytest.approx(inside)
    assert found.between == pytest.approx(max(0, (ratio * inside - inside) / 5))


@pytest.mark.parametrize("query", [2, 5])
def test_components_foretell_the_spread_with_other_queries(query: int) -> None:
    settings = {"between": 0.01, "classes": 0.03}
    # what classes of an episode differ by is not taken away by more queries
    truth = 0.01 + 0.03 / 5
    found = estimate_components(answers(2, 8_000, 5, query, **settings).tolist())
    assert found.between == pytest.approx(truth, rel=0.08)
    other = answers(3, 8_000, 5, 15, **settings).mean(axis=(1, 2)).std(ddof=1)
    assert found.deviation(75) == pytest.approx(other, rel=0.03)


def test_uneven_episodes_count_as_they_are() -> None:
    values = [[[1, 0, 1], [1]], [[0, 1], [1, 1]], [[0], [0]], [[1, 1, 0, 0], []]]
    found = estimate_components(values)
    assert found.queries == pytest.approx(4 / (1 / 4 + 1 / 4 + 1 / 2 + 1 / 4))
    assert found.within == pytest.approx((2 / 3 + 1 / 2 + 0 + 1) / (2 + 1 + 1 + 3))
    assert found.mean == pytest.approx((0.75 + 0.75 + 0 + 0.5) / 4)


def test_no_negative_variance() -> None:
    found = estimate_components([[[1, 0], [1, 0]], [[0, 1], [0, 1]]])
    assert found.between == 0
    assert plan.best_query_count(found, 5, 1) == inf


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([[[1, 0]]], "episodes: 1; expected at least 2"),
        ([[[1, 0]], [[], []]], r"episodes\[1\] is \[\]"),
        ([[[1, 0]], [[inf, 1]]], r"episodes\[1\] is \[inf"),
        ([[[1]], [[0]]], "every episode has one query"),
    ],
)
def test_pilots_that_say_nothing_are_refused(
    episodes: list[list[list[float]]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        estimate_components(episodes)


def test_assumed_values() -> None:
    found = assumed_components(0.8, 25, 0.05)
    assert found.deviation() == pytest.approx(sqrt(0.16 * (0.05 + 0.95 / 25)))
    apart = assumed_difference_components(found, 0.3)
    assert apart.deviation() == pytest.approx(found.deviation() * sqrt(1.4))
    assert assumed_difference_components(found, 1).deviation() == 0
    for wrong in ((1.0, 25, 0.05), (0.8, 0, 0.05), (0.8, 25, 1.5)):
        with pytest.raises(UsageError, match="expected"):
            assumed_components(*wrong)
    with pytest.raises(UsageError, match="pairing is 2"):
        assumed_difference_components(found, 2)


@pytest.mark.parametrize("shot", [1, 5, 10])
def test_the_best_query_count_has_the_smallest_variance_for_its_clips(shot: int) -> None:
    found = assumed_components(0.7, 25, 0.03)
    best = plan.best_query_count(found, 5, shot)
    grid = np.linspace(1, 60, 5901)
    # clips of an episode times its variance: what a given number of clips leaves of it
    cost = 5 * (shot + grid) * (found.between + found.within / (5 * grid))
    assert best == pytest.approx(grid[cost.argmin()], abs=0.02)
    assert plan.best_query_count(assumed_components(0.7, 25, 0.9), 5, 1) == 1


@pytest.mark.parametrize(("deviation", "target"), [(0.1, 0.01), (0.1, 0.05), (0.1, 0.3), (0, 0.1)])
def test_episodes_for_a_half_width_are_the_fewest(deviation: float, target: float) -> None:
    n = plan.episodes_for_half_width(deviation, target)
    assert plan.half_width(deviation, n) <= target
    assert n == 2 or plan.half_width(deviation, n - 1) > target
    half = stats.t.ppf(0.975, n - 1) * deviation / sqrt(n)
    assert plan.half_width(deviation, n) == pytest.approx(half)
    assert plan.episodes_for_half_width(deviation, target, max_distance=0.8) >= n


def test_the_half_width_comes_true() -> None:
    generator = np.random.default_rng(4)
    n = plan.episodes_for_half_width(0.1, 0.02)
    widths = [mean_interval(generator.normal(0, 0.1, n).tolist()).half_width for _ in range(200)]
    assert np.mean([w for w in widths if w is not None]) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(("difference", "power", "level"), [(0.02, 0.8, 0.95), (0.08, 0.9, 0.99)])
def test_episodes_for_a_difference_have_the_power(
    difference: float, power: float, level: float
) -> None:
    n = plan.episodes_for_difference(0.1, difference, power=power, level=level)
    draws = np.random.default_rng(5).normal(difference, 0.1, (8000, n))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / sqrt(n))
    critical = stats.t.ppf((1 + level) / 2, n - 1)
    found = (t > critical).mean()
    # the next whole episode gives a little more
    assert power - 0.015 < found < power + 0.03
    shift = difference / 0.1
    assert stats.nct.sf(critical, n - 1, shift * sqrt(n)) >= power - 1e-6
    fewer = stats.t.ppf((1 + level) / 2, n - 2)
    assert stats.nct.sf(fewer, n - 2, shift * sqrt(n - 1)) < power


def test_the_visible_difference_is_that_of_a_comparison() -> None:
    values = np.random.default_rng(6).normal(0, 0.1, 40)
    seen = plan.detectable_difference(values.std(ddof=1), 40, power=0.9, level=0.9)
    assert seen == pytest.approx(minimum_detectable_difference(values.tolist(), 0.9, 0.9))
    with pytest.raises(UsageError, match=r"power is 0\.05"):
        plan.detectable_difference(0.1, 40, power=0.05)


def test_aims_out_of_reach_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 1,000,000,000 episodes"):
        plan.episodes_for_half_width(0.5, 1e-9)
    with pytest.raises(UsageError, match="half-width is 0"):
        plan.episodes_for_half_width(0.5, 0)
    with pytest.raises(UsageError, match="difference is nan"):
        plan.episodes_for_difference(0.5, float("nan"))


def test_the_range_of_a_deviation_holds_it() -> None:
    draws = np.random.default_rng(7).normal(0, 1, (4000, 12)).std(axis=1, ddof=1)
    ranges = [plan.deviation_range(float(d), 12) for d in draws]
    assert np.mean([low <= 1 <= high for low, high in ranges]) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("classes", [5, 8, 10])
@pytest.mark.parametrize(("shot", "query"), [(1, 1), (5, 3)])
def test_clips_per_class_are_the_fewest(classes: int, shot: int, query: int) -> None:
    for episodes in (1, 2, 7, 20):
        clips = plan.clips_per_class(episodes, classes, 5, shot, query)
        assert max_disjoint_episodes([clips] * classes, 5, shot, query) >= episodes
        assert max_disjoint_episodes([clips - 1] * classes, 5, shot, query) < episodes
    with pytest.raises(UsageError, match="way: got 5; expected at most 4"):
        plan.clips_per_class(3, 4, 5, 1, 1)


def test_the_best_use_of_clips_is_found() -> None:
    found = assumed_components(0.8, 25, 0.02)
    counts = {q: max_disjoint_episodes([60] * 10, 5, 5, q) for q in range(1, 55)}
    best = plan.best_disjoint_plan(found, 5, counts)
    assert best is not None
    widths = {
        q: stats.t.ppf(0.975, n - 1) * sqrt((found.between + found.within / (5 * q)) / n)
        for q, n in counts.items()
        if n > 1
    }
    assert best.query == min(widths, key=lambda q: widths[q])
    assert best.half_width == pytest.approx(widths[best.query])
    assert best.episodes == counts[best.query]
    assert plan.best_disjoint_plan(found, 5, {1: 1, 2: 0}) is None


@pytest.mark.parametrize("common", [0.0, 0.02, 0.5])
def test_the_fewest_clips_are_found(common: float) -> None:
    found = assumed_components(0.8, 25, common)
    clips, use = plan.min_clips_per_class(found, 0.03, classes=8, way=5, shot=5)
    every = []
    for query in range(1, 300):
        n = plan.episodes_for_half_width(found.deviation(5 * query), 0.03)
        every.append(plan.clips_per_class(n, 8, 5, 5, query))
    assert clips == min(every)
    assert use.half_width <= 0.03
    assert max_disjoint_episodes([clips] * 8, 5, 5, use.query) >= use.episodes


def test_equal_episodes_leave_a_spread_open() -> None:
    few, many = (constant_values_deviation(1.0, n) for n in (30, 300))
    low = bounded_interval([1.0] * 30).low or 0.0
    assert few == pytest.approx((low * (1 - low)) ** 0.5)
    assert 0.3 < few < 0.35
    assert 0 < many < few / 2
    assert constant_values_deviation(0.0, 30) == pytest.approx(few)
    assert constant_values_deviation(0.5, 30) == 0.5


def test_the_pilots_own_spread_is_that_of_its_episodes() -> None:
    """Also where episodes differ less than their queries suggest, which leaves no b."""
    found = estimate_components([[[1, 0], [1, 0]], [[0, 1], [0, 1]], [[1, 1], [1, 0]]])
    assert found.short > 0
    measured = np.std([0.5, 0.5, 0.75], ddof=1)
    assert found.episode_deviation() == pytest.approx(measured)
    assert found.episode_deviation(found.queries) == pytest.approx(measured)
    assert found.episode_deviation(2 * found.queries) < measured < found.deviation()
