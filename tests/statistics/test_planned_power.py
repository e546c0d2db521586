"""Planned episodes have the power they are planned for, in the tests that `compare` makes."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_i2v.statistics import paired_difference
from fewshot_i2v.statistics import sample_size as plan
from fewshot_i2v.statistics.paired_tests import holm, sign_flip

Gains = NDArray[np.float64]
QUERIES = 25


def gains(seed: int, shape: tuple[int, ...], difference: float, common: float) -> Gains:
    """Differences of accuracies over `QUERIES` queries each, of two methods near 0.7.

    Args:
        seed: of the draws.
        shape: of what is returned.
        difference: true mean.
        common: correlation of the answers of an episode.
    """
    generator = np.random.default_rng(seed)

    def accuracies(mean: float) -> Gains:
        size = 1 / common - 1
        chance = generator.beta(mean * size, (1 - mean) * size, shape)
        return np.asarray(generator.binomial(QUERIES, chance) / QUERIES)

    return accuracies(0.7 + difference) - accuracies(0.7)


@pytest.mark.parametrize(("difference", "comparisons"), [(0.1, 1), (0.06, 6)])
def test_the_sign_flip_test_with_holm_finds_what_is_planned(
    difference: float, comparisons: int
) -> None:
    """The hardest case: one true difference among others that are none."""
    deviation = float(gains(0, (100_000,), difference, 0.05).std())
    level = 1 - 0.05 / comparisons
    n = plan.episodes_for_difference(deviation, difference, power=0.8, level=level)
    times, found = 150, 0
    draws = gains(1, (times, n), difference, 0.05)
    nothing = gains(2, (times, comparisons - 1, n), 0.0, 0.05)
    for one, others in zip(draws, nothing, strict=True):
        p = [sign_flip(x.tolist()).p for x in (one, *others)]
        found += holm(p)[0] <= 0.05
    # three standard errors; Holm is a little more generous than what is planned with
    assert 0.8 - 3 * sqrt(0.16 / times) < found / times < 0.8 + 3 * sqrt(0.16 / times) + 0.02


@pytest.mark.parametrize("level", [0.95, 0.998])
def test_no_fewer_episodes_than_can_have_such_a_p(level: float) -> None:
    n = plan.episodes_for_difference(1e-6, 0.1, level=level)
    assert sign_flip([0.1] * n).p <= 1 - level
    assert sign_flip([0.1] * (n - 1)).p > 1 - level


def test_methods_that_hardly_differ_so_far_spread_once_they_differ() -> None:
    """A pilot in which two methods are alike says little of the spread if one is better."""
    difference = 0.02
    generator = np.random.default_rng(3)

    def better(times: int, n: int) -> Gains:
        return np.asarray(generator.binomial(QUERIES, difference, (times, n)) / QUERIES)

    least = plan.min_difference_sd(difference, QUERIES)
    assert least == pytest.approx(better(1, 100_000).std(), rel=0.02)
    n = plan.episodes_for_difference(least, difference)
    found = np.mean([sign_flip(x.tolist()).p <= 0.05 for x in better(400, n)])
    # answers in steps of one of 25, so that the test is a little cautious
    assert 0.7 < found < 0.95
    alike = plan.episodes_for_difference(0.005, difference)
    assert np.mean([sign_flip(x.tolist()).p <= 0.05 for x in better(400, alike)]) < 0.5


def test_the_planned_difference_is_outside_the_interval_as_often() -> None:
    deviation, difference = float(gains(4, (100_000,), 0.05, 0.05).std()), 0.05
    n = plan.episodes_for_difference(deviation, difference)
    draws = gains(5, (1000, n), difference, 0.05)
    intervals = [paired_difference(x.tolist(), [0.0] * n) for x in draws]
    found = np.mean([i.low is not None and i.low > 0 for i in intervals])
    assert found == pytest.approx(0.8, abs=0.04)
