"""Paired tests against scipy, against brute force, and against simulations."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import MIN_DIFFERING
from fewshot_i2v.statistics.paired_tests import (
    compare_paired,
    holm,
    mcnemar,
    minimum_detectable_difference,
    sign_flip,
)

steps = st.lists(st.integers(-7, 7), min_size=1, max_size=10)
p_lists = st.lists(st.floats(0, 1), min_size=0, max_size=8)


def share_of_patterns(values: list[int]) -> Fraction:
    """Share of all sign patterns whose sum is as far from 0, one by one."""
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    return Fraction(sum(x >= abs(sum(values)) for x in sums), len(sums))


def share_by_adding(values: list[int]) -> Fraction:
    """The same for many whole numbers, from the counts of all sums."""
    counts = Counter({0: 1})
    for value in values:
        grown: Counter[int] = Counter()
        for total, count in counts.items():
            grown[total + value] += count
            grown[total - value] += count
        counts = grown
    reached = sum(c for total, c in counts.items() if abs(total) >= abs(sum(values)))
    return Fraction(reached, 2 ** len(values))


@settings(deadline=None)
@given(steps, st.sampled_from([1, 4, 25, 75, 1 / 3]))
def test_all_sign_patterns_are_counted(values: list[int], unit: float) -> None:
    got = sign_flip([value / unit for value in values])
    assert got.exact
    assert got.changed == sum(value != 0 for value in values)
    assert got.p == pytest.approx(float(share_of_patterns(values)), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_sums_of_many_are_counted_too(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(-6, 8, size=150).tolist()
    got = sign_flip([value / 25 for value in values])
    assert got.exact
    assert got.p == pytest.approx(float(share_by_adding(values)), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("size", [2, 7, 16])
def test_differences_without_a_common_step_are_listed(size: int) -> None:
    values = np.random.default_rng(size).normal(0.5, 1, size).tolist()
    got = sign_flip(values)
    signs = np.array(list(itertools.product((1, -1), repeat=size)))
    reached = np.abs(signs @ np.array(values)) >= abs(sum(values)) - 1e-9
    assert got.exact
    assert got.method == f"all 2^{size} sign patterns"
    assert got.p == pytest.approx(reached.mean(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_permutation_test_of_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(5, 25, size=(2, 9)) / 25
    expected = scipy.stats.permutation_test(
        (a, b),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=False,
    )
    assert sign_flip((a - b).tolist()).p == pytest.approx(expected.pvalue, abs=1e-12)


def test_many_differences_without_a_common_step_are_drawn() -> None:
    values = np.random.default_rng(1).normal(0.25, 1, 60).tolist()
    got = sign_flip(values)
    assert not got.exact
    assert got.method == "9,999 random signs, seed 0"
    assert got.p * 10_000 == pytest.approx(round(got.p * 10_000), abs=1e-6)
    assert got.p == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, rel=0.15)
    assert got == sign_flip(values)


def test_p_is_never_zero() -> None:
    drawn = sign_flip((1 + np.random.default_rng(0).random(300)).tolist())
    assert drawn.p == 0.0001
    counted = sign_flip([0.04] * 3000)
    assert (counted.p, counted.exact) == (1e-10, True)
    assert sign_flip([0.2] * 20).p == pytest.approx(2**-19, rel=1e-6)


def test_no_difference_is_no_evidence() -> None:
    got = sign_flip([0.0, 1e-17, 0.0])
    assert (got.p, got.changed, got.method) == (1.0, 0, "no episode differs")
    assert sign_flip([0.2, -0.2, 0.4, -0.4]).p == 1.0


@given(steps)
def test_neither_direction_nor_unit_matter(values: list[int]) -> None:
    p = sign_flip([value / 25 for value in values]).p
    assert sign_flip([-100 * value / 25 for value in values]).p == pytest.approx(p, abs=1e-12)


def test_rounding_does_not_decide() -> None:
    """0.3 - 0.1 and 0.2 are the same difference, though not the same number."""
    values = [0.3 - 0.1, 0.2, 0.7 - 0.5, 0.4 - 0.6]
    assert len(set(map(abs, values))) > 1
    assert sign_flip(values).p == 10 / 16
    shifted = [value + 1e-11 for value in values]
    assert sign_flip(shifted).p == 10 / 16


def test_chance_is_taken_for_a_difference_as_rarely_as_said() -> None:
    generator = np.random.default_rng(3)
    tables = generator.binomial(25, 0.6, size=(600, 2, 14)) / 25
    found = [sign_flip((a - b).tolist()).p <= 0.05 for a, b in tables]
    assert 0.02 < np.mean(found) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=3, max_size=30))
def test_a_comparison_says_all_of_it(pairs: list[tuple[int, int]]) -> None:
    a, b = ([pair[side] / 25 for pair in pairs] for side in (0, 1))
    got = compare_paired(a, b, 0.9)
    assert got.wins == sum(x > y for x, y in pairs)
    assert got.losses == sum(x < y for x, y in pairs)
    assert got.wins + got.ties + got.losses == len(pairs)
    assert got.difference.level == 0.9
    assert got.difference.mean == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)
    even = len({x - y for x, y in pairs}) == 1
    assert even == got.difference.equal
    if even or got.wins + got.losses < min(MIN_DIFFERING, len(pairs)):
        assert got.difference.low is None
    else:
        expected = scipy.stats.ttest_rel(a, b).confidence_interval(0.9)
        assert got.difference.low == pytest.approx(expected.low, abs=1e-12)


def test_rare_differences_have_no_interval_and_the_reason() -> None:
    """Of 12 episodes with 11 differences, the one that is missing may be a large one."""
    few = compare_paired([0.2] * 11 + [0.0], [0.0, 0.1] * 5 + [0.0] * 2).difference
    assert (few.low, few.high, few.equal, few.n) == (None, None, False, 12)
    assert few.mean == pytest.approx(1.7 / 12)
    assert "differ in fewer than 12 episodes, and not in all" in few.covers
    clips = compare_paired([1.0] * 20, [1.0] * 15 + [0.0] * 5, unit="clip").difference
    assert "differ in fewer than 12 clips, and not in all" in clips.covers
    assert "other query clips of these classes" in clips.covers
    every = compare_paired([0.2, 0.4, 0.6], [0.0, 0.1, 0.2]).difference
    assert every.low is not None, "all of three episodes differ"
    enough = compare_paired([0.2, 0.4] * 6 + [0.0] * 80, [0.0] * 92).difference
    assert enough.low is not None


def test_a_difference_that_is_always_the_same_has_no_interval() -> None:
    for a, b in (([0.5] * 12, [0.5] * 12), ([0.9, 0.7], [0.7, 0.5])):
        got = compare_paired(a, b).difference
        assert (got.low, got.high, got.equal) == (None, None, True)
        assert "the same in all episodes" in got.covers


def test_what_it_covers_depends_on_shared_clips() -> None:
    a, b = [0.5, 0.7, 0.9], [0.4, 0.7, 0.6]
    assert "does not cover new clips" in compare_paired(a, b).difference.covers
    assert (
        "other clips of these classes" in compare_paired(a, b, clips_shared=False).difference.covers
    )


@pytest.mark.parametrize(
    ("size", "level", "power"), [(3, 0.95, 0.8), (12, 0.99, 0.9), (900, 0.95, 0.5)]
)
def test_the_smallest_visible_difference_is_that_of_the_t_test(
    size: int, level: float, power: float
) -> None:
    values = np.random.default_rng(size).normal(0, 0.1, size)
    got = minimum_detectable_difference(values.tolist(), level, power)
    assert got is not None
    shift = got / (values.std(ddof=1) / math.sqrt(size))
    critical = scipy.stats.t.ppf((1 + level) / 2, size - 1)
    assert scipy.stats.nct.sf(critical, size - 1, shift) == pytest.approx(power, abs=1e-5)


def test_the_smallest_visible_difference_is_found_that_often() -> None:
    generator = np.random.default_rng(8)
    noise = generator.normal(0, 1, size=(4000, 10))
    unit = (noise[0] - noise[0].mean()) / noise[0].std(ddof=1)
    got = minimum_detectable_difference(unit.tolist())
    assert got is not None
    found = scipy.stats.ttest_1samp(noise + got, 0, axis=1).pvalue <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_without_spread_nothing_says_what_could_be_seen() -> None:
    assert minimum_detectable_difference([0.2]) is None
    assert minimum_detectable_difference([0.2, 0.2, 0.2]) is None


def test_holm_on_the_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(p_lists, st.floats(0.001, 0.3))
def test_holm_rejects_what_the_step_down_does(p_values: list[float], level: float) -> None:
    """From the smallest p on, each is to be at most level / (tests left), until one is not."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = set(itertools.takewhile(
        lambda i: p_values[i] * (len(p_values) - order.index(i)) <= level, order
    ))  # fmt: skip
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p <= level} == rejected
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_binomial_test_of_scipy(answers: list[tuple[bool, bool]]) -> None:
    clips = [f"clip{i}" for i in range(len(answers))]
    a, b = ([answer[side] for answer in answers] for side in (0, 1))
    got = mcnemar(clips, a, clips[::-1], b[::-1])
    only_a, only_b = (sum(x and not y for x, y in pairs) for pairs in (zip(a, b), zip(b, a)))  # noqa: B905
    assert (got.only_a, got.only_b, got.clips) == (only_a, only_b, len(answers))
    n = only_a + only_b
    expected = scipy.stats.binomtest(only_a, n).pvalue if n else 1.0
    assert got.p == pytest.approx(expected, abs=1e-12)
    values = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    assert sign_flip(values).p == pytest.approx(got.p, abs=1e-9), "the two are the same test"


