"""Folds of labelled clips: what is held out together, and what always stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.episodes.folds import fold_episodes, plan_folds
from fewshot_i2v.data.splits.split import Clip

GROUPS = st.lists(st.sampled_from(["", "p1", "p2", "p3"]), min_size=1, max_size=7)


def _clips(groups: list[list[str]]) -> dict[str, list[Clip]]:
    return {
        f"class {c}": [Clip(f"{c}/{i}.mp4", group or None) for i, group in enumerate(members)]
        for c, members in enumerate(groups)
    }


@given(
    st.lists(GROUPS, min_size=2, max_size=4),
    st.one_of(st.none(), st.integers(2, 5)),
    st.integers(0, 9),
    st.booleans(),
)
def test_each_clip_is_tested_once_by_others_of_all_classes(
    groups: list[list[str]], folds: int | None, seed: int, across_classes: bool
) -> None:
    clips = _clips(groups)
    plan = plan_folds(clips, folds=folds, seed=seed, across_classes=across_classes)
    episodes = fold_episodes(clips, plan)
    tested = [name for episode in episodes for name in episode.query_clips]
    assert len(tested) == len(set(tested))
    assert not set(tested) & set(plan.untested)
    for number, episode in enumerate(episodes):
        assert episode.index == number
        assert all(episode.support), "every class keeps a clip"
        assert not set(episode.support_clips) & set(episode.query_clips)
    if folds is not None:
        assert len(episodes) <= folds


@given(st.lists(st.integers(1, 6), min_size=2, max_size=4))
def test_without_groups_every_clip_that_has_another_is_held_out_alone(sizes: list[int]) -> None:
    clips = _clips([[""] * size for size in sizes])
    plan = plan_folds(clips, folds=None, seed=0, across_classes=False)
    episodes = fold_episodes(clips, plan)
    assert all(len(episode.query_clips) == 1 for episode in episodes)
    assert len(episodes) == sum(size for size in sizes if size > 1)
    assert len(plan.untested) == sum(size == 1 for size in sizes)


def test_clips_of_one_group_are_never_on_both_sides() -> None:
    clips = _clips([["p1", "p1", "p2", "p3"], ["p1", "p2", "p2", "p3"]])
    group_of = {clip.name: clip.group for members in clips.values() for clip in members}
    for folds in (None, 2):
        plan = plan_folds(clips, folds=folds, seed=3, across_classes=True)
        for episode in fold_episodes(clips, plan):
            tested = {group_of[name] for name in episode.query_clips}
            assert not tested & {group_of[name] for name in episode.support_clips}


def test_a_class_of_one_group_alone_is_still_tested() -> None:
    clips = _clips([["p1", "p1"], ["p1", "p2"]])
    plan = plan_folds(clips, folds=None, seed=0, across_classes=False)
    tested = {n for episode in fold_episodes(clips, plan) for n in episode.query_clips}
    assert tested == {"0/0.mp4", "0/1.mp4", "1/0.mp4", "1/1.mp4"}


def test_folds_test_all_classes_alike() -> None:
    clips = _clips([[""] * 10] * 3)
    plan = plan_folds(clips, folds=5, seed=0, across_classes=False)
    episodes = fold_episodes(clips, plan)
    assert [[len(names) for names in episode.query] for episode in episodes] == [[2, 2, 2]] * 5
    assert plan == plan_folds(clips, folds=5, seed=0, across_classes=False)
    assert plan != plan_folds(clips, folds=5, seed=1, across_classes=False)
