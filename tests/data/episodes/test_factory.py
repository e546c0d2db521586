"""Ranges of ways and shots, uneven shots, whole classes, train and test, published draws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fewshot_i2v.data.episodes.factory import find_episode_file, make_sampler
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split import Clip, Draw, Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError

CLASSES = [f"class {c}" for c in range(6)]
NOVEL = Split(
    name="novel",
    subsets={
        "novel": {
            name: tuple(Clip(f"{name}/{i:02d}") for i in range(8 + c))
            for c, name in enumerate(CLASSES)
        }
    },
)
TRAIN = {name: tuple(Clip(f"{name}/t{i}") for i in range(5)) for name in CLASSES}
ALL_WAY = Split(
    name="all-way",
    subsets={
        "train": TRAIN,
        "test": {
            name: tuple(Clip(f"{name}/q{i}") for i in range(3 + c))
            for c, name in enumerate(CLASSES)
        },
    },
    draws={
        "paper": (
            Draw(1, {name: (f"{name}/t0",) for name in CLASSES}),
            Draw(2, {name: (f"{name}/t3", f"{name}/t1") for name in CLASSES}),
            Draw(2, {name: (f"{name}/t2", f"{name}/t4") for name in CLASSES}),
        )
    },
)
FIXED = {"seed": 3, "way": 4, "shot": 3, "query": 2}


def test_ranges_give_every_number_of_classes_and_shots_about_as_often() -> None:
    sampler = EpisodeSampler(NOVEL, seed=0, way="2-5", shot="1-4", query=3)
    specs = [sampler[i] for i in range(400)]
    ways = Counter(len(spec.classes) for spec in specs)
    shots = Counter(len(clips) for spec in specs for clips in spec.support)
    assert sorted(ways) == [2, 3, 4, 5]
    assert min(ways.values()) > 70
    assert sorted(shots) == [1, 2, 3, 4]
    assert min(shots.values()) > 0.18 * shots.total()
    assert all(len({len(clips) for clips in spec.support}) == 1 for spec in specs)
    assert all(len(clips) == 3 for spec in specs for clips in spec.query)


def test_an_episode_with_ranges_is_part_of_the_fixed_ones() -> None:
    ranged = EpisodeSampler(NOVEL, **FIXED | {"way": "2-6", "shot": "1-5"})  # type: ignore[arg-type]
    for i in range(20):
        spec = ranged[i]
        way, shot = len(spec.classes), len(spec.support[0])
        same = EpisodeSampler(NOVEL, **FIXED | {"way": way, "shot": shot})[i]  # type: ignore[arg-type]
        assert spec == same


def test_uneven_shots_differ_within_an_episode() -> None:
    sampler = EpisodeSampler(NOVEL, seed=1, way=5, shot="1-4", query=2, uneven_shots=True)
    plain = EpisodeSampler(NOVEL, seed=1, way=5, shot=4, query=2)
    numbers: Counter[int] = Counter()
    for i in range(100):
        spec, most = sampler[i], plain[i]
        assert (spec.classes, spec.query) == (most.classes, most.query)
        for few, many in zip(spec.support, most.support, strict=True):
            numbers[len(few)] += 1
            assert few == many[: len(few)]
    assert sorted(numbers) == [1, 2, 3, 4]
    assert min(numbers.values()) > 90
    assert any(len({len(clips) for clips in sampler[i].support}) > 1 for i in range(10))


def test_all_queries_are_the_clips_that_are_not_support() -> None:
    sampler = EpisodeSampler(NOVEL, seed=0, way="all", shot=3, query="all")
    spec = sampler[0]
    assert sorted(spec.classes) == CLASSES
    for name, support, query in zip(spec.classes, spec.support, spec.query, strict=True):
        assert len(support) == 3
        every = {clip.name for clip in NOVEL.clips("novel", name)}
        assert set(support) | set(query) == every
        assert len(support) + len(query) == len(every)


def test_shots_are_nested_where_all_others_are_asked() -> None:
    few, many = (EpisodeSampler(NOVEL, seed=0, way=3, shot=k, query="all") for k in (2, 4))
    for i in range(5):
        pairs = zip(few[i].support, many[i].support, strict=True)
        assert all(more[:2] == less for less, more in pairs)


def test_support_comes_from_train_and_queries_from_test() -> None:
    sampler = EpisodeSampler(ALL_WAY, subset="test", seed=0, way="all", shot=2, query="all")
    spec = sampler[0]
    for name, support, query in zip(spec.classes, spec.support, spec.query, strict=True):
        assert len(support) == 2
        assert {clip.split("/")[1][0] for clip in support} == {"t"}
        assert set(query) == {clip.name for clip in ALL_WAY.clips("test", name)}
    nested = EpisodeSampler(ALL_WAY, subset="test", seed=0, way="all", shot=4, query="all")[0]
    assert all(b[:2] == a for a, b in zip(spec.support, nested.support, strict=True))
    assert sampler[1].support != spec.support
    few = EpisodeSampler(ALL_WAY, subset="test", seed=0, way=2, shot=1, query=2)[0]
    assert [len(clips) for clips in few.query] == [2, 2]


def test_published_draws_are_taken_as_they_are() -> None:
    sampler = EpisodeSampler(
        ALL_WAY, subset="test", seed=0, way="all", shot=2, query="all", draws="paper"
    )
    assert sampler.count == 2
    given = dict(zip(sampler[1].classes, sampler[1].support, strict=True))
    assert given == {name: (f"{name}/t2", f"{name}/t4") for name in CLASSES}
    assert sampler[0].query == sampler[1].query or sampler[0].classes != sampler[1].classes
    with pytest.raises(EpisodeError, match="episode 2: there are 2, from 0"):
        sampler[2]


@pytest.mark.parametrize(
    ("split", "asked", "message"),
    [
        (NOVEL, {"way": "2-9"}, "way: got 9; expected at most 6, the number"),
        (NOVEL, {"way": "many"}, "way: got 'many'; expected a whole number from 1, a range"),
        (NOVEL, {"way": "5-2"}, "way: got '5-2'; expected a range from 1, the smaller one first"),
        (NOVEL, {"shot": "all"}, "shot: got 'all'; expected a whole number from 1, a range such"),
        (NOVEL, {"query": "1-2"}, "query: got '1-2'; expected a whole number from 1, or all"),
        (NOVEL, {"shot": "1-7"}, "shot 7 and query 2 need 9 clips in every class; in 'novel'"),
        (NOVEL, {"shot": 8, "query": "all"}, "shot 8 and query 1 need 9 clips in every class"),
        (NOVEL, {"uneven_shots": True}, "uneven_shots: expected a range of shots such as 1-5; got"),
        (NOVEL, {"partitions": 2}, "partitions: they are of disjoint episodes"),
        (NOVEL, {"query": "all", "disjoint_groups": True}, "disjoint_groups: expected fixed"),
        (ALL_WAY, {"subset": "test", "shot": 6}, "shot 6 needs 6 clips in every class; in 'train'"),
        (
            ALL_WAY,
            {"subset": "test", "query": 4},
            "query 4 needs 4 clips in every class; in 'test'",
        ),
        (ALL_WAY, {"subset": "train", "draws": "paper"}, "draws: they are clips of train; got"),
        (
            ALL_WAY,
            {"subset": "test", "draws": "paper"},
            "'paper' of split 'all-way' has 1, 2",
        ),
        (ALL_WAY, {"subset": "test", "sampling": "disjoint"}, "disjoint: expected one subset"),
        (NOVEL, {"sampling": "disjoint", "shot": "1-2"}, "shot: disjoint episodes are all alike"),
        (NOVEL, {"sampling": "disjoint", "query": "all"}, "query: disjoint episodes are all alike"),
        (NOVEL, {"sampling": "disjoint", "disjoint_groups": True}, "disjoint_groups: not together"),
    ],
)
def test_what_cannot_be_is_named(split: Split, asked: dict[str, object], message: str) -> None:
    with pytest.raises(EpisodeError) as caught:
        make_sampler(split, **FIXED | asked)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_unknown_draws_and_trials_are_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown draws 'papers'"):
        make_sampler(ALL_WAY, **FIXED | {"subset": "test", "draws": "papers"})  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown trials 'hmdb51-a6'"):
        find_episode_file("hmdb51-a6")
    assert find_episode_file("hmdb51-a5").is_file()


@pytest.mark.parametrize("name", ["mine", "e.jsonl", "e.txt", "hmdb51-a5", "below/mine"])
def test_a_file_that_is_there_is_taken_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shipped = find_episode_file("hmdb51-a5")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / name).write_text("")
    for given in (name, Path(name), str(tmp_path / name)):
        assert find_episode_file(given) == Path(given)
        assert find_episode_file(given) != shipped
    (tmp_path / name).unlink()
    (tmp_path / "hmdb51-a5").mkdir()
    assert find_episode_file("hmdb51-a5") == shipped


def test_published_draws_with_another_seed_are_the_same_draws() -> None:
    asked = {"subset": "test", "way": "all", "shot": 2, "query": "all", "draws": "paper"}
    first, other = (make_sampler(ALL_WAY, seed=seed, **asked) for seed in (0, 1))  # type: ignore[arg-type]
    assert first.count == other.count == 2
    for i in range(2):
        given, same = (dict(zip(e[i].classes, e[i].support, strict=True)) for e in (first, other))
        assert given == same
    few = [make_sampler(ALL_WAY, seed=s, **asked | {"query": 1})[0] for s in (0, 1)]  # type: ignore[arg-type]
    assert {n for row in few[0].query for n in row} != {n for row in few[1].query for n in row}


@pytest.mark.parametrize(
    ("split", "asked", "largest"),
    [
        (NOVEL, {"way": "2-4", "shot": "1-3"}, (4, 12, 8)),
        (NOVEL, {"way": "2-4", "shot": "1-3", "uneven_shots": True}, (4, 12, 8)),
        (NOVEL, {"way": 2, "shot": "1-3", "query": "all"}, (2, 6, 23)),
        (NOVEL, {"way": "all", "shot": 1, "query": "all"}, (6, 6, 57)),
        (NOVEL, {"sampling": "disjoint"}, (4, 12, 8)),
        (NOVEL, {"sampling": "disjoint", "way": "all", "partitions": 3}, (6, 18, 12)),
        (ALL_WAY, {"subset": "test", "way": "2-3", "shot": 2, "query": "all"}, (3, 6, 21)),
        (ALL_WAY, {"subset": "test", "way": 2, "shot": 2, "draws": "paper"}, (2, 4, 4)),
    ],
)
def test_no_episode_is_larger_than_the_largest(
    split: Split, asked: dict[str, object], largest: tuple[int, int, int]
) -> None:
    episodes = make_sampler(split, **FIXED | asked)  # type: ignore[arg-type]
    assert episodes.max_shape == largest
    shapes = [episodes[i].shape for i in range(min(60, episodes.count or 60))]
    reached = tuple(map(max, zip(*shapes, strict=True)))
    assert reached == largest
