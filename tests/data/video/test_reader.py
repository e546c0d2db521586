"""The frames asked for are exactly the frames returned."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fewshot_i2v.data.video import decord_reader, reader
from fewshot_i2v.data.video.decord_reader import decord_present, read_with_decord
from fewshot_i2v.data.video.frame_sampling import frame_indices
from fewshot_i2v.data.video.probe import probe_clip
from fewshot_i2v.data.video.reader import (
    DecodeOptions,
    decode,
    read_frames,
)
from fewshot_i2v.data.video.worker_pool import Job, run_jobs
from fewshot_i2v.errors import ConfigError, UnknownNameError, VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video.made_videos import HEIGHT, WIDTH, numbers_in, write_video

Clips = Callable[[str], Path]

MADE = {
    "h264.mp4": 30, "front.mp4": 30, "open-gop.mkv": 30, "vfr.mp4": 30, "vfr.mkv": 30,
    "h264.ts": 30, "interlaced.mp4": 30, "mpeg4.avi": 30, "mpeg4.mp4": 30, "packed.avi": 21,
    "animated.gif": 30, "av1.mkv": 30, "vp8.webm": 30, "vp9-odd.webm": 30, "ten-bit.mp4": 30,
    "single.mp4": 1,
}  # fmt: skip
NASTY: dict[str, str | tuple[int, ...]] = {
    "decord_corrupted.mp4": "is damaged at frame 30 of 50",
    "decord_unordered.mov": (4, 50, 50, 3),
    "decord_video_90.mov": (3, 568, 320, 3),
    "derived_truncated_50pct_vp9.webm": "is cut off: 52405 bytes are there",
    "derived_zero_bytes.mp4": "is empty (0 bytes)",
    "torchcodec_animated.gif": (4, 48, 64, 3),
    "torchcodec_av1_video.mkv": (125, 360, 640, 3),
    "torchcodec_discard_first_keyframe.mp4": (25, 64, 64, 3),
    "torchcodec_h265_video.mp4": (10, 128, 128, 3),
    "torchcodec_nasa_13013.mp4.audio.mp3": "holds no video stream",
    "torchcodec_nasa_13013_rotated.mp4": (17, 480, 270, 3),
    "torchcodec_testsrc2_odd_height_and_width_vp9.mp4": (25, 241, 321, 3),
    "torchcodec_testsrc2_vp9.webm": (30, 720, 1280, 3),
    "workout_lfs_pointer_martin-squats.mp4": "run git lfs pull",
}
needs_decord = pytest.mark.skipif(not decord_present(), reason="decord has no wheel here")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log in which native code never complains."""
    monkeypatch.setattr(decord_reader, "native_log_reader", lambda: lambda: 0)


