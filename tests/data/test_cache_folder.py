"""What is in the cache folder: the files that the package wrote, and no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fewshot_i2v.data import cache_folder
from fewshot_i2v.data.cache_folder import CacheGroup, group_files, list_cache
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic.generate import write_missing_clips
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.reader import DecodeOptions

NOT_OURS = (
    "notes.txt",
    "clips/mine.npy",
    "clips/ab/mine.npy",
    f"clips/abc/{'0' * 64}.npy",
    f"clips/ab/{'0' * 64}.npy.old",
    "generated/mine/grows/grows-000.mp4",
    "generated/0123456789abcdef/grows/shrinks-000.mp4",
    "checks/mine.json",
)


def filled_cache(folder: Path, n_clips: int = 2) -> list[Path]:
    """Fill a cache folder as an evaluation of `motions` does, with files of others beside."""
    split = load_split("motions")
    assert split.generator is not None
    clips = folder / "generated" / split.digest[:16]
    names = [f"grows/grows-{number:03d}.mp4" for number in range(n_clips)]
    write_missing_clips(split.generator, names, clips)
    paths = [clips / name for name in names]
    for frames in (4, 8):
        store = ClipCache(folder / "clips", DecodeOptions(frames=frames, size=16), workers=0)
        assert store.prepare(paths) == {}
    (folder / "checks").mkdir()
    (folder / "checks" / f"{'1' * 64}.json").write_text("{}")
    for name in NOT_OURS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return paths


def test_the_shipped_splits_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled_cache(tmp_path)
    files = list_cache(tmp_path)
    first = group_files(files)
    monkeypatch.setattr(cache_folder, "load_split", lambda name: pytest.fail(f"{name} is read"))
    assert group_files(files) == first
    assert "of split motions" in {group.label for group in first}


def test_files_are_listed_by_kind_and_others_left_out(tmp_path: Path) -> None:
    assert list_cache(tmp_path / "absent") == []
    clips = filled_cache(tmp_path)
    files = list_cache(tmp_path)
    listed = {file.path.relative_to(tmp_path).as_posix() for file in files}
    assert not listed & set(NOT_OURS)
    kinds = [file.kind for file in files if file.path.name != "digests.txt"]
    assert [kinds.count(k) for k in ("decoded", "generated", "checks")] == [4, 2, 1]
    assert {file.path for file in files if file.kind == "generated"} == set(clips)
    assert all(file.size == file.path.stat().st_size for file in files)


def test_links_are_not_followed_to_files_of_others(tmp_path: Path) -> None:
    filled_cache(tmp_path)
    files = list_cache(tmp_path)
    entry = next(file.path for file in files if file.key)
    entry.unlink()
    entry.symlink_to(tmp_path / "notes.txt")
    assert len(list_cache(tmp_path)) == len(files) - 1


def test_groups_say_what_the_files_are(tmp_path: Path) -> None:
    (generated, _) = filled_cache(tmp_path)
    entry = next(file.path for file in list_cache(tmp_path) if file.key)
    entry.rename(entry.with_suffix(".damaged"))
    os.utime(generated, (1e9, 1e9))
    groups = {(group.kind, group.label): group for group in group_files(list_cache(tmp_path))}
    labels = {label for kind, label in groups if kind == "decoded"}
    assert labels - {"digests of files"} == {
        "4 frames of 16 pixels",
        "8 frames of 16 pixels",
        "damaged, moved aside",
    }
    motions = groups["generated", "of split motions"]
    assert motions.files == 2
    assert motions.size == sum(path.stat().st_size for path in generated.parent.iterdir())
    # the folder of a split counts as used with each of its clips
    assert motions.last_used > 1.5e9
    assert groups["checks", "of episodes check"] == CacheGroup(
        "checks", "of episodes check", 1, 2, groups["checks", "of episodes check"].last_used
    )