def test_mcnemar_needs_each_clip_once_in_both() -> None:
    with pytest.raises(UsageError, match=r"method b: clip x is there 2 times.*by episodes"):
        mcnemar(["x", "y"], [1, 0], ["x", "x"], [1, 0])
    with pytest.raises(UsageError, match="clip y in one of them only"):
        mcnemar(["x", "y"], [1, 0], ["x", "z"], [1, 0])
    with pytest.raises(UsageError, match="one answer for each clip"):
        mcnemar(["x", "y"], [1], ["x", "y"], [1, 0])
    with pytest.raises(UsageError, match="no clips"):
        mcnemar([], [], [], [])
    assert mcnemar(range(2000), [1] * 2000, range(2000), [0] * 2000).p > 0


def test_wrong_use_is_named() -> None:
    with pytest.raises(UsageError, match=r"differences\[1\] is nan"):
        sign_flip([0.5, math.nan])
    with pytest.raises(UsageError, match=r"p_values\[1\] is 1\.5"):
        holm([0.5, 1.5, 2.0])
    with pytest.raises(UsageError, match=r"p_values\[0\] is nan"):
        holm([math.nan])
    with pytest.raises(UsageError, match=r"power is 0\.01"):
        minimum_detectable_difference([0.5, 0.6], power=0.01)
    with pytest.raises(UsageError, match="got 2 and 1 values"):
        compare_paired([0.5, 0.6], [0.5])


def test_ten_thousand_episodes_take_well_under_a_second() -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.binomial(25, p, 10_000) / 25 for p in (0.6, 0.61))
    minimum_detectable_difference([0.1, 0.2])  # the first use imports scipy
    start = time.process_time()
    on_grid = compare_paired(a.tolist(), b.tolist())
    off_grid = compare_paired((a + generator.normal(0, 0.01, 10_000)).tolist(), b.tolist())
    assert time.process_time() - start < 1
    assert (on_grid.test.exact, off_grid.test.exact) == (True, False)
