"""Generated clips: pure functions, honest classes, whole files."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import decord
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.synthetic.motions import MOTIONS, REVERSALS, TWO_OBJECT_MOTIONS, random_tracks
from fewshot_i2v.data.synthetic.scene import paint_frames, random_appearance, random_backdrop
from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.errors import DiskError, UnknownNameError, UsageError
from fewshot_i2v.utils.resources import data_file

Frames = NDArray[np.uint8]
MOTION_CLIPS = Generator("motions")


def digest(frames: Frames) -> str:
    return hashlib.sha256(frames.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("generator", "class_name", "expected"),
    [
        (
            "motions",
            "spirals-in",
            "87c4efed18b3b88550cd0305c09d5d900aacc7838e46eaa5856ecfa17d3670dd",
        ),
        (
            "shapes",
            "striped-star",
            "31138efb4b446e47a66d46f25a8e66910c5afcbaff0dc9284cc0fbe1f03d30a2",
        ),
    ],
    ids=["motions", "shapes"],
)
def test_the_bytes_of_a_clip_never_change(generator: str, class_name: str, expected: str) -> None:
    # where these pixels change on purpose, VERSION is raised and the figures are replaced
    assert generate.VERSION == 1
    first = generate.render_clip(generator, class_name, 3)
    assert first.shape == (16, 64, 64, 3)
    assert first.dtype == np.uint8
    assert digest(first) == digest(generate.render_clip(generator, class_name, 3)) == expected


@pytest.mark.parametrize("other", [{"seed": 1}, {"number": 1}, {"class_name": "grows"}])
def test_every_part_of_the_key_matters(other: dict[str, int | str]) -> None:
    key: dict[str, int | str] = {"class_name": "shrinks", "number": 0, "seed": 0}
    a = generate.render_clip("motions", **key)  # type: ignore[arg-type]
    b = generate.render_clip("motions", **{**key, **other})  # type: ignore[arg-type]
    assert np.abs(a.astype(int) - b).mean() > 2


def test_size_and_number_of_frames_are_as_asked() -> None:
    assert generate.render_clip("motions", "swings", 0, size=32, frames=5).shape == (5, 32, 32, 3)


@pytest.mark.parametrize("name", sorted(n for n in REVERSALS if n < REVERSALS[n]))
def test_opposite_classes_are_each_other_backwards(name: str) -> None:
    t = np.linspace(0, 1, 16)
    look = random_appearance(KeyedRandom("look"), "black")
    backdrop = random_backdrop(KeyedRandom("back"), "black", 32)
    clips = [
        paint_frames(
            backdrop,
            [(look, track) for track in random_tracks(motion, KeyedRandom("way"), t, 0.15)],
        )
        for motion in (name, REVERSALS[name])
    ]
    assert np.array_equal(clips[0], clips[1][::-1])
    assert not np.array_equal(clips[0], clips[1])


@pytest.mark.parametrize("name", MOTIONS)
def test_every_motion_is_plain_to_see(name: str) -> None:
    least = 0.15 if name in TWO_OBJECT_MOTIONS | {"shakes"} else 0.33
    for number in range(6):
        track = random_tracks(name, KeyedRandom(name, number), np.linspace(0, 1, 16), 0.19)[0]
        way = np.hypot(np.ptp(track.x), np.ptp(track.y))
        times_as_large = track.radius.max() / track.radius.min()
        fades = max(np.ptp(track.opacity), np.ptp(track.light))
        assert way > least or np.ptp(track.angle) > 2 or times_as_large > 2 or fades > 0.6
        assert min(track.x.min(), track.y.min()) > 0
        assert max(track.x.max(), track.y.max()) < 1


def _coarse(clip: Frames) -> NDArray[np.float64]:
    """Frames (T, 64, 64, 3) to grey squares (T, 16, 16), 0 to 1."""
    return clip.mean(-1).reshape(len(clip), 16, 4, 16, 4).mean((2, 4)) / 255


def _centre_of_change(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where, and over how wide an area, the picture changes from frame to frame."""
    change = np.abs(np.diff(squares, axis=0))
    share = change / (change.sum((1, 2), keepdims=True) + 1e-4)
    at = np.arange(16) / 16
    x, y = (share * at).sum((1, 2)), (share * at[:, None]).sum((1, 2))
    wide = np.sqrt((share * (at - x[:, None])[:, None, :] ** 2).sum((1, 2)))
    return np.concatenate([x - x.mean(), y - y.mean(), wide])


