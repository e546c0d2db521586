"""Shares of clips: their intervals hold, and how many new clips to expect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.shares import Share, share_of


@pytest.mark.parametrize(
    ("right", "low", "high"), [(0, 0.0, 0.3085), (5, 0.1871, 0.8129), (10, 0.6915, 1.0)]
)
def test_it_is_the_exact_interval(right: int, low: float, high: float) -> None:
    # as in tables of Clopper and Pearson
    share = share_of([1] * right + [0] * (10 - right))
    assert (share.count, share.clips, share.mean) == (right, 10, right / 10)
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95])
def test_intervals_and_expectations_hold_as_often_as_they_say(probability: float) -> None:
    counts = np.arange(51)
    weights = binom(50, probability).pmf(counts)
    shares = [share_of([1] * c + [0] * (50 - c)) for c in counts]
    held = sum(w for w, s in zip(weights, shares, strict=True) if s.low <= probability <= s.high)
    assert held >= 0.95
    new = binom(20, probability)
    promised = 0.0
    for weight, share in zip(weights, shares, strict=True):
        few, many = share.expected_count(20)
        promised += weight * (new.cdf(many) - new.cdf(few - 1))
    assert promised > 0.94


def test_clips_that_come_in_groups_tell_less() -> None:
    hits = [1] * 10 + [0] * 10 + [1] * 20
    groups = [i // 10 for i in range(40)]
    alone, grouped = share_of(hits), share_of(hits, groups)
    assert alone.effective == 40
    assert grouped.effective < 6  # whole groups are right or wrong
    assert grouped.low < alone.low
    assert grouped.high > alone.high
    assert share_of(hits, list(range(40))) == alone
    assert share_of([1] * 40, groups).effective == 4  # no spread that could be seen
    assert share_of([0] + [1] * 39, [i // 20 for i in range(40)]).effective == 2


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UsageError, match="no clip"):
        share_of([])
    with pytest.raises(UsageError, match="level"):
        share_of([1], level=1.5)


def test_expected_counts_are_within_the_clips() -> None:
    share = Share(9, 10, 10.0, 0.6, 1.0, 0.95)
    few, many = share.expected_count(5)
    assert 0 <= few < many == 5


def test_what_a_choice_adds_is_taken_off() -> None:
    raw, share = share_of([1] * 18 + [0] * 2), share_of([1] * 18 + [0] * 2, optimism=0.1)
    assert (share.count, share.clips) == (18, 20)
    assert share.mean == pytest.approx(0.8)
    assert (share.low, share.high) == pytest.approx(
        (share_of([1] * 16 + [0] * 4).low, share_of([1] * 16 + [0] * 4).high)
    )
    assert share.expected_count(20)[0] < raw.expected_count(20)[0]


def test_new_clips_of_groups_scatter_more() -> None:
    share = share_of([1] * 80 + [0] * 20)
    single, grouped = share.expected_count(40), share.expected_count(40, 8.5)
    assert grouped[0] < single[0] <= single[1] <= grouped[1] <= 40
    assert share.expected_count(40, 40) == single
    assert share.expected_count(8, 8.5) == share.expected_count(8)
    few, many = share.expected_count(8)
    assert grouped == (5 * few, 5 * many), "as 8 independent clips, each of which stands for five"
