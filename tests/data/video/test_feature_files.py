"""Features on disk: what is read is what was written, or is noticed, said and computed again."""

from __future__ import annotations

import errno
import multiprocessing
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from fewshot_i2v.data.cache_folder import clear_files, group_files, list_cache
from fewshot_i2v.data.video import feature_files
from fewshot_i2v.data.video.clip_cache import ClipCache, DamagedEntryError
from fewshot_i2v.data.video.feature_files import FeatureEntry, FeatureFiles, FeatureLayout
from fewshot_i2v.data.video.reader import DecodeOptions
from tests.data.video.made_videos import write_video

LAYOUT = FeatureLayout(("prefix 1", "encoder"), "F32", (2, 3, 4))
VALUES = np.arange(24, dtype="<f4").tobytes()
CLIP_KEY = "0" * 64


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", "mpeg4", 5)


def _cache(folder: Path, max_bytes: int | None = None) -> ClipCache:
    options = DecodeOptions(frames=2, size=16)
    return ClipCache(folder / "clips", options, workers=0, max_bytes=max_bytes)


def _files(folder: Path, said: list[str], max_bytes: int | None = None) -> FeatureFiles:
    return FeatureFiles(_cache(folder, max_bytes), said.append)


def test_an_entry_is_a_safetensors_file(tmp_path: Path) -> None:
    entry = FeatureEntry(tmp_path, CLIP_KEY, LAYOUT)
    entry.write(VALUES, tmp_path / ".x.tmp")
    assert entry.path.stat().st_size == entry.size
    assert entry.read() == VALUES
    with safe_open(entry.path, framework="np") as file:
        assert file.get_tensor("features").tolist() == np.arange(24.0).reshape(2, 3, 4).tolist()
    assert [path.name for path in tmp_path.iterdir()] == [entry.key[:2]]


@pytest.mark.parametrize(
    ("clip_key", "layout", "order"),
    [
        ("1" * 64, LAYOUT, ""),
        (CLIP_KEY, LAYOUT, "[1, 0]"),
        (CLIP_KEY, LAYOUT._replace(computation=("prefix 2", "encoder")), ""),
        (CLIP_KEY, LAYOUT._replace(computation=("prefix 1", "other")), ""),
        (CLIP_KEY, LAYOUT._replace(dtype="BF16"), ""),
        (CLIP_KEY, LAYOUT._replace(shape=(2, 4, 3)), ""),
    ],
)
def test_every_part_of_a_key_changes_the_entry(
    tmp_path: Path, clip_key: str, layout: FeatureLayout, order: str
) -> None:
    entry = FeatureEntry(tmp_path, CLIP_KEY, LAYOUT)
    assert entry.path != FeatureEntry(tmp_path, clip_key, layout, order).path
    assert entry.path == FeatureEntry(tmp_path, CLIP_KEY, LAYOUT, "").path


def _cut(data: bytearray) -> bytearray:
    return data[:-1]


def _flip(position: int) -> Callable[[bytearray], bytearray]:
    def _flipped(data: bytearray) -> bytearray:
        data[position] ^= 1
        return data

    return _flipped


def _other_shape(data: bytearray) -> bytearray:
    assert data.count(b"[2,3,4]") == 1
    return data.replace(b"[2,3,4]", b"[3,2,4]")


def _huge_header(data: bytearray) -> bytearray:
    return bytearray(struct.pack("<Q", 1 << 62)) + data[8:]


DAMAGES = [_cut, _other_shape, _huge_header, *map(_flip, (0, 9, 40, 100, 180, -96, -1))]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_said_and_moved_aside(
    tmp_path: Path, clip: Path, damage: Callable[[bytearray], bytearray]
) -> None:
    said: list[str] = []
    files = _files(tmp_path, said)
    entry = files.entry(clip, LAYOUT)
    files.write(entry, VALUES)
    entry.path.chmod(0o644)
    entry.path.write_bytes(damage(bytearray(entry.path.read_bytes())))
    with pytest.raises(DamagedEntryError):
        entry.read()
    assert files.read(entry) is None
    assert files.n_repaired == 1
    assert len(said) == 1
    assert "computed again" in said[0]
    assert str(entry.path) in said[0]
    assert [file.kind for file in list_cache(tmp_path) if file.key] == ["features"]
    files.write(entry, VALUES)
    assert files.read(entry) == VALUES


def test_an_entry_of_another_clip_is_not_taken(tmp_path: Path) -> None:
    mine, other = (FeatureEntry(tmp_path, key * 64, LAYOUT) for key in "01")
    other.write(VALUES, tmp_path / ".x.tmp")
    mine.path.parent.mkdir(exist_ok=True)
    other.path.rename(mine.path)
    with pytest.raises(DamagedEntryError):
        mine.read()


