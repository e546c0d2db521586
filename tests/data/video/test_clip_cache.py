"""Decoded clips on disk: once each, whole or not at all, and never another clip's."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v.data.video import clip_cache, clip_digest
from fewshot_i2v.data.video.clip_cache import CacheEntry, ClipCache, ClipCacheError
from fewshot_i2v.data.video.clip_digest import ContentDigests
from fewshot_i2v.data.video.reader import DecodeOptions, decode
from fewshot_i2v.errors import ConfigError, VideoUnreadable
from fewshot_i2v.utils.files import locked_temporary_file
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video.made_videos import write_video

Clips = Callable[[str], Path]

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = DecodeOptions(frames=4, size=16)
NAMES = ("h264.mp4", "packed.avi", "vfr.mkv")


@pytest.fixture
def three(clips: Clips) -> list[Path]:
    return [clips(name) for name in NAMES]


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.npy"))


def entry_of(store: ClipCache, path: Path) -> Path:
    return CacheEntry(store.folder, store.digest(path), OPTIONS).path


def filled(folder: Path, paths: list[Path]) -> ClipCache:
    store = ClipCache(folder, OPTIONS, workers=0)
    assert store.prepare(paths) == {}
    return store


def test_each_clip_is_decoded_once(three: list[Path], tmp_path: Path) -> None:
    told: list[int] = []
    store = ClipCache(tmp_path, OPTIONS, workers=2)
    linked = tmp_path / "linked.mp4"
    linked.symlink_to(three[0])
    assert store.prepare([*three, *three, linked], told.append) == {}
    assert store.n_decoded == 3
    assert sum(told) == 7
    assert store.prepare(three, told.append) == {}
    assert sum(told) == 10
    again = ClipCache(tmp_path, OPTIONS, workers=2)
    assert again.prepare(three) == {}
    assert (store.n_decoded, again.n_decoded, again.n_repaired) == (3, 0, 0)
    for path in three:
        for each in (store, again):
            np.testing.assert_array_equal(each.get(path), decode(path, OPTIONS))
    assert sorted(p.name for p in tmp_path.glob("*/*")) == [p.name for p in entries(tmp_path)]


def test_clips_cannot_be_changed_and_outlive_their_entries(
    three: list[Path], tmp_path: Path
) -> None:
    clip = filled(tmp_path, three).get(three[0])
    assert (clip.shape, clip.dtype) == ((4, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="read-only"):
        clip[0] = 0
    for path in entries(tmp_path):
        assert path.stat().st_mode & 0o222 == 0
        assert np.load(path).shape == (4, 16, 16, 3)
        path.chmod(0o644)
        os.truncate(path, 0)
    # of a mapped file, this would end the process
    np.testing.assert_array_equal(clip, decode(three[0], OPTIONS))


def test_other_options_are_other_entries(three: list[Path], tmp_path: Path) -> None:
    filled(tmp_path, three[:1])
    other = ClipCache(tmp_path, DecodeOptions(frames=2, size=16), workers=0)
    with pytest.raises(VideoUnreadable, match="is not prepared"):
        other.get(three[0])
    other.prepare(three[:1])
    assert other.get(three[0]).shape == (2, 16, 16, 3)
    assert len(entries(tmp_path)) == 2


def test_a_clip_that_changed_is_another_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", "libx264", 6)
    store = filled(tmp_path / "store", [path])
    before = store.get(path)
    write_video(path, "libx264", 9)
    with pytest.raises(VideoUnreadable, match="has changed since it was: call prepare first"):
        store.get(path)
    assert store.prepare([path]) == {}
    assert not np.array_equal(store.get(path), before)
    assert store.n_repaired == 0


def test_a_clip_that_was_touched_copied_or_moved_is_the_same_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", "libx264", 6)
    clip = filled(tmp_path / "store", [path]).get(path)
    os.utime(path, ns=(1, 1))
    copied = shutil.copy(path, tmp_path / "copied.mp4")
    moved = path.rename(tmp_path / "moved.mp4")
    store = filled(tmp_path / "store", [Path(copied), moved])
    assert store.n_decoded == 0
    np.testing.assert_array_equal(store.get(moved), clip)


def _exchanged(path: Path, new: bytes) -> None:
    """Write to a clip in place, with the size and the time of change that it had."""
    before = path.stat()
    path.write_bytes(new.ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_clip_with_the_size_and_time_of_another_is_another_clip(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{n}.mp4", "libx264", n) for n in (9, 6)]
    store = filled(tmp_path / "store", paths[:1])
    before = store.get(paths[0])
    _exchanged(paths[0], paths[1].read_bytes())
    with pytest.raises(VideoUnreadable, match="has changed since it was"):
        store.get(paths[0])
    again = filled(tmp_path / "store", paths)
    assert again.n_decoded == 2
    assert not np.array_equal(again.get(paths[0]), before)


def test_verify_reads_clips_again_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = lambda path, status: clip_digest.FileStamp(f"{status.st_size:032x}", settled=True)  # noqa: E731
    monkeypatch.setattr(clip_digest, "file_stamp", blind)
    path, other = (write_video(tmp_path / f"{n}.mp4", "libx264", n) for n in (9, 6))
    filled(tmp_path / "store", [path])
    _exchanged(path, other.read_bytes())
    assert filled(tmp_path / "store", [path]).n_decoded == 0
    store = ClipCache(tmp_path / "store", OPTIONS, workers=0, verify=True)
    assert store.prepare([path]) == {}
    np.testing.assert_array_equal(store.get(path), decode(path, OPTIONS))
    assert store.n_decoded == 1


def test_digests_that_another_process_adds_meanwhile_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker starts before the main process has read the clips."""
    clip = write_video(tmp_path / "a.mp4", "libx264")
    os.utime(clip, (1e9, 1e9))
    monkeypatch.setattr(clip_digest, "_TICK", -1)
    monkeypatch.setattr(clip_digest, "_COARSE_TICK", -1)
    worker, verifying = ContentDigests(tmp_path), ContentDigests(tmp_path, trust=False)
    main = ContentDigests(tmp_path)
    digest = main.get(clip)
    main.save()
    assert worker.lookup(clip) == digest
    assert verifying.lookup(clip) is None
    monkeypatch.setattr(clip_digest, "content_digest", lambda _path: pytest.fail("read again"))
    assert worker.get(clip) == digest


