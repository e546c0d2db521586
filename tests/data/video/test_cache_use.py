"""A clip cache with a limit: what was not used for longest goes, and nothing that is in use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v.data.video.cache_files import list_entries
from fewshot_i2v.data.video.cache_use import CacheUse, removal, shrink_cache
from fewshot_i2v.data.video.clip_cache import CacheEntry, ClipCache, ClipCacheError
from fewshot_i2v.data.video.reader import DecodeOptions, decode
from tests.data.video.made_videos import write_video

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = DecodeOptions(frames=4, size=16)
ENTRY_BYTES = CacheEntry(Path(), "", OPTIONS).size


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{n}.mp4", "mpeg4", 5 + n) for n in range(6)]


def _fill(folder: Path, videos: list[Path], limit: int | None = None) -> ClipCache:
    store = ClipCache(folder, OPTIONS, workers=0, max_bytes=limit)
    assert store.prepare(videos) == {}
    return store


def _keys(folder: Path) -> set[str]:
    return {entry.key for entry in list_entries(folder)}


def _entry(store: ClipCache, video: Path) -> CacheEntry:
    return CacheEntry(store.folder, store.digest(video), OPTIONS)


def _set_last_used(store: ClipCache, videos: list[Path]) -> None:
    """Let each video be used an hour after the one before it, the first many hours ago."""
    for hours, video in enumerate(videos):
        os.utime(_entry(store, video).path, (1e9 + 3600 * hours,) * 2)


def test_the_least_recently_used_entries_are_removed(tmp_path: Path, videos: list[Path]) -> None:
    store = _fill(tmp_path, videos[:5])
    _set_last_used(store, videos[:5])
    keys = [_entry(store, video).key for video in videos[:5]]
    del store
    # what is used again counts as used now, whatever it was written before
    limited = _fill(tmp_path, [videos[0], videos[5]], limit=4 * ENTRY_BYTES)
    expected = {keys[0], _entry(limited, videos[5]).key, keys[4]}
    assert _keys(tmp_path) >= expected
    assert len(_keys(tmp_path)) * ENTRY_BYTES <= 4 * ENTRY_BYTES
    assert keys[1] not in _keys(tmp_path)
    np.testing.assert_array_equal(limited.get(videos[0]), decode(videos[0], OPTIONS))


def test_a_cache_below_its_limit_loses_nothing(tmp_path: Path, videos: list[Path]) -> None:
    keys = {_entry(_fill(tmp_path, videos[:3]), video).key for video in videos[:3]}
    _fill(tmp_path, videos[3:4], limit=4 * ENTRY_BYTES)
    assert len(_keys(tmp_path)) == 4
    assert keys <= _keys(tmp_path)


def test_files_of_others_do_not_count_and_stay(tmp_path: Path, videos: list[Path]) -> None:
    _fill(tmp_path, videos[:2])
    other = tmp_path / "ab" / "mine.npy"
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(bytes(10 * ENTRY_BYTES))
    assert shrink_cache(tmp_path, 2 * ENTRY_BYTES) == 2 * ENTRY_BYTES
    assert shrink_cache(tmp_path, 0) == 0
    assert other.exists()


def test_damaged_entries_go_first(tmp_path: Path, videos: list[Path]) -> None:
    store = _fill(tmp_path, videos[:2])
    path = _entry(store, videos[1]).path
    path.rename(path.with_suffix(".damaged"))
    assert shrink_cache(tmp_path, ENTRY_BYTES) == ENTRY_BYTES
    assert [entry.is_damaged for entry in list_entries(tmp_path)] == [False]


def test_a_run_that_needs_more_than_the_limit_keeps_its_clips_and_knows(
    tmp_path: Path, videos: list[Path]
) -> None:
    store = _fill(tmp_path, videos, limit=2 * ENTRY_BYTES)
    assert len(_keys(tmp_path)) == 6
    assert store.excess_bytes >= ENTRY_BYTES
    assert _fill(tmp_path, videos[:1]).excess_bytes == 0
    for video in videos:
        np.testing.assert_array_equal(store.get(video), decode(video, OPTIONS))
    assert store.n_decoded == 6


def test_a_use_ends_with_its_object(tmp_path: Path, videos: list[Path]) -> None:
    store = _fill(tmp_path, videos[:2])
    with removal(tmp_path) as keys:
        assert keys == _keys(tmp_path)
    del store
    with removal(tmp_path) as keys:
        assert keys is None
    assert list(tmp_path.glob(".*")) == []


def test_a_use_that_begins_while_entries_are_removed_waits(tmp_path: Path) -> None:
    use = CacheUse(tmp_path)
    with removal(tmp_path) as keys:
        assert keys is None
        user = threading.Thread(target=use.add, args=(["a" * 64],))
        user.start()
        user.join(0.2)
        assert user.is_alive()
        assert use.file is None
    user.join(60)
    with removal(tmp_path) as keys:
        assert keys == {"a" * 64}


def test_a_folder_that_cannot_be_written_to_is_used_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    use = CacheUse(tmp_path / "file" / "clips")
    use.add(["a"])
    assert use.file is None


def test_a_limit_in_a_folder_that_cannot_be_locked(tmp_path: Path, videos: list[Path]) -> None:
    (tmp_path / "use.lock").mkdir()
    store = ClipCache(tmp_path, OPTIONS, workers=0, max_bytes=ENTRY_BYTES)
    with pytest.raises(ClipCacheError, match=r"use\.lock: Is a directory; --cache-limit needs"):
        store.prepare(videos[:1])


_USER = """
import sys
from pathlib import Path
from fewshot_i2v.data.video.clip_cache import ClipCache, DecodeOptions
options, limit = DecodeOptions(frames=4, size=16), int(sys.argv[2])
store = ClipCache(Path(sys.argv[1]), options, workers=1, max_bytes=limit or None)
paths = [Path(path) for path in sys.argv[3:]]
assert store.prepare(paths) == {}
print("ready", flush=True)
sys.stdin.readline()
print(store.n_decoded, sum(int(store.get(path).sum()) for path in paths), store.n_decoded)
"""


def _start_user(folder: Path, videos: list[Path], limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _USER, str(folder), str(limit), *map(str, videos)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def _end(process: subprocess.Popen[str], videos: list[Path]) -> None:
    """Let a process read its clips, and check that it did not have to decode one again."""
    told, _ = process.communicate("go\n", timeout=60)
    before, total, after = map(int, told.split())
    assert total == sum(int(decode(video, OPTIONS).sum()) for video in videos)
    assert before == after


def test_what_a_running_process_uses_stays_and_what_a_killed_one_used_goes(
    tmp_path: Path, videos: list[Path]
) -> None:
    living, killed = (_start_user(tmp_path, part) for part in (videos[:2], videos[2:4]))
    for process in (living, killed):
        _wait_until_ready(process)
    store = ClipCache(tmp_path, OPTIONS, workers=0)
    used = {_entry(store, video).key for video in videos[:2]}
    killed.kill()
    killed.communicate()
    _set_last_used(store, videos[:4])
    # one that the living process uses is the oldest of all
    _fill(tmp_path, videos[4:], limit=3 * ENTRY_BYTES)
    assert used <= _keys(tmp_path)
    # of the others, those that were just decoded and no longer used may stay
    assert not {_entry(store, video).key for video in videos[2:4]} & _keys(tmp_path)
    assert shrink_cache(tmp_path, 0) == 2 * ENTRY_BYTES
    _end(living, videos[:2])
    assert shrink_cache(tmp_path, 0) == 0


def test_several_processes_fill_and_shrink_one_cache(tmp_path: Path, videos: list[Path]) -> None:
    parts = (videos[:3], videos[3:], [*videos[1:3], *videos[4:]])
    processes = [_start_user(tmp_path, part, ENTRY_BYTES) for part in parts]
    while len(list(tmp_path.glob(".*.use.tmp"))) < len(parts):
        assert all(process.poll() is None for process in processes)
        shrink_cache(tmp_path, 0)
    for process in processes:
        _wait_until_ready(process)
    assert shrink_cache(tmp_path, 0) == len(videos) * ENTRY_BYTES
    for process, part in zip(processes, parts, strict=True):
        _end(process, part)
    assert shrink_cache(tmp_path, ENTRY_BYTES) <= ENTRY_BYTES
