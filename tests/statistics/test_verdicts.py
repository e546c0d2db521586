"""What may be said of several differences: on these clips, and on other clips."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.verdicts import DifferenceTest, decide_verdicts, per_comparison_level
from tests.statistics.made_runs import episode, some_records


def gain(right: float, over: float = 0.5, episodes: int = 60) -> JackknifeEstimate:
    """Of a row over another one, on episodes that share clips."""
    a, b = (
        PredictionTable.from_records(some_records(1, episodes=episodes, right=share))
        for share in (right, over)
    )
    return JackknifeEstimate.from_outcomes(a, "clips", baseline=b)


def test_other_clips_take_an_interval_that_excludes_nothing_but_0() -> None:
    found = gain(0.95)
    (one,) = decide_verdicts([DifferenceTest(found.mean, 0.001, found)], 0.95)
    assert (one.sign, one.holds_on_other_clips, one.p) == (1, True, 0.001)
    assert one.other_clips == found.interval(0.95)
    back = gain(0.5, 0.95)
    (worse,) = decide_verdicts([DifferenceTest(back.mean, 0.001, back)], 0.95)
    assert (worse.sign, worse.holds_on_other_clips) == (-1, True)


def test_both_are_needed() -> None:
    found, small = gain(0.95), gain(0.52)
    assert not decide_verdicts([DifferenceTest(found.mean, 0.06, found)], 0.95)[
        0
    ].holds_on_other_clips, "p is too high"
    (one,) = decide_verdicts([DifferenceTest(small.mean, 0.001, small)], 0.95)
    assert one.sign
    assert not one.holds_on_other_clips, "the interval for other clips holds 0"
    (other,) = decide_verdicts([DifferenceTest(-1.0, 0.001, found)], 0.95)
    assert not other.holds_on_other_clips, "it lies on the other side"
    (unknown,) = decide_verdicts([DifferenceTest(0.1, 0.001)], 0.95)
    assert (unknown.sign, unknown.holds_on_other_clips, unknown.other_clips) == (1, False, None)


def test_many_comparisons_share_the_risk() -> None:
    assert per_comparison_level(0.95, 5) == pytest.approx(0.99)
    found = next(
        f
        for share in np.arange(0.55, 0.95, 0.01)
        if ((f := gain(float(share))).interval(0.95).low or 0) > 0
        and (f.interval(per_comparison_level(0.95, 20)).low or 0) <= 0
    )
    one = DifferenceTest(found.mean, 1e-6, found)
    assert decide_verdicts([one], 0.95)[0].holds_on_other_clips
    many = decide_verdicts([one] * 20, 0.95)
    assert {(v.sign, v.holds_on_other_clips) for v in many} == {(1, False)}
    assert many[0].other_clips == found.interval(0.95), "what is shown is at the level asked"
    assert not decide_verdicts([one], 0.95, pairs=20)[0].holds_on_other_clips


def test_p_is_adjusted_as_asked() -> None:
    seen = [DifferenceTest(0.1, p) for p in (0.01, 0.02, 0.5)]
    assert [v.p for v in decide_verdicts(seen, 0.95)] == pytest.approx([0.03, 0.04, 0.5])
    assert [v.p for v in decide_verdicts(seen, 0.95, pairs=6)] == pytest.approx([0.06, 0.12, 1.0])
    assert [v.sign for v in decide_verdicts(seen, 0.95)] == [1, 1, 0]


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        decide_verdicts([], 0.95)
    with pytest.raises(UsageError, match="level"):
        decide_verdicts([DifferenceTest(0.1, 0.5)], 95)


def test_rare_gains_have_no_interval_for_other_clips() -> None:
    records = some_records(2, episodes=60, right=1.0)
    other = [
        episode(
            r.index,
            r.classes,
            [given + asked for given, asked in zip(r.support, r.query, strict=True)],
            1,
            [0] * len(r.labels) if r.index < 5 else r.labels,
        )
        for r in records
    ]
    a, b = PredictionTable.from_records(records), PredictionTable.from_records(other)
    interval = JackknifeEstimate.from_outcomes(a, "clips", baseline=b).interval()
    assert interval.low is None
    assert "differ in fewer than 12 episodes" in interval.covers