def _nearest_mean(features: NDArray[np.float64], clips: int) -> float:
    """Accuracy of the class with the nearest mean; features (classes, clips, D), half to learn."""
    means = features[:, : clips // 2].mean(1)
    tests = features[:, clips // 2 :]
    guess = ((tests[:, :, None] - means) ** 2).sum(-1).argmin(-1)
    return float((guess == np.arange(len(features))[:, None]).mean())


def test_a_single_frame_does_not_tell_the_motion_but_the_change_between_frames_does() -> None:
    names = yaml.safe_load(data_file("episodes", "motions").read_text())["subsets"]["novel"]
    clips = 24
    squares = np.stack(
        [[_coarse(generate.render_clip("motions", n, k)) for k in range(clips)] for n in names]
    )
    which = [[int(KeyedRandom(n, k).uniform(0, 16)) for k in range(clips)] for n in names]
    frames = np.take_along_axis(squares, np.array(which)[:, :, None, None, None], axis=2)
    alone = _nearest_mean(frames.reshape(len(names), clips, -1), clips)
    moving = _nearest_mean(
        np.stack([[_centre_of_change(c) for c in row] for row in squares]), clips
    )
    assert alone < 0.2  # 10 classes, 120 clips: chance is 0.1
    assert moving > 0.45


@pytest.mark.parametrize("generator", generate.GENERATORS)
def test_the_shipped_split_uses_every_class_once(generator: str) -> None:
    split = yaml.safe_load(data_file("episodes", generator).read_text())
    assert split["name"] == split["generator"]["name"] == generator
    used = [name for names in split["subsets"].values() for name in names]
    assert sorted(used) == list(generate.class_names(generator))
    pairs = [
        (subset, set(names) & {REVERSALS[n] for n in names if n in REVERSALS})
        for subset, names in split["subsets"].items()
        if generator == "motions"
    ]
    for subset, paired in pairs:  # no motion is apart from its opposite
        assert paired == {n for n in split["subsets"][subset] if n in REVERSALS}


def test_written_clips_read_back_as_they_were_rendered(tmp_path: Path) -> None:
    names = [generate.clip_name(c, 1000) for c in ("grows", "passes-by", "zigzags")]
    assert names[0] == "grows/grows-1000.mp4"
    assert generate.write_missing_clips(Generator("motions", seed=4), names, tmp_path) == 3
    for name in names:
        reader = decord.VideoReader(str(tmp_path / name))
        back = reader.get_batch(range(len(reader))).asnumpy()
        clip = generate.render_clip("motions", name.split("/")[0], 1000, seed=4)
        assert back.shape == clip.shape
        assert np.abs(back.astype(int) - clip).mean() < 6
        assert reader.get_avg_fps() == pytest.approx(8)


def test_the_other_encoder_keeps_all_frames_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    clip = generate.render_clip("motions", "grows", 0)
    (tmp_path / "a.mp4").write_bytes(generate.encode(clip, 8))
    back = decord.VideoReader(str(tmp_path / "a.mp4")).get_batch(range(16)).asnumpy()
    assert np.abs(back.astype(int) - clip).mean() < 6


def test_only_missing_clips_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    names = [generate.clip_name("grows", n) for n in range(3)]
    seen: list[int] = []
    assert (
        generate.write_missing_clips(MOTION_CLIPS, names[:2], tmp_path, progress=seen.append) == 2
    )
    assert seen == [1, 1]
    before = {p: p.read_bytes() for p in (tmp_path / "grows").iterdir()}
    (tmp_path / names[1]).unlink()
    assert generate.write_missing_clips(MOTION_CLIPS, [*names, names[0]], tmp_path) == 2
    assert generate.write_missing_clips(MOTION_CLIPS, names, tmp_path) == 0
    after = {p: p.read_bytes() for p in (tmp_path / "grows").iterdir()}
    assert sorted(p.name for p in after) == [f"grows-00{n}.mp4" for n in range(3)]
    assert all(after[path] == data for path, data in before.items())


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"cannot be written to .*: No space left on device; free"):
        generate.write_missing_clips(MOTION_CLIPS, [generate.clip_name("grows", 0)], tmp_path)
    assert list((tmp_path / "grows").iterdir()) == []


def test_a_clip_that_another_process_just_made_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = generate.clip_name("grows", 0), tmp_path / "grows" / "grows-000.mp4"
    encode = generate.encode

    def slow(frames: Frames, fps: int) -> bytes:
        path.write_bytes(b"made meanwhile")
        return encode(frames, fps)

    monkeypatch.setattr(generate, "encode", slow)
    assert generate.write_missing_clips(MOTION_CLIPS, [name], tmp_path) == 0
    assert path.read_bytes() == b"made meanwhile"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("meanwhile", [False, True])
def test_clips_are_written_where_there_are_no_hard_links(
    meanwhile: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _: Path) -> None:
        if meanwhile:
            path.write_bytes(b"made meanwhile")
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    names = [generate.clip_name("grows", n) for n in range(2)]
    written = generate.write_missing_clips(Generator("motions", size=32, frames=4), names, tmp_path)
    contents = [(tmp_path / name).read_bytes() for name in names]
    assert written == (0 if meanwhile else 2)
    assert all((content == b"made meanwhile") == meanwhile for content in contents)
    assert len(list((tmp_path / "grows").iterdir())) == 2


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    writer = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from fewshot_i2v.utils.files import locked_temporary_file\n"
        "with locked_temporary_file(Path(sys.argv[1])) as file:\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    folder = tmp_path / "grows"
    folder.mkdir()
    left = folder / ".grows-000.mp4.1.tmp"
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(left)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        generate.write_missing_clips(MOTION_CLIPS, [generate.clip_name("grows", 0)], tmp_path)
        assert left.exists()
        process.kill()
        process.wait()
    assert left.exists()
    assert (
        generate.write_missing_clips(MOTION_CLIPS, [generate.clip_name("grows", 0)], tmp_path) == 0
    )
    assert [path.name for path in folder.iterdir()] == ["grows-000.mp4"]


def _materialize(folder: Path) -> None:
    names = [generate.clip_name("grows", n) for n in range(12)]
    generate.write_missing_clips(Generator("motions", size=32, frames=4), names, folder)


def test_two_processes_may_write_the_same_clips(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_materialize, args=(tmp_path / "both",))
    other.start()
    _materialize(tmp_path / "both")
    other.join(60)
    assert other.exitcode == 0
    _materialize(tmp_path / "one")
    files = {p.name: p.read_bytes() for p in (tmp_path / "both" / "grows").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "one" / "grows").iterdir()}


