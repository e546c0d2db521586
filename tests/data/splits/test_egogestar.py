"""The shipped list of a real data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split_file import load_split

DIGEST = "529759ad5a9d9a6b0f605b0b0dcd1ff74978cf4cfba886c2f2483e659cb27982"


def test_list_is_fixed() -> None:
    split = load_split("egogestar")
    assert split.digest == DIGEST
    assert split.root is None
    assert {s: len(split.classes(s)) for s in split.subsets} == {"base": 5, "novel": 5}
    for subset in split.subsets:
        for name in split.classes(subset):
            clips = split.clips(subset, name)
            assert len({clip.group for clip in clips}) == len(clips) == 14
            assert all(clip.name == f"{name}/testvideo_{name}_{clip.group}.mp4" for clip in clips)


@pytest.mark.parametrize("subset", ["base", "novel"])
@pytest.mark.parametrize("shot", [1, 5])
def test_scenes_can_be_kept_apart(subset: str, shot: int) -> None:
    sampler = EpisodeSampler(
        load_split("egogestar"),
        seed=0,
        way=5,
        shot=shot,
        query=5,
        subset=subset,
        disjoint_groups=True,
    )
    for index in range(200):
        spec = sampler[index]
        support, query = (
            {name.rsplit("_", 1)[1] for row in rows for name in row}
            for rows in (spec.support, spec.query)
        )
        assert not support & query


@pytest.mark.shared
def test_every_clip_is_there(shared: Path) -> None:
    root = shared / "clips" / "egogestar"
    split = load_split("egogestar", root=root)
    assert split.digest == DIGEST
    files = [
        split.clip_path(clip.name)
        for subset in split.subsets
        for name in split.classes(subset)
        for clip in split.clips(subset, name)
    ]
    assert len(files) == 140
    assert [path for path in files if not path.is_file()] == []
