"""Wilson's, bootstrapped and bounded intervals against scipy and the slow way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import Interval, bootstrap_mean, bounded_interval, mean_interval, wilson
from fewshot_i2v.statistics.intervals import shift_on_logit

Make = Callable[..., Interval]
MAKES = [bounded_interval, bootstrap_mean]
accuracies = st.lists(st.integers(0, 5).map(lambda n: n / 5), min_size=2, max_size=40)
uneven = accuracies.filter(lambda values: min(values) < max(values))
levels = st.sampled_from([0.5, 0.9, 0.95, 0.99])


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@given(st.integers(1, 400), st.floats(0, 1), levels)
def test_wilson_is_that_of_scipy(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    got = wilson(successes, n, level)
    expected = scipy.stats.binomtest(successes, n).proportion_ci(level, "wilson")
    assert ends(got) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (got.mean, got.n, got.method) == (successes / n, n, "Wilson")
    assert 0 <= ends(got)[0] <= got.mean <= ends(got)[1] <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_needs_trials(successes: int, n: int) -> None:
    with pytest.raises(UsageError, match="expected at least 1 trial"):
        wilson(successes, n)


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


@given(uneven, st.integers(0, 3))
def test_intervals_are_mirrored_and_scaled_with_their_values(
    values: list[float], seed: int
) -> None:
    for make in MAKES:
        low, high = ends(make(values))
        wide = make([10 * value - 3 for value in values], low=-3, high=7)
        assert ends(wide) == pytest.approx((10 * low - 3, 10 * high - 3), abs=1e-6)
    low, high = ends(bounded_interval(values))
    assert ends(bounded_interval([1 - v for v in values])) == pytest.approx((1 - high, 1 - low))
    again = [bootstrap_mean(values, seed=seed) for _ in range(2)]
    assert again[0] == again[1]
    assert 0 <= ends(again[0])[0] <= np.mean(values) <= ends(again[0])[1] + 1e-12 <= 1 + 1e-9


def test_the_bootstrap_is_the_percentile_t_one_of_drawn_values() -> None:
    values = np.array([0.4, 0.6, 0.6, 0.8, 0.2, 1.0, 0.8, 0.4, 0.6, 0.0])
    drawn = np.random.default_rng(3).choice(values, size=(60_000, len(values)))
    errors = drawn.std(1) / np.sqrt(len(values))
    ratios = (drawn.mean(1) - values.mean())[errors > 0] / errors[errors > 0]
    error = values.std() / np.sqrt(len(values))
    expected = values.mean() - error * np.quantile(ratios, [0.95, 0.05])
    got = bootstrap_mean(values.tolist(), 0.9, repeats=60_000, seed=1)
    assert ends(got) == pytest.approx(tuple(expected), abs=0.01)
    assert (got.n, got.method) == (10, "percentile-t bootstrap")


def test_a_bootstrap_with_too_little_spread_is_as_wide_as_can_be() -> None:
    got = bootstrap_mean([1.0] * 9 + [0.8])
    assert got.low == 0
    assert ends(bounded_interval([1.0] * 9 + [0.8]))[0] > 0.8


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_values_are_no_certainty(make: Make, value: float) -> None:
    got = make([value] * 12)
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


@pytest.mark.parametrize("make", MAKES)
def test_a_single_value_has_none(make: Make) -> None:
    got = make([0.7])
    assert (got.mean, got.low, got.high, got.n) == (0.7, None, None, 1)
    assert "no interval" in got.covers


@pytest.mark.parametrize("make", MAKES)
def test_what_is_no_accuracy_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match=r"values\[1\] is 1\.2; expected 0\.0 to 1\.0"):
        make([0.5, 1.2])
    with pytest.raises(UsageError, match="low first"):
        make([0.5, 0.6], low=1.0, high=0.0)
    with pytest.raises(UsageError, match=r"such as 0\.95"):
        make([0.5, 0.6], 95)


def test_too_few_repeats_are_refused() -> None:
    with pytest.raises(UsageError, match="repeats is 99"):
        bootstrap_mean([0.5, 0.6], repeats=99)


def test_what_it_covers_depends_on_whether_episodes_share_clips() -> None:
    for make in MAKES:
        assert "not cover new clips" in make([0.5, 0.6]).covers
        assert "other clips of these classes" in make([0.5, 0.6], clips_shared=False).covers
    assert "independent" in wilson(3, 4).covers


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
    found = dict.fromkeys(("bounded", "bootstrap", "plain"), 0)
    for sample in samples.tolist():
        for name, low, high in (
            ("bounded", *ends(bounded_interval(sample))),
            ("bootstrap", *ends(bootstrap_mean(sample, repeats=400))),
            ("plain", *ends(mean_interval(sample))),
        ):
            found[name] += low <= mean <= high
    assert 0.93 <= found["bounded"] / 800 <= 0.995
    assert found["bootstrap"] / 800 >= 0.93
    assert found["plain"] < found["bounded"]
