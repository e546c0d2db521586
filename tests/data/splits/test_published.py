"""The published lists that come with the package: their counts, texts, draws and trials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median_high

import pytest

from fewshot_i2v.data.episodes.episode_file import EpisodeFile, read_episode_file
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.resources import data_folder
from tests.data.splits.published import NAMES, names, published, youtube

COUNTS = {
    "hmdb51-arn": {
        "base": (31, 4280, 102, 116, 548),
        "val": (10, 1194, 102, 127, 143),
        "novel": (10, 1292, 103, 120, 232),
    },
    "ucf101-arn": {
        "base": (70, 9154, 100, 131, 164),
        "val": (10, 1421, 114, 150, 167),
        "novel": (21, 2745, 109, 126, 166),
    },
    "kinetics100-cmn": {
        "base": (64, 6400, 100, 100, 100),
        "val": (12, 1200, 100, 100, 100),
        "novel": (24, 2400, 100, 100, 100),
    },
    "kinetics100-clip-fsar": {
        "base": (64, 6400, 100, 100, 100),
        "val": (12, 1200, 100, 100, 100),
        "novel": (24, 2400, 100, 100, 100),
    },
    "ssv2-small-cmn": {
        "base": (64, 6400, 100, 100, 100),
        "val": (12, 1200, 100, 100, 100),
        "novel": (24, 2400, 100, 100, 100),
    },
    "ssv2-full-otam": {
        "base": (64, 67013, 156, 908, 3170),
        "val": (12, 1926, 56, 121, 360),
        "novel": (24, 2857, 17, 103, 272),
    },
    "ssv2-full-otam-77k": {
        "base": (64, 77500, 174, 1071, 3529),
        "val": (12, 1926, 56, 121, 360),
        "novel": (24, 2857, 17, 103, 272),
    },
    "hmdb51-kshot": {"train": (51, 2479, 44, 49, 54), "test": (51, 1530, 30, 30, 30)},
    "ucf101-kshot": {"train": (101, 9537, 72, 93, 121), "test": (101, 3783, 28, 37, 49)},
    "ssv2-kshot": {"train": (174, 5136, 24, 30, 30), "test": (174, 24777, 15, 115, 530)},
}
"""Classes and clips; fewest, upper median and most clips of a class."""
DIGESTS = {
    "hmdb51-arn": "fa3f16d628c13c9f9b3c483c6f2935348dec9c52a5f1c132c9c26fe736c1d5de",
    "ucf101-arn": "fedf75acc8c577708cc073d809d517b1d758facd8af1db96ae5fb58ef7147170",
    "kinetics100-cmn": "71e901577b2e00b39ea7687fd99d274ced8e52ee789b23a32ee90673e6f3f628",
    "kinetics100-clip-fsar": "149427ae6e457002d38efb03770393c558b64c53a2672b1bad56cfe28233893d",
    "ssv2-small-cmn": "e06e773ff51218df2c5bd7a440ffe1a167fdd0802e757b1c4de1e7fadf00ee55",
    "ssv2-full-otam": "8d50680c5eed2bd6b9ad2910e04c7ef4566224f2b13afa8bf050e84424f3e9fd",
    "ssv2-full-otam-77k": "286aedfc5e725d2716e4301673f3168cc2b004cacfe5c420c976099d1f5adba0",
    "hmdb51-kshot": "16cb16c6266571e51dc03c022794d841ed8b1a7ce7b437c0a73eac789ec237a6",
    "ucf101-kshot": "69d6710e6ff2c013143eaeab9723a397e83e0aebcfb060858f8a3ae19711fa06",
    "ssv2-kshot": "603ac18689f04c5c6c986cf05e9bc8d8cc9c7040c2db3854da1e872da43761c9",
}
FIND = {"hmdb51": "name", "ucf101": "name", "ssv2": "name", "kinetics100": "youtube"}


@pytest.fixture(scope="module")
def splits() -> Mapping[str, Split]:
    """All published splits, by name."""
    return published()


@pytest.fixture(scope="module")
def trials() -> Mapping[str, EpisodeFile]:
    """The fixed trials by data set."""
    folder = data_folder("episodes") / "trials"
    return {
        data: read_episode_file(folder / f"{data}-a5.jsonl.gz") for data in ("hmdb51", "ucf101")
    }


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_digest(splits: Mapping[str, Split], name: str) -> None:
    split = splits[name]
    assert list(split.subsets) == list(COUNTS[name])
    for subset, expected in COUNTS[name].items():
        sizes = [len(split.clips(subset, c)) for c in split.classes(subset)]
        found = (len(sizes), sum(sizes), min(sizes), median_high(sizes), max(sizes))
        assert found == expected, subset
    assert split.digest == DIGESTS[name]
    assert split.path is not None
    assert f"\ndigest: {split.digest}\n" in split.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_no_clip_is_there_twice_and_no_class_in_two_subsets(
    splits: Mapping[str, Split], name: str
) -> None:
    split = splits[name]
    assert len(names(split)) == sum(total for _, total, *_ in COUNTS[name].values())
    if split.find == "youtube":
        assert len(youtube(names(split))) == 10_000
    if "train" in split.subsets:
        assert split.classes("train") == split.classes("test")
    else:
        classes = [c for s in split.subsets for c in split.classes(s)]
        assert len(set(classes)) == len(classes)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(splits: Mapping[str, Split], name: str) -> None:
    split = splits[name]
    assert split.name == name
    assert re.search(
        r"github\.com/\S+ at [0-9a-f]{40}, .*(ECCV|CVPR|IJCV|TPAMI) 20\d\d", split.source
    )
    assert split.licence
    assert split.description.endswith(".")
    assert len(split.description) < 85, "one line of the file and of a list"
    assert split.defects
    assert split.find == FIND[name.split("-")[0]]
    assert split.root is None
    classes = {c for s in split.subsets for c in split.classes(s)}
    assert not [c for c in classes if "_" in c or re.search("[a-z][A-Z]", c)]
    stems = [clip.rpartition("/")[2] for clip in names(split)]
    assert not [stem for stem in stems if re.search(r"\.(avi|mp4|mkv|webm)$", stem)]
    assert len(set(stems)) == len(stems), "a stem alone says which clip it is"


def test_files_are_small() -> None:
    files = [path for path in data_folder("episodes").rglob("*") if path.is_file()]
    assert {p.stem for p in files} >= set(COUNTS)
    assert max(path.stat().st_size for path in files) < 700_000
    assert sum(path.stat().st_size for path in files) < 5_000_000


def test_ids_are_those_of_the_lists(splits: Mapping[str, Split]) -> None:
    full = splits["ssv2-full-otam"].class_ids
    assert full["Bending something until it breaks"] == "train0"
    assert full["Spilling something behind something"] == "test20"
    assert splits["ssv2-full-otam-77k"].class_ids == full
    replaced = splits["kinetics100-clip-fsar"].class_ids
    assert len(set(replaced.values())) == 100
    rows = splits["ssv2-kshot"]
    assert [rows.class_ids[c] for c in rows.classes("test")] == [
        str(i) for i in sorted(range(174), key=lambda i: rows.classes("test")[i])
    ]
    # the table of names that comes with these lists has both pairs the other way round
    hmdb = splits["hmdb51-kshot"].class_ids
    assert [hmdb[c] for c in ("kick", "kick ball", "sword", "sword exercise")] == [
        *("20", "21", "44", "45")
    ]


class TestDraws:
    """Published choices of K clips of each class."""

    @pytest.mark.parametrize(
        ("name", "sets"),
        [
            ("hmdb51-kshot", {"vificlip": [2, 4, 8, 16], "a5": [5] * 10}),
            ("ucf101-kshot", {"vificlip": [2, 4, 8, 16], "a5": [5] * 10}),
            ("ssv2-kshot", {"vificlip": [2, 4, 8, 16]}),
        ],
    )
    def test_each_has_as_many_train_clips_of_every_class(
        self, splits: Mapping[str, Split], name: str, sets: dict[str, list[int]]
    ) -> None:
        split = splits[name]
        assert {key: [draw.shot for draw in draws] for key, draws in split.draws.items()} == sets
        train = {c: {clip.name for clip in split.clips("train", c)} for c in split.classes("train")}
        for draw in (draw for draws in split.draws.values() for draw in draws):
            assert set(draw.clips) == set(train)
            for label, clips in draw.clips.items():
                assert len(set(clips)) == len(clips) == draw.shot
                assert set(clips) <= train[label]

    @pytest.mark.parametrize(
        ("name", "common"),
        [("hmdb51-kshot", 7), ("ucf101-kshot", 11), ("ssv2-kshot", 0)],
    )
    def test_they_are_not_nested(self, splits: Mapping[str, Split], name: str, common: int) -> None:
        two, four = (
            {clip for clips in draw.clips.values() for clip in clips}
            for draw in splits[name].draws["vificlip"][:2]
        )
        assert len(two & four) == common

    @pytest.mark.parametrize("name", ["hmdb51-kshot", "ssv2-kshot"])
    def test_train_is_their_union(self, splits: Mapping[str, Split], name: str) -> None:
        draws = (draw for several in splits[name].draws.values() for draw in several)
        drawn = {clip for draw in draws for clips in draw.clips.values() for clip in clips}
        assert drawn == names(splits[name], "train")


@pytest.mark.parametrize(("data", "fewest", "most"), [("hmdb51", 95, 95), ("ucf101", 104, 161)])
def test_fixed_trials(
    splits: Mapping[str, Split],
    trials: Mapping[str, EpisodeFile],
    data: str,
    fewest: int,
    most: int,
) -> None:
    split, frozen = splits[f"{data}-arn"], trials[data]
    frozen.check_split(split)
    assert (frozen.split_name, frozen.subset, frozen.count) == (split.name, "novel", 200)
    assert "github.com/ju-chen" in frozen.settings["source"]
    known = {n: {c.name for c in split.clips("novel", n)} for n in split.classes("novel")}
    sizes, used = set(), set()
    for spec in frozen.episodes:
        assert len(set(spec.classes)) == 5
        for name, support, query in zip(spec.classes, spec.support, spec.query, strict=True):
            assert len(set(support)) == len(support) == 5
            assert len(set(query)) == len(query)
            assert not set(support) & set(query)
            assert {*support, *query} <= known[name]
            if data == "ucf101":
                assert {*support, *query} == known[name]
            sizes.add(len(query))
            used |= {*support, *query}
    assert (min(sizes), max(sizes)) == (fewest, most)
    assert {name for spec in frozen.episodes for name in spec.classes} == set(known)
    assert len({spec.support for spec in frozen.episodes}) == 200
    if data == "hmdb51":
        assert len(used) == 1000
        assert names(splits["hmdb51-kshot"]) & set().union(*known.values()) <= used


def test_the_digest_of_a_list_guards_it(tmp_path: Path, splits: Mapping[str, Split]) -> None:
    path = splits["ssv2-small-cmn"].path
    assert path is not None
    text = path.read_text(encoding="utf-8")
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace("88644", "88645"), encoding="utf-8")
    with pytest.raises(SplitError, match="digest: got"):
        load_split(changed)
