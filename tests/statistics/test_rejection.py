"""The threshold of none of the classes rejects as many clips of the classes as it says."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.rejection import auroc, choose_threshold


def test_the_promised_share_of_new_clips_is_rejected() -> None:
    generator = np.random.default_rng(0)
    rejected = []
    for _ in range(400):
        chosen = choose_threshold(
            generator.normal(size=60), [-9.0], unknown_classes=["a"], reject_known=0.1
        )
        rejected.append((generator.normal(size=200) < chosen.threshold).mean())
    assert 0.08 < np.mean(rejected) < 0.105


def test_its_rates_are_those_of_the_clips() -> None:
    known, unknown = np.arange(19.0), np.array([-1.0, 0.5, 10.0, 30.0])
    chosen = choose_threshold(
        known, unknown, unknown_classes=["a", "a", "b", "b"], reject_known=0.1
    )
    assert chosen.threshold == 1.0
    assert (chosen.rejected_known.count, chosen.rejected_known.clips) == (2, 19)
    assert (chosen.rejected_unknown.count, chosen.rejected_unknown.clips) == (2, 4)
    assert chosen.rejected_by_class == {"a": 1.0, "b": 0.0}


def test_the_area_under_the_curve_counts_pairs() -> None:
    assert auroc([2, 3], [1, 2]) == pytest.approx(3.5 / 4)
    assert auroc([1, 1], [1, 1]) == 0.5


@pytest.mark.parametrize(("known", "unknown"), [(18, 1), (40, 0)])
def test_too_few_clips_are_refused(known: int, unknown: int) -> None:
    with pytest.raises(UsageError, match="needs 19 and 1"):
        choose_threshold(
            np.zeros(known), np.zeros(unknown), unknown_classes=["a"] * unknown, reject_known=0.05
        )


def test_clips_of_other_classes_are_not_promised_the_rate_of_a_smaller_model() -> None:
    # similarities to classes are independent: the rate falls with each class
    rng = np.random.default_rng(1)
    promised, raw, true = [], [], []
    for _ in range(50):
        known = rng.normal(2.5, 1, 400)
        unknown = rng.normal(0, 1, (400, 4))
        fewer = np.stack([np.delete(unknown, j, axis=1).max(1) for j in range(4)], 1)
        share = choose_threshold(
            known,
            unknown.max(1),
            unknown_classes=["a"] * 400,
            reject_known=0.05,
            unknown_scores_of_fewer=fewer,
        )
        promised.append(share.rejected_unknown.mean)
        raw.append(share.rejected_unknown.count / 400)
        true.append((rng.normal(0, 1, (4000, 5)).max(1) < share.threshold).mean())
    assert np.mean(raw) - np.mean(true) > 0.08
    assert np.mean(promised) == pytest.approx(np.mean(true), abs=0.02)


@pytest.mark.parametrize(("fewer", "expected"), [(-1.0, 0.25), (5.0, 0.5)])
def test_a_corrected_rate_stays_a_rate(fewer: float, expected: float) -> None:
    # all of smaller models are rejected: the factor is 1/2. None of them: it is no more than 1
    chosen = choose_threshold(
        np.arange(19.0),
        [-1.0, 5.0],
        unknown_classes=["a", "b"],
        reject_known=0.1,
        unknown_scores_of_fewer=[[fewer], [fewer]],
    )
    assert chosen.rejected_unknown.mean == expected


def test_nothing_is_corrected_where_no_clip_is_rejected() -> None:
    chosen = choose_threshold(
        np.arange(19.0),
        [5.0, 5.0],
        unknown_classes=["a", "b"],
        reject_known=0.1,
        unknown_scores_of_fewer=[[-1.0], [-1.0]],
    )
    assert chosen.rejected_unknown.mean == 0


def test_the_interval_holds_the_rate_of_other_classes() -> None:
    """Classes differ: a class is rejected with its own probability, and five are known."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(300):
        rates = rng.beta(0.6, 0.6, size=5)
        unknown = np.where(rng.random((5, 10)) < rates[:, None], -1.0, 9.0)
        classes = [str(c) for c in range(5) for _ in range(10)]
        share = choose_threshold(
            np.arange(19.0), unknown.ravel(), unknown_classes=classes, reject_known=0.1
        ).rejected_unknown
        held.append(share.low <= 0.5 <= share.high)
        assert share.effective == 5
    assert np.mean(held) >= 0.95
