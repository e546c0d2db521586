"""What may be said of several differences: on these clips, and on other clips."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import Outcomes
from fewshot_i2v.statistics.cluster_intervals import jackknife_of
from fewshot_i2v.statistics.jackknife import Found
from fewshot_i2v.statistics.verdicts import Seen, each_level, verdicts
from tests.statistics.made_runs import episode, some_records


def gain(right: float, over: float = 0.5, episodes: int = 60) -> Found:
    """Of a row over another one, on episodes that share clips."""
    a, b = (
        Outcomes.from_records(some_records(1, episodes=episodes, right=share))
        for share in (right, over)
    )
    return Found.of(a, "clips", against=b)


def test_other_clips_take_an_interval_that_excludes_nothing_but_0() -> None:
    found = gain(0.95)
    (one,) = verdicts([Seen(found.mean, 0.001, found)], 0.95)
    assert (one.sign, one.also, one.p) == (1, True, 0.001)
    assert one.other_clips == jackknife_of(found, 0.95)
    back = gain(0.5, 0.95)
    (worse,) = verdicts([Seen(back.mean, 0.001, back)], 0.95)
    assert (worse.sign, worse.also) == (-1, True)


def test_both_are_needed() -> None:
    found, small = gain(0.95), gain(0.52)
    assert not verdicts([Seen(found.mean, 0.06, found)], 0.95)[0].also, "p is too high"
    (one,) = verdicts([Seen(small.mean, 0.001, small)], 0.95)
    assert one.sign
    assert not one.also, "the interval for other clips holds 0"
    (other,) = verdicts([Seen(-1.0, 0.001, found)], 0.95)
    assert not other.also, "it lies on the other side"
    (unknown,) = verdicts([Seen(0.1, 0.001)], 0.95)
    assert (unknown.sign, unknown.also, unknown.other_clips) == (1, False, None)


def test_many_comparisons_share_the_risk() -> None:
    assert each_level(0.95, 5) == pytest.approx(0.99)
    found = next(
        f
        for share in np.arange(0.55, 0.95, 0.01)
        if (jackknife_of(f := gain(float(share)), 0.95).low or 0) > 0
        and (jackknife_of(f, each_level(0.95, 20)).low or 0) <= 0
    )
    one = Seen(found.mean, 1e-6, found)
    assert verdicts([one], 0.95)[0].also
    many = verdicts([one] * 20, 0.95)
    assert {(v.sign, v.also) for v in many} == {(1, False)}
    assert many[0].other_clips == jackknife_of(found, 0.95), "what is shown is at the level asked"
    assert not verdicts([one], 0.95, pairs=20)[0].also


def test_p_is_adjusted_as_asked() -> None:
    seen = [Seen(0.1, p) for p in (0.01, 0.02, 0.5)]
    assert [v.p for v in verdicts(seen, 0.95)] == pytest.approx([0.03, 0.04, 0.5])
    assert [v.p for v in verdicts(seen, 0.95, pairs=6)] == pytest.approx([0.06, 0.12, 1.0])
    assert [v.sign for v in verdicts(seen, 0.95)] == [1, 1, 0]


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        verdicts([], 0.95)
    with pytest.raises(UsageError, match="level"):
        verdicts([Seen(0.1, 0.5)], 95)


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
    a, b = Outcomes.from_records(records), Outcomes.from_records(other)
    interval = jackknife_of(Found.of(a, "clips", against=b))
    assert interval.low is None
    assert "differ in fewer than 12 episodes" in interval.covers
