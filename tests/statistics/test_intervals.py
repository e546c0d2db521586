"""Bounded intervals, and those of training seeds, against scipy and the slow way."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import Interval, bounded_interval, mean_interval, seed_interval
from fewshot_i2v.statistics.intervals import shift_on_logit

accuracies = st.lists(st.integers(0, 5).map(lambda n: n / 5), min_size=2, max_size=40)
uneven = accuracies.filter(lambda values: min(values) < max(values))
levels = st.sampled_from([0.5, 0.9, 0.95, 0.99])


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@given(uneven, levels)
def test_bounded_is_student_t_far_from_the_ends_and_on_the_logit_scale_near_them(
    values: list[float], level: float
) -> None:
    got = bounded_interval(values, level)
    mean, error = np.mean(values), scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(level, len(values) - 1, loc=mean, scale=error)
    if 2 * low - mean >= 1e-9 and 2 * high - mean <= 1 - 1e-9:
        assert ends(got) == pytest.approx((low, high))
        assert ends(got) == pytest.approx(ends(mean_interval(values, level)))
        assert got.method == "Student t"
    elif 2 * low - mean < -1e-9 or 2 * high - mean > 1 + 1e-9:
        scale = error / (mean * (1 - mean))
        logits = scipy.stats.t.interval(
            level, len(values) - 1, loc=scipy.special.logit(mean), scale=scale
        )
        assert ends(got) == pytest.approx(tuple(scipy.special.expit(logits)), abs=1e-9)
        assert got.method == "Student t on the logit scale"
    assert 0 <= ends(got)[0] < got.mean < ends(got)[1] <= 1


@given(uneven)
def test_intervals_are_mirrored_with_their_values(values: list[float]) -> None:
    low, high = ends(bounded_interval(values))
    assert ends(bounded_interval([1 - v for v in values])) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_values_are_no_certainty(value: float) -> None:
    got = bounded_interval([value] * 12)
    assert 0 <= ends(got)[0] <= value <= ends(got)[1] <= 1
    assert ends(got)[1] - ends(got)[0] > 0.2
    assert got.method == "Wilson bound for equal values"
    if value == 1:
        square = scipy.stats.t.ppf(0.975, 11) ** 2
        assert ends(got) == pytest.approx((12 / (12 + square), 1.0), abs=1e-12)


@pytest.mark.parametrize("right", [1, 4, 11])
def test_the_bound_of_equal_values_is_that_of_right_and_wrong_answers(right: int) -> None:
    """The ends are the shares that a score test with Student's t just does not refuse."""
    share, quantile = right / 12, scipy.stats.t.ppf(0.975, 11)
    for end in ends(bounded_interval([share] * 12)):
        assert abs(share - end) == pytest.approx(quantile * np.sqrt(end * (1 - end) / 12))


def test_a_single_value_has_none() -> None:
    got = bounded_interval([0.7])
    assert (got.mean, got.low, got.high, got.n) == (0.7, None, None, 1)
    assert "no interval" in got.covers


def test_what_is_no_accuracy_is_refused() -> None:
    with pytest.raises(UsageError, match=r"values\[1\] is 1\.2; expected 0\.0 to 1\.0"):
        bounded_interval([0.5, 1.2])
    with pytest.raises(UsageError, match=r"such as 0\.95"):
        bounded_interval([0.5, 0.6], 95)


def test_what_it_covers_depends_on_whether_episodes_share_clips() -> None:
    assert "not cover new clips" in bounded_interval([0.5, 0.6]).covers
    disjoint = bounded_interval([0.5, 0.6], clips_shared=False)
    assert "other clips of these classes" in disjoint.covers


@pytest.mark.parametrize("shift", [-1e6, -3.0, 0.0, 0.2, 1e6])
def test_a_shift_on_the_logit_scale_is_that_of_scipy_and_never_overflows(shift: float) -> None:
    expected = scipy.special.expit(scipy.special.logit(0.9) + shift / 0.09)
    assert shift_on_logit(0.9, shift) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "mean", "concentration"), [(25, 0.97, 20), (12, 0.85, 10)])
def test_bounded_intervals_hold_the_mean_near_one(
    n: int, mean: float, concentration: float
) -> None:
    generator = np.random.default_rng(8)
    a, b = mean * concentration, (1 - mean) * concentration
    samples = generator.binomial(5, generator.beta(a, b, size=(800, n))) / 5
    found = dict.fromkeys(("bounded", "plain"), 0)
    for sample in samples.tolist():
        for name, low, high in (
            ("bounded", *ends(bounded_interval(sample))),
            ("plain", *ends(mean_interval(sample))),
        ):
            found[name] += low <= mean <= high
    assert 0.93 <= found["bounded"] / 800 <= 0.995
    assert found["plain"] < found["bounded"]


def test_seeds_have_the_interval_of_student() -> None:
    means = [0.62, 0.65, 0.60, 0.66]
    got = seed_interval(means)
    expected = scipy.stats.t.interval(0.95, 3, loc=np.mean(means), scale=scipy.stats.sem(means))
    assert ends(got) == pytest.approx(expected)
    assert "other training seeds" in got.covers
    high = seed_interval([0.99, 0.999])
    assert 0 < ends(high)[0] < ends(high)[1] < 1


def test_one_seed_or_equal_ones_have_no_width() -> None:
    single = seed_interval([0.6])
    assert (single.low, single.half_width) == (None, None)
    assert "One seed: no interval." in single.covers
    equal = seed_interval([0.6, 0.6, 0.6])
    assert equal.half_width == 0
    assert "no width" in equal.covers


def test_means_that_are_no_accuracies_are_refused() -> None:
    with pytest.raises(UsageError, match="expected accuracies, 0 to 1"):
        seed_interval([0.5, 62.0])
    with pytest.raises(UsageError, match="empty"):
        seed_interval([])
