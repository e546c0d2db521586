"""Learning curves: growth of accuracy with labelled clips, carried on with a range."""

from __future__ import annotations

from math import log, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.learning_curve import (
    FASTEST,
    MAX_FACTOR,
    LearningCurve,
    fit_learning_curve,
)

SLOPE, START = 0.7, 0.2
Z = NormalDist().inv_cdf(0.975)


def line(shot: float, slope: float = SLOPE) -> float:
    """Accuracy on a straight line of the log-odds."""
    return float(1 / (1 + np.exp(-(START + slope * np.log(shot)))))


def constant(means: dict[int, float], episodes: int = 20) -> LearningCurve:
    """The curve of rows whose episodes are all alike, so that only the means count."""
    rows = {shot: dict.fromkeys(range(episodes), mean) for shot, mean in means.items()}
    return fit_learning_curve(rows, dict.fromkeys(means, 25 * episodes))


def test_a_straight_line_is_carried_on() -> None:
    curve = constant({shot: line(shot) for shot in (1, 2, 5)})
    assert curve.slope == pytest.approx(SLOPE)
    expected = curve.expect(10)
    assert expected.mean == pytest.approx(line(10))
    assert expected.low == pytest.approx(line(5))  # no further growth
    fast = START + SLOPE * log(5) + FASTEST * SLOPE * log(2)
    assert expected.high == pytest.approx(1 / (1 + np.exp(-fast)))


def test_only_the_last_three_numbers_of_clips_tell_the_growth() -> None:
    """The first clips may bring more than later ones."""
    means = {shot: line(shot, 0.1) for shot in (2, 4, 8)} | {1: 0.2}
    assert constant(means).slope == pytest.approx(0.1)


def test_clips_for_an_accuracy_are_counted() -> None:
    curve = constant({shot: line(shot) for shot in (1, 2, 5)})
    needed = curve.shots_for(line(14.5))
    fast = 5 * (14.5 / 5) ** (1 / FASTEST)
    assert (needed.expected, needed.least) == (15, int(fast) + 1)
    assert needed.limit == MAX_FACTOR * 5
    far = curve.shots_for(line(25))
    assert far.expected is None
    assert far.least == int(5 * 5 ** (1 / FASTEST)) + 1
    assert curve.shots_for(line(200)).least is None


def test_a_curve_that_does_not_grow_is_not_expected_to() -> None:
    curve = constant({1: 0.6, 2: 0.6, 4: 0.6})
    expected = curve.expect(16)
    assert expected.low == expected.mean == expected.high == pytest.approx(0.6)
    assert curve.shots_for(0.61).least is None


def test_a_curve_that_falls_may_go_on_falling() -> None:
    curve = constant({shot: line(shot, -SLOPE) for shot in (1, 2, 4)})
    expected = curve.expect(8)
    assert expected.mean == pytest.approx(line(8, -SLOPE))
    assert expected.high == pytest.approx(line(4, -SLOPE))
    assert expected.low == pytest.approx(line(4 * 2**FASTEST, -SLOPE))
    assert curve.shots_for(line(4, -SLOPE) + 0.01).least is None


def test_the_range_has_what_few_episodes_leave_open() -> None:
    generator = np.random.default_rng(0)
    rows = {
        shot: dict(enumerate(np.clip(line(shot) + 0.1 * generator.normal(size=40), 0, 1).tolist()))
        for shot in (1, 2, 4)
    }
    curve = fit_learning_curve(rows, dict.fromkeys(rows, 1000))
    values = np.array([*rows[4].values()])
    mean, error = values.mean(), values.std(ddof=1) / sqrt(40)
    last = log(mean / (1 - mean)) - Z * error / (mean * (1 - mean))
    assert curve.expect(8).low == pytest.approx(1 / (1 + np.exp(-last)))
    # more episodes of the same spread, a narrower range
    many = {s: {i + 40 * k: v for k in range(9) for i, v in row.items()} for s, row in rows.items()}
    narrow = fit_learning_curve(many, dict.fromkeys(rows, 9000)).expect(8)
    assert narrow.mean == pytest.approx(curve.expect(8).mean)
    assert narrow.high < curve.expect(8).high
    assert narrow.low > curve.expect(8).low


def test_what_episodes_of_equal_numbers_share_narrows_the_growth() -> None:
    """Hard episodes are hard with any number of clips, so their luck is not taken for growth."""
    generator = np.random.default_rng(1)
    hard = 0.1 * generator.normal(size=50)
    rows = {s: dict(enumerate((line(s) + hard).tolist())) for s in (1, 2, 4)}
    other = {s: {i + 50 * s: v for i, v in row.items()} for s, row in rows.items()}
    together = fit_learning_curve(rows, dict.fromkeys(rows, 1250))
    apart = fit_learning_curve(other, dict.fromkeys(rows, 1250))
    assert together.slope == pytest.approx(apart.slope)
    growth = np.array([log(s) for s in (1, 2, 4)])
    growth = (growth - growth.mean()) / ((growth - growth.mean()) @ (growth - growth.mean()))
    assert growth @ together.covariance @ growth < 0.1 * (growth @ apart.covariance @ growth)


def test_the_range_holds_a_line_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    truth, held = line(16), 0
    for _ in range(200):
        rows = {
            s: dict(enumerate((generator.binomial(25, line(s), size=30) / 25).tolist()))
            for s in (1, 2, 4)
        }
        expected = fit_learning_curve(rows, dict.fromkeys(rows, 750)).expect(16)
        held += expected.low <= truth <= expected.high
    assert held >= 190


def test_accuracies_of_nothing_and_all_are_half_an_answer_away() -> None:
    curve = constant({1: 0.0, 2: 0.5, 4: 1.0})
    assert curve.log_odds.tolist() == pytest.approx([-log(999), 0, log(999)])
    assert curve.expect(16).high <= 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({1: {0: 0.5, 1: 0.5}, 2: {0: 0.5, 1: 0.5}}, "shots 1, 2: expected at least 3 numbers"),
        ({1: {0: 0.5}, 2: {0: 0.5, 1: 0.5}, 3: {0: 0.5, 1: 0.5}}, "shot 1: expected at least 2"),
    ],
)
def test_too_little_to_see_growth_is_refused(
    rows: dict[int, dict[int, float]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit_learning_curve(rows, dict.fromkeys(rows, 10))


@pytest.mark.parametrize("shot", [3, 17])
def test_clips_of_which_nothing_is_said_are_refused(shot: int) -> None:
    with pytest.raises(UsageError, match=f"got {shot}; expected 4 to 16"):
        constant({1: 0.5, 2: 0.6, 4: 0.7}).expect(shot)
