"""One interval for each question: these clips, other clips, groups, classes and seeds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.analysis.generalization import (
    OTHER_CLASSES,
    OTHER_CLIPS,
    OTHER_GROUPS,
    OTHER_SEEDS,
    THESE_CLIPS,
    ClipGroups,
    generalization_intervals,
)
from fewshot_i2v.report.tables.generalization_text import coverage_note, generalization_text
from fewshot_i2v.statistics import bounded_interval, paired_difference, seed_interval
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.statistics.made_runs import some_records

RIGHT = (0.5, 0.75, 0.9)


def runs(count: int, episodes: int = 40, right: float = 0.6) -> list[PredictionTable]:
    """Runs of the same episodes with other answers."""
    asked = some_records(3, episodes=episodes, right=right)
    found = [PredictionTable.from_records(asked)]
    for share in RIGHT[: count - 1]:
        others = some_records(3, episodes=episodes, right=share)
        pairs = zip(asked, others, strict=True)
        answered = [
            replace(one, predictions=other.predictions, accuracy=other.accuracy)
            for one, other in pairs
        ]
        found.append(PredictionTable.from_records(answered))
    return found


def test_each_question_has_the_interval_that_is_for_it() -> None:
    (one,) = runs(1)
    found = generalization_intervals("frozen", 1, [one])
    assert found.mean == pytest.approx(one.mean)
    assert set(found.intervals) == {THESE_CLIPS, OTHER_CLIPS, OTHER_CLASSES}
    assert found.intervals[OTHER_CLIPS] == JackknifeEstimate.from_outcomes(one, "clips").interval()
    assert (
        found.intervals[OTHER_CLASSES] == JackknifeEstimate.from_outcomes(one, "classes").interval()
    )
    assert "these clips and classes" in found.intervals[THESE_CLIPS].covers


def test_groups_are_a_question_where_clips_have_them() -> None:
    (one,) = runs(1)
    groups = ClipGroups({name: name[-1] for name in one.clips})
    found = generalization_intervals("frozen", 1, [one], groups=groups).intervals[OTHER_GROUPS]
    assert found == JackknifeEstimate.from_outcomes(one, "groups", groups.group_of_clip).interval()


def test_seeds_are_pooled_episode_by_episode_and_have_a_spread_of_their_own() -> None:
    several = runs(3)
    found = generalization_intervals("aim", 1, several)
    means = [one.mean for one in several]
    assert len(set(means)) == 3
    assert found.mean == pytest.approx(sum(means) / 3)
    assert found.intervals[OTHER_SEEDS] == seed_interval(means)
    each = [one.accuracies.tolist() for one in several]
    by_episode = [sum(values) / 3 for values in zip(*each, strict=True)]
    plain = bounded_interval(by_episode)
    assert found.intervals[THESE_CLIPS].low == pytest.approx(plain.low)
    assert found.intervals[THESE_CLIPS].high == pytest.approx(plain.high)


def test_a_gain_is_paired_whatever_the_numbers_of_seeds() -> None:
    several, (frozen,) = runs(3), runs(1, right=0.6)
    found = generalization_intervals("aim", 1, several, baseline=[frozen])
    pooled = PredictionTable.pooled(several)
    plain = paired_difference(pooled.accuracies.tolist(), frozen.accuracies.tolist())
    assert found.mean == pytest.approx(plain.mean)
    assert found.intervals[THESE_CLIPS].half_width == pytest.approx(plain.half_width)
    assert OTHER_SEEDS not in found.intervals
    uneven = generalization_intervals("aim", 1, several, baseline=[frozen, several[1]])
    assert uneven.mean == pytest.approx(pooled.mean - (frozen.mean + several[1].mean) / 2)
    assert uneven.intervals[OTHER_CLIPS].mean == pytest.approx(uneven.mean)


def test_runs_of_other_episodes_are_not_pooled() -> None:
    (one,), (other,) = runs(1), runs(1, episodes=39)
    with pytest.raises(UsageError, match="different episodes"):
        PredictionTable.pooled([one, other])
    with pytest.raises(UsageError, match="at least one run"):
        PredictionTable.pooled([])


def test_the_text_has_a_column_for_each_question_and_says_what_it_covers() -> None:
    several = runs(2)
    rows = [
        generalization_intervals("frozen", 1, several[:1]),
        generalization_intervals("aim", 1, several),
    ]
    gains = [generalization_intervals("aim", 1, several, baseline=several[:1])]
    text = generalization_text(rows, gains)
    first, further, gain, notes = text.split("\n\n")
    headings = [re.split(r" {2,}", block.splitlines()[0]) for block in (first, further)]
    assert headings == [
        ["row", "shot", "accuracy %", THESE_CLIPS, OTHER_CLIPS],
        ["row", "shot", OTHER_CLASSES, OTHER_SEEDS],
    ], "more columns would not fit 80"
    assert further.splitlines()[2].split()[-1] == "-", "one seed has no spread over seeds"
    assert "over frozen" in gain.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 80
    for question in (THESE_CLIPS, OTHER_CLIPS, OTHER_CLASSES, OTHER_SEEDS):
        assert f"{question}: " in " ".join(notes.split())
    assert OTHER_GROUPS not in text


def test_the_note_says_which_rows_have_another_method() -> None:
    rows = [
        generalization_intervals("frozen", 1, runs(1)),
        generalization_intervals("aim", 1, runs(1, right=0.99)),
        generalization_intervals("lora", 5, runs(1)),
    ]
    note = coverage_note(THESE_CLIPS, rows)
    assert note.startswith(
        "these clips: Student t; for aim (1 shot): Student t on the logit scale. It covers"
    )
    gains = [generalization_intervals("aim", 1, runs(2), baseline=runs(1))]
    both = coverage_note(THESE_CLIPS, rows[:1], gains)
    assert both.startswith("these clips: Student t; of gains: paired Student t. ")
    assert " or " not in coverage_note(OTHER_CLIPS, rows).partition(". ")[0]


def test_heads_have_a_column_of_short_names() -> None:
    row = generalization_intervals("frozen", 1, runs(1))
    rows = [replace(row, head=head) for head in "AB"]
    text = generalization_text(rows, [])
    assert text.split()[:3] == ["row", "head", "shot"]
    assert [line.split()[:2] for line in text.splitlines()[2:4]] == [
        ["frozen", "A"],
        ["frozen", "B"],
    ]


def test_no_gain_is_not_minus_nothing() -> None:
    (one,) = runs(1)
    text = generalization_text([], [generalization_intervals("aim", 1, [one], baseline=[one])])
    assert "+0.00" in text
    assert "-0.00" not in text


def test_ties_have_no_interval_for_other_clips_or_classes() -> None:
    (one,) = runs(1)
    found = generalization_intervals("aim", 1, [one], baseline=[one]).intervals
    assert found[THESE_CLIPS].equal
    for question in (THESE_CLIPS, OTHER_CLIPS, OTHER_CLASSES):
        assert (found[question].low, found[question].high) == (None, None)
    for question in (OTHER_CLIPS, OTHER_CLASSES):
        assert "every episode shows the same gain" in found[question].covers


def test_no_interval_for_other_groups_or_classes_is_narrower_than_that_for_other_clips() -> None:
    shown = 0
    for seed in range(25):
        records = some_records(seed, episodes=40, classes=6, query=3)
        one = PredictionTable.from_records(records)
        groups = ClipGroups({name: name[-1] for name in one.clips}, "global")
        found = generalization_intervals("frozen", 1, [one], groups=groups).intervals
        assert found[OTHER_CLASSES] == JackknifeEstimate.from_outcomes(one, "classes").interval()
        clips = found[OTHER_CLIPS].half_width
        assert clips is not None
        assert (found[OTHER_GROUPS].half_width or 0) >= clips
        shown += found[OTHER_CLASSES].low is not None
        assert found[OTHER_CLASSES].low is None or (found[OTHER_CLASSES].half_width or 0) >= clips
    assert 0 < shown < 25


def test_seeds_that_change_nothing_are_no_certainty() -> None:
    (one,) = runs(1)
    found = generalization_intervals("frozen", 1, [one, one, one]).intervals[OTHER_SEEDS]
    assert (found.low, found.high, found.n) == (None, None, 3)
    assert "gave the same answers" in found.covers