def test_unknown_names_are_errors_that_help(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'motions'"):
        generate.class_names("motion")
    with pytest.raises(UnknownNameError, match=r"class of generator 'motions'.*'moves-up'"):
        generate.render_clip("motions", "move-up", 0)
    with pytest.raises(UnknownNameError, match="unknown class"):
        generate.render_clip("shapes", "moves-up", 0)
    with pytest.raises(UnknownNameError, match="unknown class"):
        generate.write_missing_clips(MOTION_CLIPS, ["a/a-000.mp4"], tmp_path)
    for name in ("grows.mp4", "grows/shrinks-000.mp4", "grows/grows-0001.mp4"):
        with pytest.raises(UsageError, match="not a generated clip"):
            generate.write_missing_clips(MOTION_CLIPS, [name], tmp_path)
    with pytest.raises(UsageError, match="size 33"):
        generate.write_missing_clips(
            Generator("motions", size=33), ["grows/grows-000.mp4"], tmp_path
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
@pytest.mark.parametrize("times", [20, pytest.param(80, marks=pytest.mark.slow)])
def test_the_same_frames_give_the_same_file_whatever_the_memory_held(
    shared: Path, times: int
) -> None:
    clip = generate.render_clip("motions", "swings", 0, size=32, frames=4)
    videos = sorted((shared / "clips" / "egogestar").glob("*/*_1*.mp4"))[:6]
    files = set()
    for i in range(times):
        files.add(generate.encode(clip, 8))
        # leaves its pictures in memory that is free again
        decord.VideoReader(str(videos[i % 6])).get_batch([0, 5]).asnumpy()
        with av.open(str(videos[i % 6])) as container:
            for frame in islice(container.decode(video=0), 5):
                frame.to_ndarray(format="rgb24")
        files.add(generate.encode(clip, 8))
    assert len(files) == 1
