"""Counts of a split, and the most episodes that share no clip."""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.splits.split import Clip, Draw, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.splits.summary import (
    COMMON_SETTINGS,
    episode_capacity,
    max_disjoint_episodes,
    summarize_split,
)
from fewshot_i2v.errors import EpisodeError, UnknownNameError
from tests.data.splits.samples import grouped, make_split

# Most disjoint 5-way episodes of the test lists, for the settings of SETTINGS; computed once by
# filling episodes greedily from the fullest classes.
GREEDY = {
    "hmdb51-arn": (129, 42, 42, 25, 12),
    "ucf101-arn": (273, 90, 90, 53, 25),
    "kinetics100-cmn": (240, 76, 76, 48, 24),
    "ssv2-small-cmn": (240, 76, 76, 48, 24),
    "ssv2-full-otam": (284, 93, 93, 54, 25),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", GREEDY)
def test_no_fewer_than_a_greedy_filling_of_published_lists(shared: Path, name: str) -> None:
    classes = json.loads((shared / "splits" / name / "classes.json").read_text(encoding="utf-8"))
    sizes = [row["videos"] for row in classes["test"]]
    counts = tuple(max_disjoint_episodes(sizes, 5, *setting) for setting in COMMON_SETTINGS)
    assert counts == GREEDY[name]


def by_trying_all(places: tuple[int, ...], way: int) -> int:
    """The most episodes, by trying every choice of classes for every episode."""

    @cache
    def most(left: tuple[int, ...]) -> int:
        best = 0
        for chosen in itertools.combinations(range(len(left)), way):
            if all(left[c] for c in chosen):
                rest = tuple(sorted(n - (c in chosen) for c, n in enumerate(left)))
                best = max(best, 1 + most(rest))
        return best

    return most(tuple(sorted(places)))


@given(st.lists(st.integers(0, 4), max_size=5), st.integers(1, 3))
def test_it_is_the_most_that_any_filling_gives(places: list[int], way: int) -> None:
    assert max_disjoint_episodes([2 * n + 1 for n in places], way, 1, 1) == by_trying_all(
        tuple(places), way
    )


def test_a_large_class_is_of_no_use_alone() -> None:
    assert max_disjoint_episodes([1000, 2, 2], 3, 1, 1) == 1
    assert max_disjoint_episodes([1000, 1000], 3, 1, 1) == 0
    assert max_disjoint_episodes([], 5, 1, 1) == 0


@pytest.mark.parametrize(("way", "shot", "query"), [(0, 1, 1), (5, 0, 1), (5, 1, -1)])
def test_numbers_below_one_are_refused(way: int, shot: int, query: int) -> None:
    with pytest.raises(EpisodeError, match=r"(way|shot|query): got (0|-1); expected a whole"):
        episode_capacity(make_split(), "novel", way, shot, query)


def test_classes_that_are_too_small_are_named() -> None:
    split = grouped({"a": ["x"] * 3, "b": ["x"] * 6, "c": ["x"] * 7}, "class")
    found = episode_capacity(split, "novel", 2, 5, 1)
    assert (found["classes"], found["drawn"], found["disjoint"]) == (2, False, 1)
    assert found["too_small"] == [{"name": "a", "clips": 3}]
    assert episode_capacity(split, "novel", 2, 1, 1)["drawn"]
    assert not episode_capacity(split, "novel", 4, 1, 1)["drawn"]
    with pytest.raises(UnknownNameError, match="unknown subset 'val'"):
        episode_capacity(split, "val", 2, 1, 1)


def _pair() -> Split:
    def clips(prefix: str, count: int) -> tuple[Clip, ...]:
        return tuple(Clip(f"{prefix}{i}") for i in range(count))

    return Split(
        name="pair",
        subsets={
            "train": {"a": clips("ta", 6), "b": clips("tb", 2)},
            "test": {"a": clips("ea", 3), "b": clips("eb", 9)},
        },
        class_ids={"a": "0"},
        draws={"p": (Draw(1, {"a": ("ta0",), "b": ("tb0",)}),)},
    )


def test_support_comes_from_train_and_queries_from_test() -> None:
    found = episode_capacity(_pair(), "test", 2, 2, 1)
    assert (found["disjoint"], found["too_small"], found["drawn"]) == (None, [], True)
    assert episode_capacity(_pair(), "test", 2, 3, 1)["too_small"] == [{"name": "b", "clips": 2}]
    assert episode_capacity(_pair(), "test", 2, 1, 4)["too_small"] == [{"name": "a", "clips": 3}]
    assert episode_capacity(_pair(), "train", 2, 1, 1)["disjoint"] == 1


def test_a_summary_is_plain_data_with_all_counts() -> None:
    data = summarize_split(_pair(), [(2, 2, 1)])
    assert json.loads(json.dumps(data)) == data
    train, test = data["subsets"]["train"], data["subsets"]["test"]
    assert (train["classes"], train["clips"]) == (2, 8)
    assert train["clips_per_class"] == {"min": 2, "median": 4, "max": 6}
    assert train["class_sizes"][0] == {"name": "a", "id": "0", "clips": 6}
    assert test["episodes"][0]["drawn"]
    assert train["episodes"][0]["disjoint"] == 0
    assert data["draws"] == {"p": [1]}
    assert data["digest"] == _pair().digest


def test_groups_are_counted_by_their_scope() -> None:
    groups = {"a": ["x", "x", "y"], "b": ["x", "z", "z"]}
    own = summarize_split(grouped(groups, "class"))["subsets"]["novel"]["groups"]
    assert own == {
        "count": 4,
        "clips_per_group": {"min": 1, "median": 1.5, "max": 2},
        "clips_without": 0,
    }
    common = summarize_split(grouped(groups, "global"))["subsets"]["novel"]["groups"]
    assert (common["count"], common["clips_per_group"]["max"]) == (3, 3)
    assert summarize_split(make_split())["subsets"]["novel"]["groups"] is None


def test_generated_splits_have_counts_too() -> None:
    data = summarize_split(load_split("motions"), [(5, 5, 15)])
    assert data["subsets"]["novel"]["clips_per_class"] == {"min": 60, "median": 60, "max": 60}
    assert data["subsets"]["novel"]["episodes"][0]["disjoint"] == 6
    assert data["generator"]["name"] == "motions"
