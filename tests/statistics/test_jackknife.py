"""Intervals over clips, groups and classes: what they are, and when there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import scipy.stats

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import Interval, bounded_interval, mean_interval
from fewshot_i2v.statistics.jackknife import ClusterKind, GroupScope, JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.statistics.made_runs import apart, episode, some_records


def make(
    outcomes: PredictionTable,
    level: float = 0.95,
    *,
    by: ClusterKind = "clips",
    groups: Mapping[str, str] | None = None,
    baseline: PredictionTable | None = None,
) -> Interval:
    """The interval of a run, or of its gain over another."""
    estimate = JackknifeEstimate.from_outcomes(outcomes, by, groups, baseline=baseline)
    return estimate.interval(level)


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_groups_of_one_clip_are_clips() -> None:
    outcomes = PredictionTable.from_records(some_records(6, episodes=40))
    alone = {clip: clip for clip in outcomes.clips}
    by_clips = make(outcomes)
    scopes: tuple[GroupScope, ...] = ("class", "global")
    for scope in scopes:
        by_groups = JackknifeEstimate.from_outcomes(outcomes, "groups", alone, scope)
        assert sorted(by_groups.changes.change) == pytest.approx(
            sorted(JackknifeEstimate.from_outcomes(outcomes, "clips").changes.change)
        )
    assert ends(make(outcomes, by="groups", groups=alone)) == pytest.approx(ends(by_clips))


def test_where_chance_drowns_what_clips_add_there_is_no_interval() -> None:
    """Episodes that use all eight clips of a class: what is left without one is mostly chance."""
    found = []
    for seed in range(12):
        few = some_records(seed, episodes=60, classes=6, clips=8, shot=5, query=3)
        found.append(make(PredictionTable.from_records(few)))
    refused = [one for one in found if one.low is None]
    assert len(refused) > 4
    assert all("drowns how much clips matter" in one.covers for one in refused)
    one_shot = some_records(0, episodes=60, classes=6, clips=8, shot=1, query=3)
    assert make(PredictionTable.from_records(one_shot)).low is not None


@pytest.mark.parametrize("right", [{0: 1, 3: 0, 5: 1}, {2: 0}])
def test_episodes_without_a_common_clip_have_the_interval_of_student(
    right: dict[int, int],
) -> None:
    outcomes = apart(12, right)
    got = make(outcomes)
    assert ends(got) == pytest.approx(ends(bounded_interval(outcomes.accuracies.tolist())))
    assert got.n == 48
    assert "other clips of these classes" in got.covers


def test_the_interval_is_wider_than_that_over_episodes_where_clips_are_shared() -> None:
    generator = np.random.default_rng(2)
    records = []
    hard = generator.random((4, 6)) < 0.4
    for t in range(300):
        names = generator.permutation(4)[:3]
        drawn = [generator.permutation(6)[:2] for _ in names]
        clips = [[f"c{c}/{i}" for i in row] for c, row in zip(names, drawn, strict=True)]
        wrong = [hard[c, row[1]] for c, row in zip(names, drawn, strict=True)]
        guesses = [(label + int(w)) % 3 for label, w in enumerate(wrong)]
        records.append(episode(t, [f"c{c}" for c in names], clips, 1, guesses))
    outcomes = PredictionTable.from_records(records)
    closed = mean_interval(outcomes.accuracies.tolist()).half_width
    assert closed is not None
    assert (make(outcomes).half_width or 0) > 2.5 * closed
    # answers are a function of the query clip, so this is a mean over 24 clips, six of a class
    spread = np.sqrt(np.mean(hard.var(1, ddof=1)) / 24)
    error = np.sqrt(JackknifeEstimate.from_outcomes(outcomes, "clips").variance)
    assert error == pytest.approx(spread, rel=0.3)


def made(seed: int, right: Callable[[str], float], classes: int = 8) -> PredictionTable:
    """400 episodes in which a query is right as often as its name says."""
    generator = np.random.default_rng(seed)
    records = []
    for r in some_records(seed, episodes=400, classes=classes, clips=12):
        names = [name for row in r.query for name in row]
        guesses = [
            label if generator.random() < right(name) else (label + 1) % 3
            for name, label in zip(names, r.labels, strict=True)
        ]
        clips = [a + b for a, b in zip(r.support, r.query, strict=True)]
        records.append(episode(r.index, r.classes, clips, 1, guesses))
    return PredictionTable.from_records(records)


def hard_classes(classes: int = 8) -> PredictionTable:
    """Every second class is hard; all clips of a class are alike."""
    return made(10, lambda name: 0.4 if int(name[1]) % 2 else 0.8, classes)


def hard_groups() -> PredictionTable:
    """Groups of two clips, every second one hard; all classes are alike."""
    return made(11, lambda name: 0.3 if int(name.split("/")[1]) // 2 % 2 else 0.9)


@pytest.mark.parametrize("by", ["clips", "groups", "classes"])
def test_it_says_what_it_is_over(by: ClusterKind) -> None:
    outcomes = hard_classes() if by == "classes" else hard_groups()
    groups = None
    if by == "groups":
        groups = {clip: str(int(clip.split("/")[1]) // 2) for clip in outcomes.clips}
    plain = make(outcomes, by=by, groups=groups)
    assert plain.n == {"clips": 96, "groups": 48, "classes": 8}[by]
    assert plain.mean == outcomes.mean
    assert by in plain.method
    assert by in plain.covers
    wider = make(outcomes, 0.99, by=by, groups=groups)
    assert (wider.half_width or 0) > (plain.half_width or 0)


def test_near_one_it_stays_inside() -> None:
    outcomes = PredictionTable.from_records(some_records(11, episodes=40, right=0.98, clips=20))
    assert 0.93 < outcomes.mean < 1
    low, high = ends(make(outcomes))
    assert 0.8 < low < outcomes.mean < high < 1
    assert "logit" in make(outcomes).method


def test_no_wrong_answer_is_no_certainty() -> None:
    low, high = ends(make(apart(12, {})))
    t = scipy.stats.t.ppf(0.975, 11)
    assert (low, high) == pytest.approx((12 / (12 + t * t), 1.0), abs=1e-12)
    shared = PredictionTable.from_records(some_records(12, episodes=50, right=1.1, clips=6))
    # 24 clips are enough for two episodes of nine
    low, high = ends(make(shared))
    t = scipy.stats.t.ppf(0.975, 1)
    assert (low, high) == pytest.approx((2 / (2 + t * t), 1.0), abs=1e-12)


def test_where_there_is_no_interval_it_says_why() -> None:
    one = make(PredictionTable.from_records(some_records(13, episodes=1)))
    assert (one.low, one.high) == (None, None)
    assert "One episode: no interval." in one.covers
    tight = make(
        PredictionTable.from_records(some_records(13, episodes=9, clips=2, classes=3, query=1))
    )
    assert (tight.low, tight.high) == (None, None)
    assert "is in every episode of its class: without it nothing is left" in tight.covers
    alike = make(PredictionTable.from_records(some_records(13, episodes=9, clips=4, right=1.1)))
    assert (alike.low, alike.high) == (None, None)
    assert "alike and share clips" in alike.covers


def test_the_gain_over_another_run_of_the_same_episodes() -> None:
    records = some_records(14, episodes=150, clips=12)
    one = PredictionTable.from_records(records)
    changed = [
        episode(
            r.index,
            r.classes,
            [a + b for a, b in zip(r.support, r.query, strict=True)],
            1,
            [0, *r.predictions[1:]],
        )
        for r in records
    ]
    other = PredictionTable.from_records(changed)
    got, back = make(other, baseline=one), make(one, baseline=other)
    assert got.mean == pytest.approx(other.mean - one.mean)
    assert got.mean > 0
    assert back.mean == pytest.approx(-got.mean)
    assert ends(back)[0] < -got.mean < ends(back)[1]
    assert (got.half_width or 1) < (make(one).half_width or 0)
    tie = make(one, baseline=one)
    assert (tie.mean, tie.low, tie.high) == (0, None, None)
    assert "every episode shows the same gain" in tie.covers
    with pytest.raises(UsageError, match="same episodes of both runs"):
        make(one, baseline=PredictionTable.from_records(changed[:-1]))


def test_what_makes_no_sense_is_refused() -> None:
    outcomes = PredictionTable.from_records(some_records(15))
    groups = dict.fromkeys(outcomes.clips, "g")
    with pytest.raises(UsageError, match="expected the group of every clip"):
        make(outcomes, by="groups")
    with pytest.raises(UsageError, match="only then"):
        make(outcomes, by="clips", groups=groups)
    groups.pop(outcomes.clips[2])
    with pytest.raises(UsageError, match=f"1 of {len(outcomes.clips)} clips have none"):
        make(outcomes, by="groups", groups=groups)
    with pytest.raises(UsageError, match=r"such as 0\.95"):
        make(outcomes, level=95)
    with pytest.raises(UsageError, match="no episode succeeded"):
        make(PredictionTable.from_records([]))


def test_one_set_of_classes_says_nothing_about_others() -> None:
    records = some_records(8, episodes=50, classes=4, way=4)
    got = make(PredictionTable.from_records(records), by="classes")
    assert (got.low, got.high) == (None, None)
    assert "All 4 classes are in every episode, so one set of classes was seen" in got.covers
    clips = [[["a/0", "a/1"], ["b/0"]], [["a/2", "a/3"], ["c/1"]], [["a/4", "a/5"], ["d/2"]]]
    records = [episode(t, ["a", rows[1][0][0]], rows, 1, [t % 2]) for t, rows in enumerate(clips)]
    got = make(PredictionTable.from_records(records), by="classes")
    assert got.low is None
    assert "'a' is in every episode: without it nothing is left. No interval." in got.covers


def test_classes_that_show_less_than_their_clips_say_nothing_about_others() -> None:
    even = hard_groups()
    got = make(even, by="classes")
    assert (got.low, got.high) == (None, None)
    assert "Where classes show no more spread than their clips do" in got.covers
    assert (make(hard_classes(), by="classes").half_width or 0) > (
        make(hard_classes()).half_width or 1
    )


def test_an_interval_over_groups_is_no_narrower_than_that_over_clips() -> None:
    outcomes = hard_groups()
    # every group has clips of both kinds, so groups hardly differ
    mixed = {clip: str(int(clip.split("/")[1]) % 2) for clip in outcomes.clips}
    got = make(outcomes, by="groups", groups=mixed)
    assert ends(got) == ends(make(outcomes))
    assert got.n == 16
    assert "groups" in got.method
    assert "it is as wide as that for other clips" in got.covers
    alike = {clip: str(int(clip.split("/")[1]) // 2) for clip in outcomes.clips}
    wider = make(outcomes, by="groups", groups=alike)
    assert (wider.half_width or 0) > (got.half_width or 1)
    assert "as wide as" not in wider.covers


def test_few_episodes_do_not_tell_what_clips_add() -> None:
    for seed in range(3):
        few = PredictionTable.from_records(some_records(seed, episodes=20, clips=12, classes=6))
        for by in ("clips", "classes"):
            got = make(few, by=by)
            assert (got.low, got.high) == (None, None)
            assert "With 20 episodes too few clips were in several of them" in got.covers


def test_few_episodes_that_share_no_clip_tell_of_classes() -> None:
    names, records = "abcdef", []
    for t in range(24):
        two = [names[t % 6], names[(t + 1 + t // 6) % 6]]
        clips = [[f"{name}/{t}-{i}" for i in range(6)] for name in two]
        # classes a, b and c are hard
        guesses = [
            c if (i + t) % 5 < (2 if two[c] < "d" else 4) else 1 - c
            for c in range(2)
            for i in range(5)
        ]
        records.append(episode(t, two, clips, 1, guesses))
    outcomes = PredictionTable.from_records(records)
    assert (make(outcomes, by="classes").half_width or 0) > (make(outcomes).half_width or 1)


def test_what_chance_hides_is_said() -> None:
    hidden = [
        PredictionTable.from_records(some_records(seed, episodes=40, clips=12))
        for seed in range(12)
    ]
    cut = [
        one for one in hidden if not JackknifeEstimate.from_outcomes(one, "clips").changes.variance
    ]
    assert 0 < len(cut) < len(hidden)
    for one in hidden:
        assert ("hides what clips add, that counts as 0" in make(one).covers) == (one in cut)
    apart_from_each_other = make(apart(12, {0: 1, 3: 0}))
    assert "hides" not in apart_from_each_other.covers


def test_equal_accuracies_of_other_answers_are_no_certainty() -> None:
    records = [
        episode(t, ["a", "b"], [[f"a/{t}", f"a/{t}q"], [f"b/{t}", f"b/{t}q"]], 1, [0, 0])
        for t in range(7)
    ]
    low, high = ends(make(PredictionTable.from_records(records)))
    assert 0 < low < 0.25
    assert 0.75 < high < 1
