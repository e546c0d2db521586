"""One interval for each question: these clips, other clips, groups, classes and seeds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.analysis.generalization import (
    CLASSES,
    CLIPS,
    GROUPS,
    HERE,
    SEEDS,
    Groups,
    reach,
    reach_text,
)
from fewshot_i2v.statistics import (
    Outcomes,
    bounded_interval,
    paired_difference,
    seed_spread,
    two_way_jackknife,
)
from tests.statistics.made_runs import some_records

RIGHT = (0.5, 0.75, 0.9)


def runs(count: int, episodes: int = 40, right: float = 0.6) -> list[Outcomes]:
    """Runs of the same episodes with other answers."""
    asked = some_records(3, episodes=episodes, right=right)
    found = [Outcomes.from_records(asked)]
    for share in RIGHT[: count - 1]:
        others = some_records(3, episodes=episodes, right=share)
        pairs = zip(asked, others, strict=True)
        answered = [
            replace(one, predictions=other.predictions, accuracy=other.accuracy)
            for one, other in pairs
        ]
        found.append(Outcomes.from_records(answered))
    return found


def test_each_question_has_the_interval_that_is_for_it() -> None:
    (one,) = runs(1)
    found = reach("frozen", 1, [one])
    assert found.mean == pytest.approx(one.mean)
    assert set(found.intervals) == {HERE, CLIPS, CLASSES}
    assert found.intervals[CLIPS] == two_way_jackknife(one)
    assert found.intervals[CLASSES] == two_way_jackknife(one, by="classes")
    assert "these clips and classes" in found.intervals[HERE].covers


def test_groups_are_a_question_where_clips_have_them() -> None:
    (one,) = runs(1)
    groups = Groups({name: name[-1] for name in one.clips})
    found = reach("frozen", 1, [one], groups=groups).intervals[GROUPS]
    assert found == two_way_jackknife(one, by="groups", groups=groups.of)


def test_seeds_are_pooled_episode_by_episode_and_have_a_spread_of_their_own() -> None:
    several = runs(3)
    found = reach("aim", 1, several)
    means = [one.mean for one in several]
    assert len(set(means)) == 3
    assert found.mean == pytest.approx(sum(means) / 3)
    assert found.intervals[SEEDS] == seed_spread(means).interval
    each = [one.accuracies.tolist() for one in several]
    by_episode = [sum(values) / 3 for values in zip(*each, strict=True)]
    plain = bounded_interval(by_episode)
    assert found.intervals[HERE].low == pytest.approx(plain.low)
    assert found.intervals[HERE].high == pytest.approx(plain.high)


def test_a_gain_is_paired_whatever_the_numbers_of_seeds() -> None:
    several, (frozen,) = runs(3), runs(1, right=0.6)
    found = reach("aim", 1, several, against=[frozen])
    pooled = Outcomes.pooled(several)
    plain = paired_difference(pooled.accuracies.tolist(), frozen.accuracies.tolist())
    assert found.mean == pytest.approx(plain.mean)
    assert found.intervals[HERE].half_width == pytest.approx(plain.half_width)
    assert SEEDS not in found.intervals
    uneven = reach("aim", 1, several, against=[frozen, several[1]])
    assert uneven.mean == pytest.approx(pooled.mean - (frozen.mean + several[1].mean) / 2)
    assert uneven.intervals[CLIPS].mean == pytest.approx(uneven.mean)


def test_runs_of_other_episodes_are_not_pooled() -> None:
    (one,), (other,) = runs(1), runs(1, episodes=39)
    with pytest.raises(UsageError, match="different episodes"):
        Outcomes.pooled([one, other])
    with pytest.raises(UsageError, match="at least one run"):
        Outcomes.pooled([])


def test_the_text_has_a_column_for_each_question_and_says_what_it_covers() -> None:
    several = runs(2)
    rows = [reach("frozen", 1, several[:1]), reach("aim", 1, several)]
    gains = [reach("aim", 1, several, against=several[:1])]
    text = reach_text(rows, gains)
    first, second, notes = text.split("\n\n")
    assert re.split(r" {2,}", first.splitlines()[0]) == [
        "row", "shot", "accuracy %", HERE, CLIPS, CLASSES, SEEDS,
    ]  # fmt: skip
    assert first.splitlines()[2].split()[-1] == "-", "one seed has no spread over seeds"
    assert "over frozen" in second.splitlines()[0]
    for question in (HERE, CLIPS, CLASSES, SEEDS):
        assert f"{question}: " in " ".join(notes.split())
    assert GROUPS not in text


def test_no_gain_is_not_minus_nothing() -> None:
    (one,) = runs(1)
    text = reach_text([], [reach("aim", 1, [one], against=[one])])
    assert "+0.00" in text
    assert "-0.00" not in text


def test_ties_have_no_interval_for_other_clips_or_classes() -> None:
    (one,) = runs(1)
    found = reach("aim", 1, [one], against=[one]).intervals
    assert found[HERE].equal
    for question in (HERE, CLIPS, CLASSES):
        assert (found[question].low, found[question].high) == (None, None)
    for question in (CLIPS, CLASSES):
        assert "every episode shows the same gain" in found[question].covers


def test_no_interval_for_other_groups_or_classes_is_narrower_than_that_for_other_clips() -> None:
    shown = 0
    for seed in range(25):
        records = some_records(seed, episodes=40, classes=6, query=3)
        one = Outcomes.from_records(records)
        groups = Groups({name: name[-1] for name in one.clips}, "global")
        found = reach("frozen", 1, [one], groups=groups).intervals
        assert found[CLASSES] == two_way_jackknife(one, by="classes")
        clips = found[CLIPS].half_width
        assert clips is not None
        assert (found[GROUPS].half_width or 0) >= clips
        shown += found[CLASSES].low is not None
        assert found[CLASSES].low is None or (found[CLASSES].half_width or 0) >= clips
    assert 0 < shown < 25


def test_seeds_that_change_nothing_are_no_certainty() -> None:
    (one,) = runs(1)
    found = reach("frozen", 1, [one, one, one]).intervals[SEEDS]
    assert (found.low, found.high, found.n) == (None, None, 3)
    assert "gave the same answers" in found.covers
