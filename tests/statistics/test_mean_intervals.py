"""Intervals against scipy, against a simulation, and where they end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import Interval, mean_interval, paired_difference

accuracies = st.lists(st.integers(0, 25).map(lambda n: n / 25), min_size=2, max_size=40).filter(
    lambda values: min(values) < max(values)
)
levels = st.floats(0.5, 0.999)


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@given(accuracies, levels)
def test_the_interval_is_the_one_of_scipy(values: list[float], level: float) -> None:
    got = mean_interval(values, level)
    expected = scipy.stats.t.interval(
        level, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values)
    )
    assert got.mean == pytest.approx(np.mean(values))
    assert ends(got) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert got.half_width == pytest.approx((expected[1] - expected[0]) / 2)
    assert (got.level, got.n, got.method) == (level, len(values), "Student t")


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=2, max_size=30), levels)
def test_the_paired_difference_is_the_one_of_scipy(
    pairs: list[tuple[int, int]], level: float
) -> None:
    a, b = ([pair[side] / 25 for pair in pairs] for side in (0, 1))
    got = paired_difference(a, b, level)
    assert got.mean == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)
    swapped = paired_difference(b, a, level)
    if got.low is None:
        assert (swapped.low, swapped.high, got.high) == (None, None, None)
        assert "no interval" in got.covers
    else:
        expected = scipy.stats.ttest_rel(a, b).confidence_interval(level)
        assert ends(got) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)
        assert ends(swapped) == pytest.approx(tuple(-x for x in reversed(ends(got))), abs=1e-12)
    assert got.method == "paired Student t"


@pytest.mark.parametrize(("n", "level"), [(5, 0.95), (25, 0.95), (12, 0.8)])
def test_it_covers_the_mean_as_often_as_it_says(n: int, level: float) -> None:
    generator = np.random.default_rng(5)
    samples = generator.binomial(25, 0.6, size=(2500, n)) / 25
    held = 0
    for sample in samples:
        low, high = ends(mean_interval(sample.tolist(), level))
        held += low <= 0.6 <= high
    assert held / len(samples) == pytest.approx(level, abs=0.02)


def test_the_paired_interval_covers_the_difference_and_is_the_narrower_one() -> None:
    generator = np.random.default_rng(6)
    difficulty = generator.normal(0.6, 0.15, size=(2000, 20))
    a = difficulty + generator.normal(0.03, 0.04, size=difficulty.shape)
    b = difficulty + generator.normal(0.0, 0.04, size=difficulty.shape)
    held, narrower = 0, 0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        got = paired_difference(x, y)
        low, high = ends(got)
        held += low <= 0.03 <= high
        narrower += high - low < np.diff(ends(mean_interval(x)))[0]
    assert 0.93 <= held / 2000 <= 0.97
    assert narrower == 2000


def test_a_single_value_has_no_interval() -> None:
    for got in (mean_interval([0.4]), paired_difference([0.9], [0.5])):
        assert got.mean == pytest.approx(0.4)
        assert (got.low, got.high, got.half_width, got.n) == (None, None, None, 1)
        assert "no interval" in got.covers


@pytest.mark.parametrize("value", [1.0, 0.0, 0.1, 0.6])
def test_equal_values_claim_no_certainty(value: float) -> None:
    got = mean_interval([value] * 7)
    assert (got.mean, got.low, got.high, got.half_width) == (value, value, value, 0)
    assert "not certainty" in got.covers
    assert "not certainty" not in mean_interval([0.1, 0.2]).covers


def test_it_says_what_it_does_not_cover() -> None:
    for got in (mean_interval([0.1, 0.2]), paired_difference([0.1, 0.2], [0.2, 0.5])):
        assert "does not cover new clips" in got.covers
        assert got.covers.endswith(".")


def test_small_differences_of_large_numbers_are_not_lost() -> None:
    got = mean_interval([1e9 + x for x in (1.0, 2.0, 3.0)])
    expected = mean_interval([1.0, 2.0, 3.0])
    assert got.half_width == pytest.approx(expected.half_width, rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    with pytest.raises(UsageError, match=r"values\[1\] is"):
        mean_interval([0.5, bad])
    with pytest.raises(UsageError, match=r"b\[0\] is"):
        paired_difference([0.5, 0.5], [bad, 0.5])


def test_no_values_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one value"):
        mean_interval([])
    with pytest.raises(UsageError, match="at least one value"):
        paired_difference([], [])


def test_different_numbers_of_episodes_are_refused() -> None:
    with pytest.raises(UsageError, match="got 2 and 1 values"):
        paired_difference([0.1, 0.2], [0.1])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5, math.nan])
@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.4, 0.5]])
def test_a_level_out_of_range_is_refused(values: list[float], level: float) -> None:
    with pytest.raises(UsageError, match=r"such as 0\.95"):
        mean_interval(values, level)