def test_clips_are_found_by_their_content(tmp_path: Path, clip: Path) -> None:
    files = _files(tmp_path, [])
    absent = tmp_path / "absent.mp4"
    assert files.find([clip, absent], LAYOUT, ["", ""]) == [False, False]
    files.write(files.entry(clip, LAYOUT), VALUES)
    os.utime(clip, ns=(1, 1))  # what is known of the file is outdated, its content is not
    os.utime(clip, ns=(10**18, 10**18))
    assert files.read(files.entry(clip, LAYOUT)) == VALUES
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    assert files.read(files.entry(copy, LAYOUT)) == VALUES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_nothing_is_said_once(
    tmp_path: Path, clip: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    files, tried = _files(tmp_path, said), []

    def _refuse(path: Path, *_: object, **__: object) -> None:
        tried.append(path)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(feature_files, "write_shared", _refuse)
    entry = files.entry(clip, LAYOUT)
    for _ in range(3):
        files.write(entry, VALUES)
        assert files.read(entry) is None
    assert len(tried) == 1
    assert len(said) == 1
    assert os.strerror(number) in said[0]
    assert "the run goes on" in said[0]


def _folder(path: Path) -> None:
    path.mkdir(parents=True)


def _folder_with_a_file(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "notes.txt").write_text("mine")


def _file_as_parent(path: Path) -> None:
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_text("mine")


def _pipe(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


def _link_to_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(path.with_name("nothing"))


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes, and links need rights")
@pytest.mark.parametrize(
    "block", [_folder, _folder_with_a_file, _file_as_parent, _pipe, _link_to_nothing]
)
def test_what_is_in_the_place_of_an_entry_stops_no_other(
    tmp_path: Path, clip: Path, block: Callable[[Path], None]
) -> None:
    said: list[str] = []
    files = _files(tmp_path, said)
    blocked = files.entry(clip, LAYOUT)
    others = (files.entry(clip, LAYOUT._replace(computation=(str(n),))) for n in range(300))
    other = next(entry for entry in others if entry.path.parent != blocked.path.parent)
    block(blocked.path)
    assert files.find([clip], LAYOUT, [""]) == [False]
    for entry in (blocked, other):
        assert files.read(entry) is None
        files.write(entry, VALUES)
    assert files.read(other) == VALUES
    if block is _file_as_parent:
        assert blocked.path.parent.read_text() == "mine"
        assert [line for line in said if "cannot be written" in line] == [
            f"note: features cannot be written to {blocked.path}: {blocked.path.parent} is a file; "
            "delete it, and later runs read these features again"
        ]
    else:
        assert files.read(blocked) == VALUES
    if block is _folder_with_a_file:
        aside = blocked.path.with_name(f"{blocked.path.name}.damaged")
        assert (aside / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_moved_aside_is_said_once(tmp_path: Path, clip: Path) -> None:
    said: list[str] = []
    files = _files(tmp_path, said)
    entry = files.entry(clip, LAYOUT)
    for path in (entry.path, entry.path.with_name(f"{entry.path.name}.damaged")):
        _folder_with_a_file(path)
    for _ in range(2):
        assert files.read(entry) is None
        files.write(entry, VALUES)
    other = files.entry(clip, LAYOUT._replace(computation=("other",)))
    files.write(other, VALUES)
    assert files.read(other) == VALUES
    lines = [line for line in said if "cannot be written" in line]
    assert len(lines) == 1
    assert f"{entry.path} is a folder" in lines[0]


def test_what_a_killed_process_left_goes(tmp_path: Path, clip: Path) -> None:
    cache = _cache(tmp_path)
    cache.folder.mkdir(parents=True)
    left = cache.folder / ".0123.tmp"
    left.write_bytes(VALUES)
    cache.prepare([clip])
    assert not left.exists()


def test_old_features_go_first_and_those_in_use_stay(tmp_path: Path, clip: Path) -> None:
    """Features and decoded clips share the limit; the oldest go, whatever they are."""
    time.sleep(0.2)  # of a file that was just written, no digest is stored
    _cache(tmp_path).prepare([clip])
    layouts = [LAYOUT._replace(computation=(str(n),)) for n in range(4)]
    for age, layout in enumerate(layouts):
        files = _files(tmp_path, [])
        entry = files.entry(clip, layout)
        files.write(entry, VALUES)
        os.utime(entry.path, (1e9 - age, 1e9 - age))
        del files
    used = _files(tmp_path, [])
    assert used.find([clip], layouts[3], [""]) == [True]
    sizes = {file.key: file.size for file in list_cache(tmp_path) if file.key}
    limit = sum(sizes.values()) - 1
    files = _files(tmp_path, [], max_bytes=limit)
    files.write(files.entry(clip, LAYOUT), VALUES)
    kept = [used.find([clip], layout, [""]) for layout in layouts]
    assert kept[3] == [True]
    assert kept[2] == [False]
    assert sum(file.size for file in list_cache(tmp_path) if file.key) <= limit


def test_features_are_listed_and_cleared(tmp_path: Path, clip: Path) -> None:
    files = _files(tmp_path, [])
    files.write(files.entry(clip, LAYOUT), VALUES)
    listed = [file for file in list_cache(tmp_path) if file.kind == "features"]
    (group,) = group_files(listed)
    assert (group.label, group.files) == ("2 frames of 3 x 4 values", 1)
    assert clear_files(tmp_path, listed).in_use == 1
    del files
    assert clear_files(tmp_path, listed).files == 1
    assert not [file for file in list_cache(tmp_path) if file.kind == "features"]


def _write_often(folder: Path, clip: Path) -> None:
    files = _files(folder, [])
    for number in range(60):
        layout = LAYOUT._replace(computation=(str(number),))
        entry = files.entry(clip, layout)
        files.write(entry, VALUES)
        data = files.read(entry)
        assert data == VALUES


def test_two_processes_fill_one_cache(tmp_path: Path, clip: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_write_often, args=(tmp_path, clip)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    files = _files(tmp_path, [])
    for number in range(60):
        entry = files.entry(clip, LAYOUT._replace(computation=(str(number),)))
        assert files.read(entry) == VALUES
    assert files.n_repaired == 0
