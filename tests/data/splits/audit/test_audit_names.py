"""Which names an audit takes for the same class or clip, and which it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fewshot_i2v.data.splits.audit.audit import audit, audit_split
from fewshot_i2v.data.splits.audit.group_leakage import same_group_probability
from fewshot_i2v.data.splits.audit.overlap import compare_splits, pretraining_overlap
from fewshot_i2v.data.splits.matching.name_normalization import normalized_class, stem_key
from fewshot_i2v.data.splits.split import Clip, Draw, Generator, Split
from fewshot_i2v.errors import EpisodeError


def listed(
    subsets: Mapping[str, Mapping[str, Sequence[str]]],
    name: str = "x",
    **more: Any,
) -> Split:
    """A split from clip names; "NAME@GROUP" gives a group."""
    return Split(
        name=name,
        subsets={
            subset: {
                label: tuple(Clip(n, group or None) for n, _, group in map(_parts, names))
                for label, names in classes.items()
            }
            for subset, classes in subsets.items()
        },
        **more,
    )


def _parts(text: str) -> tuple[str, str, str]:
    return text.partition("@")


def common(a: Mapping[str, Sequence[str]], b: Mapping[str, Sequence[str]], **more: Any) -> int:
    """Clips that the novel classes of two splits have in common."""
    found = compare_splits(listed({"novel": a}, "a", **more), listed({"novel": b}, "b", **more))
    return sum(finding.facts["clips"] for finding in found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ride_Bike", "ride bike"),
        ("passing (in game)", "passing, in game"),
        ("caf\u00e9", "Cafe\u0301"),
        ("\uff32un", "run"),
    ],
)
def test_spellings_of_a_class(one: str, other: str) -> None:
    assert normalized_class(one) == normalized_class(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("\u0915\u0940", "\u0915\u093e"), ("+", "-"), ("swipe <", "swipe >"), ("run 1", "run 2")],
)
def test_other_classes(one: str, other: str) -> None:
    assert normalized_class(one) != normalized_class(other)


def test_numbers_in_a_folder_are_not_recordings() -> None:
    mine = {"run": ["run/001.mp4", "run/002.mp4"], "sit": ["sit/001.mp4", "sit/002.mp4"]}
    theirs = {"jump": ["jump/001.mp4", "jump/002.mp4"], "lie": ["lie/001.mp4", "lie/002.mp4"]}
    assert common(mine, theirs) == 0
    assert common({"run": mine["run"]}, {"jump": theirs["jump"]}) == 0
    assert common(mine, mine) == 4
    for find in ("path", "name"):
        assert not [
            f for f in audit_split(listed({"novel": mine}, find=find)) if f.kind == "same clip"
        ]


def test_folders_may_be_missing_or_be_deeper() -> None:
    titles = {"run": ["run/Bob runs.avi", "run/Eve_runs.avi"], "sit": ["sit/Bob sits.avi"]}
    assert common(titles, {"run": ["bob_runs", "eve_runs"], "sit": ["bob_sits"]}) == 3
    deeper = {name: [f"all/clips/{clip}" for clip in clips] for name, clips in titles.items()}
    assert common(titles, deeper) == 3
    flat = {name: [f"all/{c.partition('/')[2]}" for c in clips] for name, clips in titles.items()}
    assert common(titles, flat) == 3
    assert common(titles, {"lie": ["lie/Bob runs.avi"], "stand": ["stand/Eve_runs.avi"]}) == 0


def test_a_video_is_known_by_its_id() -> None:
    one = {"a": ["a/-kYzxMKp514_000086_000096"], "b": ["b/abcdefghijk_000001_000011"]}
    other = {"x": ["x/-kYzxMKp514.mp4"], "y": ["y/ABCDEFGHIJK_000050_000060"]}
    assert common(one, other, find="youtube") == 2
    two = {"a": ["a/abcdefghijk_000001_000011", "a/abcdefghijk_000050_000060"]}
    (video,) = (f for f in audit_split(listed({"novel": two}, find="youtube")) if f.grave)
    assert video.kind == "same video"
    assert video.text.startswith("1 video has clips of several times: novel/a: a/abcdefghijk_0")


def test_generated_clips_are_common_only_where_made_alike() -> None:
    names = {"up": ["up/up-000.mp4", "up/up-001.mp4"]}
    made = [listed({"novel": names}, str(i), generator=Generator("g", seed=i)) for i in (0, 0, 1)]
    more = [
        listed({"novel": names}, "n", generator=Generator("g", clips=9)),
        listed({"base": names}),
    ]
    clips = [compare_splits(made[0], other)[0].facts["clips"] for other in (*made[1:], *more)]
    assert clips == [2, 0, 2, 0]


def test_one_class_under_two_spellings() -> None:
    split = listed({"base": {"brush hair": ["a"]}, "novel": {"Brush_Hair": ["b"], "sit": ["c"]}})
    (twice,) = (finding for finding in audit_split(split) if finding.grave)
    assert twice.kind == "class twice"
    assert twice.facts["classes"] == [["base/brush hair", "novel/Brush_Hair"]]
    both = {"sit": ["d"]}
    assert not [f for f in audit_split(listed({"train": {"sit": ["e"]}, "test": both})) if f.grave]


def test_names_in_several_folders() -> None:
    clips = {c: [f"{c}/{c}{i}.mov" for i in range(20)] for c in "ab"}
    clips["a"].append("a/IMG_4711.mov")
    clips["b"].append("b/img 4711.mov")
    for find, grave in (("path", False), ("name", True)):
        (found,) = (
            f for f in audit_split(listed({"novel": clips}, find=find)) if f.kind == "same clip"
        )
        assert found.grave == grave
        assert found.facts["clips"] == [["novel/a: a/IMG_4711.mov", "novel/b: b/img 4711.mov"]]
    clips["b"][-1] = "a/IMG_4711.avi"
    (found,) = (f for f in audit_split(listed({"novel": clips})) if f.kind == "same clip")
    assert found.grave


def test_groups_of_train_and_test_are_those_of_a_class() -> None:
    split = listed(
        {
            "train": {"a": ["1@g1", "2@g2"], "b": ["3@g3", "4@g4"]},
            "test": {"a": ["5@g1", "6@g5"], "b": ["7@g1", "8@g2"]},
        }
    )
    (found,) = (f for f in audit_split(split) if f.kind == "group crosses")
    assert found.grave
    assert (found.facts["clips"], found.facts["groups"], found.facts["of_groups"]) == (1, 1, 4)
    assert "of their class" in found.text
    assert "other labels" not in found.text


def test_only_what_is_tested_once_and_learnt_once_is_grave() -> None:
    novel = listed({"novel": {"sit": ["1"]}}, "n")
    all_way = listed({"train": {"sit": ["2"]}, "test": {"sit": ["1"]}}, "w")
    found = {f.facts["b"]: f for f in compare_splits(novel, all_way)}
    assert found["train"].grave
    assert found["train"].text.endswith("made on w is not clean on n")
    assert not found["test"].grave
    assert found["test"].text == "n novel and w test: 1 common class, 1 common clip (of 1 and 1)"


def test_equal_names_of_splits_hide_no_findings() -> None:
    splits = [listed({"novel": {"sit": ["1"]}}, "mine"), listed({"base": {"sit": ["1"]}}, "mine")]
    found = audit(*splits).findings
    assert list(found) == ["mine", "mine #2", "mine and mine #2"]
    assert "mine novel and mine #2 base: 1 common class" in found["mine and mine #2"][0].text
    third = listed({"novel": {"sit": ["1"]}}, "mine #2")
    assert len(audit(*splits, third).findings) == 6


def test_several_draws_of_a_shot() -> None:
    def nested(*small: str) -> bool:
        draws = [Draw(1, {"a": (clip,)}) for clip in small]
        large = [Draw(2, {"a": ("1", "2")}), Draw(2, {"a": ("3", "4")})]
        split = listed(
            {"train": {"a": list("12345")}, "test": {"a": ["6"]}}, draws={"p": (*draws, *large)}
        )
        return not [f for f in audit_split(split) if f.kind == "draws"]

    assert nested("1", "3")
    assert not nested("5", "3")  # the last draw alone is nested
    assert not nested("3", "5")


def test_endings_of_words() -> None:
    for one, other in (("clap", "clapping"), ("smoke", "smoking"), ("pullup", "pull ups"),
                       ("ride bike", "riding a bike"), ("kiss", "kissing")):  # fmt: skip
        assert stem_key(one) == stem_key(other), one
    assert len({stem_key(name) for name in ("sing", "swing", "sit", "situp", "run", "pour")}) == 6
    split = listed({"novel": {"push up": ["1"], "clap": ["2"], "pour": ["3"]}})
    (found,) = pretraining_overlap(split, "kinetics400")
    assert (found.facts["seen"], found.facts["alike"]) == (["push up"], {"clap": "clapping"})
    assert found.text == (
        "1 of 3 novel classes have the name of a class of kinetics400, 1 more but for endings of "
        "words: an encoder that was trained on it has seen them with labels, and may have seen "
        "others under another name"
    )
    (alone,) = pretraining_overlap(listed({"base": {"clap": ["1"]}}), "kinetics400")
    assert alone.text.startswith("1 of 1 base classes have the name of a class of kinetics400 but")
    assert not alone.grave
    assert not pretraining_overlap(listed({"novel": {"pour": ["1"]}}), "kinetics400")


@pytest.mark.parametrize("shot", [0, 3])
def test_a_query_is_left_beside_the_support(shot: int) -> None:
    with pytest.raises(EpisodeError, match="expected 1 to 2 of a class of 3 clips"):
        same_group_probability(["a", "a", None], shot)
