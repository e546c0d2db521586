"""What episodes tell of a difference: the number needed and the difference that shows agree."""

from __future__ import annotations

import random

import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.difference_spread import DifferenceSpread
from fewshot_i2v.statistics.sample_size import fewest_decisive_episodes


@pytest.mark.parametrize("deviation", [0.0, 0.01, 0.03, 0.08])
@pytest.mark.parametrize("comparisons", [1, 2, 15])
@pytest.mark.parametrize("queries", [1.0, 6.0, 25.0])
def test_what_shows_and_what_is_needed_agree(
    deviation: float, comparisons: int, queries: float
) -> None:
    for n in (6, 9, 12, 24, 50, 200, 2000):
        spread = DifferenceSpread(deviation, queries, n, n)
        for difference in (0.01, 0.02, 0.1):
            needed = spread.episodes_needed(difference, comparisons=comparisons)
            visible = spread.detectable(comparisons=comparisons)
            assert needed is not None
            shows = visible is not None and visible <= difference
            assert shows == (needed <= n), (n, difference)


def test_with_too_few_that_differ_there_is_no_number() -> None:
    differences = [0.04] * 5 + [0.0] * 50
    spread = DifferenceSpread.from_values(differences, 25)
    assert (spread.n_differing, spread.tells()) == (5, False)
    assert spread.episodes_needed(0.02) is None
    assert spread.detectable() is None
    more = DifferenceSpread.from_values([0.04, *differences], 25)
    assert more.tells()
    assert not more.tells(level=0.99), "a stricter level needs more"
    assert not DifferenceSpread.from_values([0.1], 25).tells()
    with pytest.raises(UsageError, match="queries is 0"):
        DifferenceSpread.from_values([0.1], 0)


def test_the_fewest_decisive_episodes_are_those_of_the_sign_flip_test() -> None:
    generator = random.Random(0)
    for _ in range(50):
        level, comparisons = generator.uniform(0.5, 0.999), generator.randint(1, 100)
        n = fewest_decisive_episodes(level, comparisons)
        assert 2.0 ** (1 - n) * comparisons <= 1 - level + 1e-9
        assert n == 1 or 2.0 ** (2 - n) * comparisons > 1 - level
    assert [fewest_decisive_episodes(comparisons=k) for k in (1, 2, 3)] == [6, 7, 7]