def test_verifying_again_adds_nothing_to_the_file_of_digests(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_digest, "_TICK", 0)
    # copies: the clips belong to all tests of the session
    three = [Path(shutil.copy(path, tmp_path)) for path in three]
    filled(tmp_path, three)
    content = (tmp_path / "digests.txt").read_bytes()
    for _ in range(2):
        store = ClipCache(tmp_path, OPTIONS, workers=0, verify=True)
        assert store.prepare(three) == {}
        assert (tmp_path / "digests.txt").read_bytes() == content
    three[0].write_bytes(three[1].read_bytes() + b"0")
    store = ClipCache(tmp_path, OPTIONS, workers=0, verify=True)
    store.prepare(three)
    added = (tmp_path / "digests.txt").read_bytes().removeprefix(content)
    assert len(added.split()) == 3


def test_clips_are_read_once_for_all_processes(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_digest, "_TICK", 0)
    expected = filled(tmp_path, three).get(three[0])
    notes = tmp_path / "digests.txt"
    lines = [line.split() for line in notes.read_text().splitlines() if line]
    lines[0][1], lines[2][2] = lines[1][1], lines[2][2][:3]
    # what another clip has, a whole line, nonsense, and a line torn by a kill
    notes.write_text("\n".join(" ".join(line) for line in [*lines[:2], ["nonsense"], lines[2]]))
    assert filled(tmp_path, three).n_decoded == 0
    monkeypatch.setattr(clip_digest, "content_digest", None)
    store = filled(tmp_path, three)
    assert store.n_decoded == 0
    np.testing.assert_array_equal(store.get(three[0]), expected)


def test_unreadable_clips_are_named_all_at_once_and_tried_again(
    three: list[Path], tmp_path: Path
) -> None:
    empty, absent, cut = (tmp_path / name for name in ("empty.mp4", "absent.mp4", "cut.mp4"))
    empty.touch()
    cut.write_bytes(three[0].read_bytes()[:-100])
    told: list[int] = []
    store = ClipCache(tmp_path / "store", OPTIONS, workers=2)
    failures = store.prepare([empty, three[0], absent, cut, empty], told.append)
    reasons = {path: error.reason for path, error in failures.items()}
    assert reasons.keys() == {empty, absent, cut}
    assert reasons[empty] == "is empty (0 bytes)"
    assert reasons[absent] == "does not exist"
    assert reasons[cut].startswith("is cut off")
    assert [error.path for error in failures.values()] == [str(path) for path in failures]
    assert (store.n_decoded, sum(told)) == (1, 5)
    with pytest.raises(VideoUnreadable, match="is not prepared"):
        store.get(cut)
    cut.write_bytes(three[0].read_bytes())
    assert store.prepare([cut]) == {}
    np.testing.assert_array_equal(store.get(cut), store.get(three[0]))


