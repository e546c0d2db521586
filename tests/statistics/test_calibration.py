"""Calibration error and reliability: against counting by hand, and what the bias is by chance."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics import calibration
from fewshot_i2v.statistics.calibration import DEFAULT_BINS, Calibration
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.statistics.made_runs import some_records

WAY, QUERY = 5, 25


def made(
    seed: int, episodes: int, *, query: int = QUERY, sharpness: float = 1.0, tied: float = 0.0
) -> PredictionTable:
    """A run whose predictions are right with 0.2 + `sharpness` · (confidence - 0.2).

    With `tied` the predictions of an episode are right together: its chances share a shift.
    """
    draws = np.random.default_rng(seed)
    sure = 0.2 + 0.8 * draws.beta(2.5, 2, size=(episodes, query))
    chance = 0.2 + sharpness * (sure - 0.2)
    if tied:
        logit = np.log(chance / (1 - chance)) + tied * draws.normal(size=(episodes, 1))
        chance = 1 / (1 + np.exp(-logit))
    right = (draws.random(sure.shape) < chance).astype(np.int64).ravel()
    blank = PredictionTable.from_records([])
    return replace(
        blank,
        classes=tuple("abcde"),
        index=np.arange(episodes),
        episode=np.repeat(np.arange(episodes), query),
        label=np.zeros(right.size, dtype=np.int64),
        predicted=1 - right,
        confidence=sure.ravel(),
    )


def by_hand(outcomes: PredictionTable) -> list[list[tuple[float, bool]]]:
    """Confidence and truth of the predictions of each bin (k / bins, (k + 1) / bins]."""
    bins = DEFAULT_BINS
    found: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for sure, right in zip(outcomes.confidence.tolist(), outcomes.correct.tolist(), strict=True):
        found[max(0, ceil(round(sure * bins, 9)) - 1)].append((sure, right))
    return found


def test_bins_are_those_of_counting_by_hand() -> None:
    outcomes = PredictionTable.from_records(some_records(3, episodes=40, query=(1, 5)))
    found = Calibration.from_outcomes(outcomes)
    curve, parts = found.curve, by_hand(outcomes)
    assert curve.count.tolist() == [len(part) for part in parts]
    gaps = 0.0
    for b, part in enumerate(parts):
        if not part:
            assert np.isnan([curve.confidence[b], curve.accuracy[b]]).all()
            continue
        sure, right = np.array(part).mean(axis=0)
        assert (curve.confidence[b], curve.accuracy[b]) == pytest.approx((sure, right))
        assert curve.lower[b] <= sure <= curve.upper[b]
        gaps += len(part) * abs(sure - right)
    assert found.ece == pytest.approx(gaps / len(outcomes.label))
    assert found.predictions == len(outcomes.label)
    assert found.accuracy == pytest.approx(outcomes.correct.mean())
    assert found.mean_confidence == pytest.approx(outcomes.confidence.mean())


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    """0.2 and 0.6 are edges of 15 bins, which 3 · (1 / 15) and 9 · (1 / 15) are not exactly."""
    outcomes = replace(made(0, 1, query=4), confidence=np.array([0.0, 0.2, 0.6, 1.0]))
    counts = Calibration.from_outcomes(outcomes).curve.count
    assert np.flatnonzero(counts).tolist() == [0, 2, 8, 14]


def test_the_order_of_the_predictions_does_not_matter() -> None:
    outcomes = made(2, 20)
    mixed = np.random.default_rng(0).permutation(len(outcomes.label))
    other = replace(
        outcomes,
        episode=outcomes.episode[mixed],
        label=outcomes.label[mixed],
        predicted=outcomes.predicted[mixed],
        confidence=outcomes.confidence[mixed],
    )
    one, two = (Calibration.from_outcomes(o) for o in (outcomes, other))
    assert one.ece == pytest.approx(two.ece)
    assert one.interval().high == pytest.approx(two.interval().high)


@pytest.mark.parametrize("episodes", [4, 40, 400])
def test_calibrated_predictions_have_the_bias_of_chance_and_no_more(episodes: int) -> None:
    found = [Calibration.from_outcomes(made(seed, episodes)) for seed in range(60)]
    mean = np.mean([c.ece for c in found])
    assert mean == pytest.approx(np.mean([c.expected_if_calibrated for c in found]), rel=0.1)
    assert mean < 0.2 * (4 / episodes) ** 0.5, "it shrinks with the root of the predictions"


def test_the_error_of_many_predictions_is_that_of_the_method() -> None:
    # half as sharp as it says: the gap is half of the distance of the confidence to guessing
    outcomes = made(0, 4000, sharpness=0.5)
    expected = np.mean(0.5 * (outcomes.confidence - 0.2))
    assert Calibration.from_outcomes(outcomes).ece == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("episodes", "sharpness", "tied"),
    [(8, 1.0, 0.0), (40, 1.0, 0.0), (40, 0.9, 0.0), (40, 0.6, 0.0), (40, 1.0, 1.0)],
)
def test_the_interval_holds_the_error_of_the_method(
    episodes: int, sharpness: float, tied: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_REPEATS", 200)
    truth = Calibration.from_outcomes(made(99, 8000, sharpness=sharpness, tied=tied)).ece
    truth = truth if sharpness < 1 or tied else 0.0
    held = 0
    for seed in range(100):
        found = Calibration.from_outcomes(made(seed, episodes, sharpness=sharpness, tied=tied))
        interval = found.interval()
        assert interval.low is not None
        assert interval.high is not None
        assert 0 <= interval.low <= interval.mean <= interval.high <= 1
        held += interval.low <= truth <= interval.high
    assert held >= 94


def test_the_interval_is_over_episodes_not_over_predictions() -> None:
    apart, together = (
        Calibration.from_outcomes(made(5, 60, tied=tied)).interval() for tied in (0.0, 3.0)
    )
    assert apart.half_width is not None
    assert together.half_width is not None
    assert together.half_width > 1.5 * apart.half_width
    assert (together.n, together.method) == (60, "bootstrap over episodes")


def test_the_interval_repeats() -> None:
    outcomes = made(7, 30)
    first = Calibration.from_outcomes(outcomes).interval(0.9)
    assert first == Calibration.from_outcomes(outcomes).interval(0.9)
    assert first.level == 0.9


def test_draws_in_parts_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Calibration.from_outcomes(made(7, 30, sharpness=0.3))
    whole = found.interval()
    monkeypatch.setattr("fewshot_i2v.statistics.calibration._RESAMPLE_BUDGET", 700)
    parts = found.interval()
    assert parts.low == pytest.approx(whole.low, abs=0.02)
    assert parts.high == pytest.approx(whole.high, abs=0.02)


def test_one_episode_and_equal_ones_say_that_they_are() -> None:
    one = Calibration.from_outcomes(made(0, 1)).interval()
    assert (one.low, one.high, one.n) == (None, None, 1)
    assert "One episode: no interval." in one.covers
    alike = made(0, 5, query=2)
    alike = replace(alike, confidence=np.full(10, 0.5), predicted=np.tile([0, 1], 5))
    equal = Calibration.from_outcomes(alike).interval()
    assert (equal.mean, equal.low, equal.high) == (0, 0, 0)
    assert "not certainty" in equal.covers


def test_runs_of_the_same_episodes_are_pooled() -> None:
    one, two = made(0, 20), made(1, 20)
    both = replace(
        one,
        episode=np.concatenate([one.episode, two.episode]),
        label=np.concatenate([one.label, two.label]),
        predicted=np.concatenate([one.predicted, two.predicted]),
        confidence=np.concatenate([one.confidence, two.confidence]),
    )
    pooled = Calibration.pooled([Calibration.from_outcomes(one), Calibration.from_outcomes(two)])
    whole = Calibration.from_outcomes(both)
    assert pooled.ece == pytest.approx(whole.ece)
    assert pooled.expected_if_calibrated == pytest.approx(whole.expected_if_calibrated)
    assert pooled.interval().high == pytest.approx(whole.interval().high)
    with pytest.raises(UsageError, match="other episodes"):
        Calibration.pooled([Calibration.from_outcomes(one), Calibration.from_outcomes(made(1, 19))])
    with pytest.raises(UsageError, match="at least one"):
        Calibration.pooled([])


def test_wrong_use_is_refused() -> None:
    failed = EpisodeRecord(
        index=0,
        status="failed",
        classes=["a"],
        support=[["x"]],
        query=[["y"]],
        error={"path": "x", "reason": "empty"},
    )
    with pytest.raises(UsageError, match=r"no episode succeeded \(1 failed\)"):
        Calibration.from_outcomes(PredictionTable.from_records([failed]))
    outcomes = made(0, 3)
    with pytest.raises(UsageError, match="level is 95"):
        Calibration.from_outcomes(outcomes).interval(95)
