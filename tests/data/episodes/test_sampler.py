"""An episode is a pure function of split, seed and number."""

from __future__ import annotations

import hashlib
import json
import pickle
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.hash_ranks import splitmix64
from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError
from tests.data.splits.samples import make_split, run_python

_MASK = 2**64 - 1


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _reference(split: Split, *, seed: int, index: int, way: int, shot: int, query: int) -> Episode:
    """The documented definition in plain Python, without numpy."""
    key = _hash(f"{split.digest}/novel/{seed}/{index}")

    def rank(*parts: str) -> tuple[int, str]:
        return _mix(_hash(json.dumps(parts)) ^ key), parts[-1]

    classes = sorted(split.classes("novel"), key=lambda c: rank("class", c))[:way]
    rows = []
    for name in classes:
        clips = sorted(rank("clip", name, clip.name) for clip in split.clips("novel", name))
        rows.append(tuple(clip for _, clip in clips))
    return Episode(
        index=index,
        classes=tuple(classes),
        support=tuple(row[query : query + shot] for row in rows),
        query=tuple(row[:query] for row in rows),
    )


@given(st.lists(st.integers(0, _MASK), min_size=1, max_size=20))
def test_mix_equals_integer_arithmetic(values: list[int]) -> None:
    assert splitmix64(np.array(values, dtype=np.uint64)).tolist() == [
        _mix(value) for value in values
    ]


def sample_episode(split: Split, *, index: int, **settings: Any) -> Episode:
    """One episode of a new sampler."""
    return EpisodeSampler(split, **settings)[index]


@pytest.mark.parametrize("index", [0, 1, 7, 10**9, 2**70])
def test_episode_equals_its_definition(index: int) -> None:
    split = make_split()
    kind: dict[str, Any] = {"seed": 3, "index": index, "way": 4, "shot": 2, "query": 3}
    assert sample_episode(split, **kind) == _reference(split, **kind)


def test_golden_digests() -> None:
    """Episodes of released versions must stay the same: a change here breaks all stored runs."""
    sampler = EpisodeSampler(make_split(), seed=0, way=5, shot=2, query=3)
    assert [sampler[i].digest for i in range(3)] == GOLDEN
    grouped = make_split(size_of_group=2, scope="global")
    sampler = EpisodeSampler(grouped, seed=0, way=5, shot=2, query=3, disjoint_groups=True)
    assert [sampler[i].digest for i in range(3)] == GOLDEN_GROUPS


GOLDEN: list[str] = ["f9f688d0a2071bee", "340e81e4e7adba32", "b4ca638c1a7a57ce"]
GOLDEN_GROUPS: list[str] = ["2c30fc5f3a5abdfd", "ace0aca3504c1175", "3c707da50c02a90d"]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_other_processes_draw_the_same_episodes(hash_seed: str) -> None:
    code = (
        "from fewshot_i2v.data.episodes.sampler import EpisodeSampler\n"
        "from tests.data.splits.samples import make_split\n"
        "s = EpisodeSampler(make_split(), seed=0, way=5, shot=2, query=3)\n"
        "print(*[s[i].digest for i in (2, 0, 1)])"
    )
    digests = run_python(code, PYTHONHASHSEED=hash_seed).split()
    assert digests == [GOLDEN[2], GOLDEN[0], GOLDEN[1]]


def test_any_order_and_any_repetition_give_the_same_episodes() -> None:
    sampler = EpisodeSampler(make_split(), seed=0, way=3, shot=1, query=2)
    first = [sampler[i] for i in range(40)]
    order = list(range(40)) * 2
    Random(0).shuffle(order)
    assert all(sampler[i] == first[i] for i in order)
    assert len({spec.digest for spec in first}) == 40


@pytest.mark.parametrize("disjoint", [False, True])
def test_more_shots_only_add_support_clips(disjoint: bool) -> None:
    split = make_split(clips=12, size_of_group=2)
    for index in range(30):
        specs = [
            sample_episode(
                split, seed=1, index=index, way=4, shot=k, query=3, disjoint_groups=disjoint
            )
            for k in range(1, 7)
        ]
        for less, more in pairwise(specs):
            assert more.classes == less.classes
            assert more.query == less.query
            for few, many in zip(less.support, more.support, strict=True):
                assert many[: len(few)] == few