def test_unreadable_clips_are_in_the_order_of_the_paths_whichever_worker_ends_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(6)]
    for path in paths[:4]:
        path.write_bytes(b"no video")
    run_jobs = clip_cache.run_jobs
    monkeypatch.setattr(clip_cache, "run_jobs", lambda *args: iter(list(run_jobs(*args))[::-1]))
    store = ClipCache(tmp_path / "store", OPTIONS, workers=0)
    assert list(store.prepare(paths)) == paths


def _damaged(whole: bytes, number: int) -> bytes:
    """One of many ways to damage a file, by number."""
    draws = np.random.default_rng((3, number))
    content = bytearray(whole)
    at = int(draws.integers(len(content)))
    if number % 4 == 0:
        del content[at:]
    elif number % 4 == 1:
        content[at : at + 64] = bytes(64)
    else:
        for place in draws.integers(len(content) if number % 4 == 2 else 200, size=8):
            content[place] = int(draws.integers(256))
    return bytes(content)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.avi"])
def test_damaged_clips_are_refused_or_read_and_nothing_else_happens(
    name: str, clips: Clips, tmp_path: Path
) -> None:
    copies = [tmp_path / f"{number}.mp4" for number in range(40)]
    for number, path in enumerate(copies):
        path.write_bytes(_damaged(clips(name).read_bytes(), number))
    store = ClipCache(tmp_path / "store", OPTIONS, workers=2, limits=ClipLimits(seconds=20))
    failures = store.prepare([*copies, clips(name)])
    assert clips(name) not in failures
    assert len(failures) >= 20
    read = [path for path in (*copies, clips(name)) if path not in failures]
    # damage that changes no byte is another copy of the same clip
    different = len({path.read_bytes() for path in read})
    assert len(entries(tmp_path / "store")) == different <= store.n_decoded
    for path in read:
        assert store.get(path).shape == (4, 16, 16, 3)


def _truncate(entry: Path, _: Path) -> None:
    os.truncate(entry, 100)


def _empty(entry: Path, _: Path) -> None:
    os.truncate(entry, 0)


def _lengthen(entry: Path, _: Path) -> None:
    entry.write_bytes(entry.read_bytes() + b"x")


def _flip(entry: Path, _: Path) -> None:
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)


def _flip_header(entry: Path, _: Path) -> None:
    content = bytearray(entry.read_bytes())
    content[20] ^= 1
    entry.write_bytes(content)


def _flip_checksum(entry: Path, _: Path) -> None:
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)


def _zero(entry: Path, _: Path) -> None:
    entry.write_bytes(bytes(entry.stat().st_size))


def _swap(entry: Path, other: Path) -> None:
    entry.write_bytes(other.read_bytes())


def _retype(entry: Path, _: Path) -> None:
    np.save(entry, np.zeros((4, 16, 16, 3), np.float32))


@pytest.mark.parametrize(
    "damage",
    [_truncate, _empty, _lengthen, _flip, _flip_header, _flip_checksum, _zero, _swap, _retype],
)
@pytest.mark.parametrize("opened_before", [False, True])
def test_damaged_entries_are_noticed_and_made_again(
    damage: Callable[[Path, Path], None], opened_before: bool, three: list[Path], tmp_path: Path
) -> None:
    store = filled(tmp_path, three)
    expected = [np.array(store.get(path)) for path in three]
    if not opened_before:
        store = ClipCache(tmp_path, OPTIONS, workers=0)
    victim, other = (entry_of(store, path) for path in three[:2])
    before = victim.stat()
    victim.chmod(0o644)
    decoded = store.n_decoded
    damage(victim, other)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    if not opened_before:
        assert store.prepare(three) == {}
    for path, clip in zip(three, expected, strict=True):
        np.testing.assert_array_equal(store.get(path), clip)
    assert (store.n_repaired, store.n_decoded - decoded) == (1, 1)
    assert victim.with_suffix(".damaged").exists()


def test_a_folder_in_place_of_an_entry(three: list[Path], tmp_path: Path) -> None:
    store = filled(tmp_path, three[:1])
    entry = entry_of(store, three[0])
    entry.unlink()
    entry.mkdir()
    with pytest.raises(ClipCacheError, match="cannot be read: is a folder, not a file; delete it"):
        store.get(three[0])
    assert store.prepare(three[:1]) == {}
    np.testing.assert_array_equal(store.get(three[0]), decode(three[0], OPTIONS))
    assert (store.n_repaired, entry.with_suffix(".damaged").is_dir()) == (1, True)
    entry.write_bytes(b"short")
    with pytest.raises(
        ClipCacheError, match=r"is damaged and cannot be moved to .*\.damaged: .*delete"
    ):
        store.get(three[0])


