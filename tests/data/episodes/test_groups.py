"""Support and query of an episode never share a group, where that is asked for."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.groups import _is_divisible
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.errors import EpisodeError
from tests.data.splits.samples import grouped, make_split

Scope = Literal["class", "global"]
_groups = st.lists(st.sampled_from("pqrstuvw"), min_size=4, max_size=14)


def _sampler(split: Split, **kind: Any) -> EpisodeSampler:
    return EpisodeSampler(split, seed=0, disjoint_groups=True, **kind)


def _keys(split: Split, spec: Episode, rows: tuple[tuple[str, ...], ...]) -> set[tuple[str, ...]]:
    """Groups of the clips of each class, with the class's name where the scope is the class."""
    keys: set[tuple[str, ...]] = set()
    for name, row in zip(spec.classes, rows, strict=True):
        group = {clip.name: clip.group or "" for clip in split.clips("novel", name)}
        keys |= {(name, group[c]) if split.group_scope == "class" else (group[c],) for c in row}
    return keys


@given(
    groups=st.lists(_groups, min_size=2, max_size=4),
    scope=st.sampled_from(["class", "global"]),
    query=st.integers(1, 3),
)
def test_support_and_query_share_no_group(
    groups: list[list[str]], scope: Scope, query: int
) -> None:
    split = grouped({f"c{i}": row for i, row in enumerate(groups)}, scope)
    drawn = 0
    for index in range(5):
        specs = []
        for shot in (1, 2, 3):
            try:
                specs.append(_sampler(split, way=2, shot=shot, query=query)[index])
            except EpisodeError:
                break  # more shots cannot be had then either
        for spec in specs:
            drawn += 1
            assert not _keys(split, spec, spec.support) & _keys(split, spec, spec.query)
            assert all(len(set(row)) == query for row in spec.query)
        for less, more in pairwise(specs):
            assert more.query == less.query
            assert [row[:-1] for row in more.support] == list(less.support)
    assume(drawn)


def test_scope_decides_whether_groups_reach_across_classes() -> None:
    shared = {}
    for scope in ("class", "global"):
        split = make_split(4, 12, size_of_group=2, scope=scope)
        sampler = _sampler(split, way=3, shot=3, query=3)
        names = [
            (
                {n.split("/")[1] for r in s.query for n in r},
                {n.split("/")[1] for r in s.support for n in r},
            )
            for s in map(sampler.__getitem__, range(20))
        ]
        shared[scope] = sum(bool(query & support) for query, support in names)
    assert shared["global"] == 0
    assert shared["class"] > 0


def test_groups_that_only_one_class_has_are_spared_for_the_others() -> None:
    """Serials that serve an unserved class without costing a served one are taken first."""
    a = [str(i) for i in range(14)]
    b = [str(i) for i in range(8, 22)]
    split = grouped({"a": a, "b": b, "c": a, "d": a, "e": a}, "global")
    sampler = _sampler(split, way=5, shot=5, query=5)
    for index in range(300):
        spec = sampler[index]
        assert not _keys(split, spec, spec.support) & _keys(split, spec, spec.query)


def test_every_group_comes_to_the_query_side_equally_often() -> None:
    split = make_split(3, 12, size_of_group=2)
    sampler = _sampler(split, way=3, shot=2, query=2)
    counts = dict.fromkeys((f"v{i:03d}" for i in range(12)), 0)
    for index in range(1000):
        for row in sampler[index].query:
            for name in row:
                counts[name[-8:-4]] += 1
    assert sum(counts.values()) == 6000
    assert max(abs(n - 500) for n in counts.values()) < 100


def test_a_split_without_groups_says_how_to_add_them() -> None:
    with pytest.raises(EpisodeError) as caught:
        _sampler(make_split(), way=2, shot=1, query=1)
    message = str(caught.value)
    assert "clip 'c0/v000.mp4' of split 'sample' has no group" in message
    assert "Add `group` to the split file" in message


def test_one_clip_without_a_group_is_named() -> None:
    clips = (Clip("a/1", "p"), Clip("a/2"), Clip("a/3", "q"))
    split = Split(name="s", subsets={"novel": {"a": clips}})
    with pytest.raises(EpisodeError, match="'a/2'"):
        _sampler(split, way=1, shot=1, query=1)


def test_classes_that_can_never_be_divided_are_named_at_once() -> None:
    split = grouped({"one": "pppppp", "two": "ppppqq", "three": "ppqqrrss"}, "class")
    with pytest.raises(EpisodeError) as caught:
        _sampler(split, way=2, shot=3, query=3)
    message = str(caught.value)
    assert "3 query and 3 support clips without a common group" in message
    assert "one has groups of [6] clips, two has groups of [4, 2] clips. Give" in message
    assert "three" not in message


def test_an_episode_whose_groups_fall_badly_names_the_class() -> None:
    sampler = _sampler(grouped({"a": "ppppppqqq"}, "class"), way=1, shot=4, query=3)
    outcomes: set[int | str] = set()
    for index in range(30):
        try:
            outcomes.add(len(sampler[index].support[0]))
        except EpisodeError as error:
            outcomes.add(str(error).split(": ", 1)[1].split(" ", 3)[3])
    words = "the groups of the query clips leave class 'a' 3 support clips; 4 are needed. "
    assert outcomes == {4, words + "Give a smaller shot or query, or another seed"}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 6), st.integers(1, 6))
def test_divisible_equals_trying_all(sizes: list[int], query: int, shot: int) -> None:
    sides = product((False, True), repeat=len(sizes))
    sums = [sum(n for n, taken in zip(sizes, side, strict=True) if taken) for side in sides]
    possible = any(n >= query and sum(sizes) - n >= shot for n in sums)
    assert _is_divisible(sizes, query, shot) is possible