def plain_decode(path: Path) -> np.ndarray:
    """All frames (T, H, W, 3), as PyAV gives them when nothing is asked of it."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


@pytest.mark.parametrize("name", MADE)
def test_every_frame_is_the_one_its_number_says(name: str, clips: Clips) -> None:
    totals: list[int] = []

    def choose(total: int) -> np.ndarray:
        totals.append(total)
        return np.arange(total)

    pictures = read_frames(clips(name), choose)
    assert numbers_in(pictures) == list(range(MADE[name]))
    assert totals[-1] == MADE[name]


def test_the_packed_file_is_packed(clips: Clips) -> None:
    with av.open(str(clips("packed.avi"))) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        assert sum(size == 6 for size in sizes) == 10
    with av.open(str(clips("packed.avi"))) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
        assert kinds[1] == av.video.frame.PictureType.B


@pytest.mark.parametrize("wrong", [0, 7, 300])
def test_the_frame_count_of_the_header_is_not_believed(
    wrong: int, clips: Clips, tmp_path: Path
) -> None:
    content = bytearray(clips("mpeg4.avi").read_bytes())
    for chunk, offset in ((b"avih", 24), (b"strh", 40)):
        start = content.index(chunk) + offset
        assert int.from_bytes(content[start : start + 4], "little") == 30
        content[start : start + 4] = wrong.to_bytes(4, "little")
    path = tmp_path / "wrong.avi"
    path.write_bytes(content)
    assert numbers_in(read_frames(path, np.arange)) == list(range(30))


def test_a_packet_that_is_no_frame_makes_the_frames_be_chosen_again(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        reader,
        "probe_clip",
        lambda *a, **k: dataclasses.replace(probe_clip(*a, **k), frame_count=32),
    )
    asked: list[int] = []

    def last(total: int) -> np.ndarray:
        asked.append(total)
        return np.array([0, total - 1])

    assert numbers_in(read_frames(clips("h264.mp4"), last)) == [0, 29]
    assert asked == [32, 30]


@needs_decord
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", ["h264.mp4", "open-gop.mkv", "vfr.mp4", "vfr.mkv", "single.mp4"])
def test_both_readers_give_the_same_pixels(name: str, clips: Clips) -> None:
    first = read_frames(clips(name), np.arange)
    second = read_frames(clips(name), np.arange, backend="decord")
    np.testing.assert_array_equal(first, second)


@needs_decord
def test_decord_reads_only_when_it_is_asked_for(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("decord was used")

    monkeypatch.setattr(reader, "read_with_decord", refuse)
    assert numbers_in(read_frames(clips("h264.mp4"), np.arange)) == list(range(30))
    with pytest.raises(AssertionError, match="decord was used"):
        decode(clips("h264.mp4"), DecodeOptions(backend="decord"))


@needs_decord
def test_decord_refuses_what_it_does_not_read_exactly(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(name: str, log: Callable[[], int] | None = lambda: 0) -> None:
        monkeypatch.setattr(decord_reader, "native_log_reader", lambda: log)
        read_frames(clips(name), np.arange, backend="decord")

    with pytest.raises(VideoUnreadable, match=r"by decord \(coding mpeg4\): use "):
        read("mpeg4.mp4")
    with pytest.raises(ConfigError, match="'decord' needs `log`"):
        read("h264.mp4", None)
    complaints = itertools.count()
    with pytest.raises(VideoUnreadable, match="it complains of damage"):
        read("h264.mp4", lambda: next(complaints))


@needs_decord
@pytest.mark.usefixtures("quiet")
def test_decord_is_compared_with_the_strict_decoder(clips: Clips) -> None:
    clip = probe_clip(clips("h264.mp4"))
    wrong = {
        "it counts 30 frames of 31": dataclasses.replace(clip, frame_count=31),
        "its first frame is another one": dataclasses.replace(
            clip, first_frame=clip.first_frame[::-1]
        ),
    }
    for reason, other in wrong.items():
        with pytest.raises(VideoUnreadable, match=reason):
            read_with_decord(other, np.arange(3), lambda image: image)


def test_without_decord_it_cannot_be_asked_for(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decord_reader, "decord_present", lambda: False)
    assert numbers_in(read_frames(clips("h264.mp4"), np.arange)) == list(range(30))
    with pytest.raises(ConfigError, match="is decord, which is not installed here: use pyav"):
        read_frames(clips("h264.mp4"), np.arange, backend="decord")


@pytest.mark.parametrize(
    "turn", list(itertools.product((0, 90, 180, 270), (False, True), (False,)))
)
def test_pictures_are_turned_as_the_file_asks(turn: tuple[int, bool, bool], tmp_path: Path) -> None:
    upright = write_video(tmp_path / "upright.mp4", "libx264", 3)
    turned = write_video(tmp_path / "turned.mp4", "libx264", 3, turn=turn)
    expected = np.rot90(read_frames(upright, np.arange), turn[0] // 90, axes=(1, 2))
    if turn[1]:
        expected = expected[:, :, ::-1]
    np.testing.assert_array_equal(read_frames(turned, np.arange), expected)


def test_turns_that_are_no_quarters_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "askew.mp4", "libx264", 2, turn=(45, False, False))
    with pytest.raises(VideoUnreadable, match="only quarter turns are supported"):
        read_frames(path, np.arange)


def test_damage_is_refused_and_its_frame_is_named(clips: Clips, tmp_path: Path) -> None:
    with av.open(str(clips("h264.mp4"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    start, time = packets[20].pos or 0, packets[20].pts or 0
    number = sorted(packet.pts or 0 for packet in packets).index(time)
    content = bytearray(clips("h264.mp4").read_bytes())
    # the length of a unit of the stream, now far beyond its packet
    content[start : start + 4] = b"\xff" * 4
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoUnreadable, match=rf"at frame {number} of 30 \(FFmpeg: "):
        read_frames(path, lambda _: np.array([0]))
    # the same words come from a worker
    damaged = Job(
        path,
        "fewshot_i2v.data.video.clip_cache:decode_into_cache",
        (str(path), {}, {}, str(tmp_path), "x.tmp"),
    )
    ((_, heard),) = run_jobs([damaged], 1)
    assert f"at frame {number} of 30 (FFmpeg: " in str(heard)


def test_only_wanted_pictures_are_kept(clips: Clips) -> None:
    seen: list[int] = []

    def shape(picture: np.ndarray) -> np.ndarray:
        seen.extend(numbers_in(picture[None]))
        return picture[:2, :2]

    pictures = read_frames(clips("mpeg4.mp4"), lambda _: np.array([3, 3, 29]), transform=shape)
    assert pictures.shape == (3, 2, 2, 3)
    assert seen == [3, 29]


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_decode_resizes_the_short_side_and_cuts_the_centre(crop: float, clips: Clips) -> None:
    options = DecodeOptions(frames=3, size=24, crop=crop)
    clip = decode(clips("h264.mp4"), options)
    assert clip.shape == (3, 24, 24, 3)
    assert clip.dtype == np.uint8
    high = round(24 / crop)
    wide = high * WIDTH // HEIGHT
    whole = plain_decode(clips("h264.mp4"))
    for picture, index in zip(clip, frame_indices("segment-center", 30, 3), strict=True):
        resized = Image.fromarray(whole[index]).resize((wide, high), Image.Resampling.BICUBIC)
        left, top = (wide - 24) // 2, (high - 24) // 2
        np.testing.assert_array_equal(
            picture, np.asarray(resized)[top : top + 24, left : left + 24]
        )


def test_clips_that_are_too_elongated_are_refused(clips: Clips) -> None:
    with pytest.raises(VideoUnreadable, match="is too elongated"):
        decode(clips("h264.mp4"), DecodeOptions(size=1000), ClipLimits(pixels=1_000_000))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"stride": 1.5}, "stride is 1.5"),
        ({"size": 5000}, "size is 5000"),
        ({"crop": 0.0}, "crop is 0.0"),
        ({"crop": 1.01}, "crop is 1.01"),
        ({"crop": float("nan")}, "crop is nan"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DecodeOptions(**wrong)


def test_unknown_names_are_refused(clips: Clips) -> None:
    with pytest.raises(UnknownNameError, match="frame policy"):
        DecodeOptions(policy="first")
    with pytest.raises(UnknownNameError, match="video backend"):
        DecodeOptions(backend="opencv")
    with pytest.raises(UnknownNameError, match="video backend"):
        read_frames(clips("h264.mp4"), np.arange, backend="opencv")


def test_the_key_covers_what_changes_pixels_and_nothing_else() -> None:
    base = DecodeOptions()
    assert DecodeOptions(stride=3).settings_key() == base.settings_key()
    other = [
        DecodeOptions(frames=4),
        DecodeOptions(size=112),
        DecodeOptions(crop=1),
        DecodeOptions(policy="dense"),
        DecodeOptions(policy="dense", stride=2),
        DecodeOptions(backend="decord"),
    ]
    assert len({options.settings_key() for options in [base, *other]}) == 7
    assert DecodeOptions(crop=1).settings_key() == DecodeOptions(crop=1.0).settings_key()


@pytest.mark.shared
@pytest.mark.parametrize("name", NASTY)
def test_awkward_real_files(name: str, shared: Path) -> None:
    expected = NASTY[name]
    path = shared / "nasty" / name
    if isinstance(expected, str):
        with pytest.raises(VideoUnreadable) as caught:
            read_frames(path, np.arange)
        assert expected in caught.value.reason
        return
    pictures = read_frames(path, np.arange)
    assert pictures.shape == expected
    plain = plain_decode(path)
    if plain.shape != expected:
        plain = np.rot90(plain, {"decord_video_90.mov": -1}.get(name, 1), axes=(1, 2))
    np.testing.assert_array_equal(pictures, plain)


@pytest.mark.shared
def test_real_clips_are_read_as_a_plain_decode_shows_them(shared: Path) -> None:
    clips = sorted((shared / "clips" / "egogestar").glob("*/*.mp4"))
    assert len(clips) == 140
    uneven = [path for path in clips if path.stem.endswith(("down_4", "right_7", "up_4"))]
    codings = set()
    for path in [*clips[::24], *uneven]:
        found = probe_clip(path)
        with av.open(str(path)) as container:
            codings.add(container.streams.video[0].codec_context.name)
            plain = list(container.decode(video=0))
        if path in uneven:
            gaps = np.diff(found.times)
            assert gaps.max() > 1.2 * gaps.min()
        pictures = read_frames(path, lambda n: frame_indices("uniform", n, 6))
        chosen = [plain[i] for i in frame_indices("uniform", len(plain), 6)]
        expected = [frame.to_ndarray(format="rgb24") for frame in chosen]
        np.testing.assert_array_equal(pictures, expected)
    assert codings == {"h264", "mpeg4"}
    assert len(uneven) == 3