def test_an_entry_that_vanished_is_made_again(three: list[Path], tmp_path: Path) -> None:
    store = filled(tmp_path, three)
    clip = store.get(three[0])
    expected = clip.copy()
    for entry in entries(tmp_path):
        entry.unlink()
    np.testing.assert_array_equal(clip, expected)
    np.testing.assert_array_equal(store.get(three[0]), expected)
    assert (store.n_decoded, store.n_repaired) == (4, 0)


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{n}.mp4", "mpeg4", 5 + n) for n in range(12)]
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from fewshot_i2v.data.video.clip_cache import ClipCache, DecodeOptions\n"
        "store = ClipCache(Path(sys.argv[1]), DecodeOptions(frames=4, size=16), workers=1)\n"
        "failures = store.prepare([Path(p) for p in sys.argv[2:]])\n"
        "print(len(failures), store.n_decoded, sum(int(store.get(Path(p)).sum()) "
        "for p in sys.argv[2:]))\n"
    )
    fillers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "store"), *map(str, paths)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]
    told = [filler.communicate(timeout=60)[0].split() for filler in fillers]
    expected = sum(int(decode(path, OPTIONS).sum()) for path in paths)
    assert [(failed, total) for failed, _, total in told] == [(b"0", str(expected).encode())] * 2
    assert 12 <= sum(int(decoded) for _, decoded, _ in told) <= 24
    assert len(entries(tmp_path / "store")) == 12
    assert len(list((tmp_path / "store").glob("*/*"))) == 12
    assert list((tmp_path / "store").glob("**/.*")) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device; each clip takes 0.0031 MiB: free space"),
        (errno.EACCES, "Permission denied; check that the folder may be written to"),
    ],
)
def test_a_store_that_cannot_be_written_says_why(
    number: int, words: str, three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    store = filled(tmp_path, three[:1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ClipCacheError, match=words):
            store.prepare(three)
    assert len(list(tmp_path.glob("*/*"))) + len(list(tmp_path.glob("*/.*"))) == 1
    assert store.prepare(three) == {}


def test_a_folder_that_is_none_is_an_error_from_the_workers(
    three: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    store = ClipCache(tmp_path / "file" / "store", OPTIONS, workers=1)
    with pytest.raises(
        ClipCacheError, match=r"decoded clips cannot be written to .*Not a directory"
    ):
        store.prepare(three)


def test_a_file_in_place_of_a_folder_of_entries_is_named(three: list[Path], tmp_path: Path) -> None:
    store = ClipCache(tmp_path, OPTIONS, workers=1)
    folder = tmp_path / store.entry_key(store.digest(three[0]))[:2]
    folder.write_text("mine")
    with pytest.raises(ClipCacheError, match=f"{folder} is a file where a folder belongs"):
        store.prepare(three[:1])


def test_what_killed_processes_left_is_removed(three: list[Path], tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    left = [tmp_path / ".1.tmp", tmp_path / "ab" / ".2.tmp"]
    for path in left:
        path.touch()
    with locked_temporary_file(tmp_path / ".3.tmp") as file:
        filled(tmp_path, three[:1])
        assert Path(file.name).exists()
    assert not any(path.exists() for path in [*left, tmp_path / ".3.tmp"])


def test_a_clip_that_takes_too_long_is_unreadable(three: list[Path], tmp_path: Path) -> None:
    store = ClipCache(tmp_path, OPTIONS, workers=1, limits=ClipLimits(seconds=1e-3))
    failures = store.prepare(three[:1])
    assert "--max-seconds raises the limit" in failures[three[0]].reason
    assert list(tmp_path.glob("*/*")) == []


def test_a_clip_that_changes_while_it_is_read_is_not_stored(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(three[0].read_bytes())

    def slow(clip_path: Path, options: DecodeOptions, *_: object) -> np.ndarray:
        clip = decode(clip_path, options)
        path.write_bytes(three[1].read_bytes())
        return clip

    monkeypatch.setattr(clip_cache, "decode", slow)
    failures = ClipCache(tmp_path / "store", OPTIONS, workers=0).prepare([path])
    assert failures[path].reason == "changed while it was read: run again"
    assert entries(tmp_path / "store") == []


def test_wrong_limits_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers is -1"):
        ClipCache(tmp_path, OPTIONS, workers=-1)
