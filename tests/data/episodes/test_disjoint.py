"""Disjoint episodes: their largest number, no clip twice, classes as even as they can be."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.episodes.disjoint import DisjointSampler
from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.data.splits.summary import max_disjoint_episodes
from fewshot_i2v.errors import EpisodeError


def split_of(sizes: list[int]) -> Split:
    return Split(
        name="sizes",
        subsets={
            "novel": {
                f"c{c}": tuple(Clip(f"c{c}/{i}") for i in range(size))
                for c, size in enumerate(sizes)
            }
        },
    )


@cache
def most(slots: tuple[int, ...], way: int) -> int:
    """The largest number of episodes, by trying all."""
    best = 0
    for chosen in combinations(range(len(slots)), way):
        if all(slots[c] for c in chosen):
            left = tuple(m - (c in chosen) for c, m in enumerate(slots))
            best = max(best, 1 + most(left, way))
    return best


@given(st.lists(st.integers(0, 3), min_size=2, max_size=4), st.integers(1, 3))
def test_no_more_are_possible(slots: list[int], way: int) -> None:
    assert max_disjoint_episodes([2 * m for m in slots], way, 1, 1) == most(tuple(slots), way)


@given(
    st.lists(st.integers(3, 14), min_size=3, max_size=6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 5),
)
def test_no_clip_is_used_twice(sizes: list[int], way: int, shot: int, seed: int) -> None:
    sampler = DisjointSampler(split_of(sizes), seed=seed, way=way, shot=shot, query=1)
    assert sampler.count == max_disjoint_episodes(sizes, way, shot, 1) >= 1
    specs = [sampler[i] for i in range(sampler.count)]
    names = [name for spec in specs for name in spec.clip_names()]
    assert len(names) == len(set(names)) == sampler.count * way * (shot + 1)
    for spec in specs:
        assert len(set(spec.classes)) == way
        for c, support, query in zip(spec.classes, spec.support, spec.query, strict=True):
            assert {name.split("/")[0] for name in (*support, *query)} == {c}
            assert (len(support), len(query)) == (shot, 1)


def test_classes_are_used_equally_often_as_far_as_they_have_clips() -> None:
    sampler = DisjointSampler(split_of([40, 40, 40, 6, 40]), seed=2, way=2, shot=1, query=1)
    uses = Counter(name for i in range(sampler.count) for name in sampler[i].classes)
    assert uses["c3"] == 3
    rest = [count for name, count in uses.items() if name != "c3"]
    assert max(rest) - min(rest) <= 1


def test_pairs_of_classes_meet_about_equally_often() -> None:
    pairs: Counter[tuple[str, ...]] = Counter()
    for seed in range(60):
        sampler = DisjointSampler(split_of([12] * 5), seed=seed, way=2, shot=1, query=1)
        pairs.update(tuple(sorted(sampler[i].classes)) for i in range(sampler.count))
    assert len(pairs) == 10
    # 90 each; a share of 1/10 of 900 has a standard deviation of 9
    assert max(abs(count - 90) for count in pairs.values()) < 36


def test_another_partition_uses_the_clips_anew_in_other_company() -> None:
    sampler = DisjointSampler(split_of([8] * 4), seed=0, way=2, shot=1, query=1, partitions=2)
    first = [sampler[i] for i in range(sampler.episodes_per_partition)]
    second = [sampler[i] for i in range(sampler.episodes_per_partition, sampler.count)]
    alone = DisjointSampler(split_of([8] * 4), seed=0, way=2, shot=1, query=1)
    assert [alone[i] for i in range(alone.count)] == first
    assert len(first) == len(second) == 8
    assert sorted(n for s in first for n in s.clip_names()) == sorted(
        n for s in second for n in s.clip_names()
    )
    assert {s.clip_names() for s in first}.isdisjoint(s.clip_names() for s in second)


def test_an_episode_is_a_number_here_too() -> None:
    one = DisjointSampler(split_of([9] * 5), seed=4, way=3, shot=2, query=1)
    other = DisjointSampler(split_of([9] * 5), seed=4, way=3, shot=2, query=1)
    assert other[3] == one[3]
    assert [one[i].digest for i in range(3)] == [
        "7aa59b001ccad308",
        "74819255982b1099",
        "0d058a0e4ba44a5f",
    ]


def test_past_the_last_one_there_is_none() -> None:
    sampler = DisjointSampler(split_of([4] * 3), seed=0, way=2, shot=1, query=1)
    assert sampler.count == 3
    with pytest.raises(EpisodeError, match="episode 3: there are 3 disjoint ones, from 0"):
        sampler[3]
    with pytest.raises(EpisodeError, match="index: got -1"):
        sampler[-1]