@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_the_order_of_the_split_does_not_matter(random: Random, index: int) -> None:
    split = make_split(classes=5, clips=4)
    names = list(split.classes("novel"))
    random.shuffle(names)
    shuffled: dict[str, tuple[Clip, ...]] = {}
    for name in names:
        clips = list(split.clips("novel", name))
        random.shuffle(clips)
        shuffled[name] = tuple(clips)
    other = Split(name="another name", subsets={"novel": shuffled}, description="x", version=2)
    kind: dict[str, Any] = {"seed": 0, "index": index, "way": 3, "shot": 1, "query": 1}
    assert other.digest == split.digest
    assert sample_episode(other, **kind) == sample_episode(split, **kind)


def test_everything_named_changes_the_episodes() -> None:
    split = make_split()
    other_split = make_split(clips=11)
    both = Split(name="two", subsets=dict.fromkeys(("val", "novel"), split.subsets["novel"]))
    kind: dict[str, Any] = {"seed": 0, "index": 0, "way": 5, "shot": 2, "query": 3}
    specs = [
        sample_episode(split, **kind),
        sample_episode(split, **{**kind, "seed": 1}),
        sample_episode(split, **{**kind, "index": 1}),
        sample_episode(other_split, **kind),
        sample_episode(both, **kind, subset="val"),
        sample_episode(both, **kind, subset="novel"),
    ]
    contents = {(spec.classes, spec.support, spec.query) for spec in specs}
    assert len(contents) == len(specs)


def test_more_ways_only_add_classes() -> None:
    split = make_split()
    few, many = (sample_episode(split, seed=0, index=5, way=w, shot=1, query=2) for w in (3, 6))
    assert many.classes[:3] == few.classes
    assert many.query[:3] == few.query


def test_spec_lists_its_clips_and_is_plain_data() -> None:
    spec = Episode(3, ("a", "b"), (("a/1",), ("b/1",)), (("a/2", "a/3"), ("b/2", "b/3")))
    assert spec.clip_names() == ("a/1", "b/1", "a/2", "a/3", "b/2", "b/3")
    assert spec.to_dict() == {
        "index": 3,
        "classes": ["a", "b"],
        "support": [["a/1"], ["b/1"]],
        "query": [["a/2", "a/3"], ["b/2", "b/3"]],
    }
    assert len(spec.digest) == 16
    assert len({spec, pickle.loads(pickle.dumps(spec))}) == 1  # noqa: S301 - our own bytes
    assert "a/1" in repr(spec)
    with pytest.raises(AttributeError):
        spec.index = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"way": 0}, "way: got 0; expected a whole number from 1"),
        ({"shot": -1}, "shot: got -1"),
        ({"query": 0}, "query: got 0"),
        ({"seed": -1}, "seed: got -1; expected a whole number from 0"),
        ({"index": -1}, "index: got -1"),
        ({"index": True}, "index: got True"),
        ({"shot": 1.0}, "shot: got 1.0"),
        (
            {"way": 9},
            "way: got 9; expected at most 8, the number of classes of 'novel' of split 'sample' "
            "(--way 8)",
        ),
        ({"shot": 8}, "shot 8 and query 3 need 11 clips in every class; in 'novel' of split 's"),
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, Any], words: str) -> None:
    kind: dict[str, Any] = {"seed": 0, "index": 0, "way": 5, "shot": 2, "query": 3}
    with pytest.raises(EpisodeError) as caught:
        sample_episode(make_split(), **{**kind, **change})
    assert words in str(caught.value)


def test_every_class_that_is_too_small_is_named() -> None:
    sizes = {"few": 3, "many": 9, "one": 1}
    novel = {c: tuple(Clip(f"{c}/{i}") for i in range(n)) for c, n in sizes.items()}
    base = {f"b{c}": (Clip(f"b{c}"),) for c in range(3)}
    split = Split(name="s", subsets={"novel": novel, "base": base})
    with pytest.raises(EpisodeError) as caught:
        EpisodeSampler(split, seed=0, way=2, shot=2, query=2)
    message = str(caught.value)
    assert "shot 2 and query 2 need 4 clips" in message
    assert "few has 3, one has 1" in message
    assert "many" not in message
    assert "another subset (base)" in message


def test_unknown_subset_names_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown subset 'test'.*known: novel"):
        EpisodeSampler(make_split(), seed=0, way=2, shot=2, query=2, subset="test")
