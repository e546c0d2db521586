"""Folders of numbered pictures: the same array as the video they were taken from, or a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fewshot_i2v.data.video import frame_folder
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.clip_digest import clip_stamp, content_digest
from fewshot_i2v.data.video.frame_folder import list_frame_files
from fewshot_i2v.data.video.reader import DecodeOptions, decode, read_frames
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video.made_videos import numbered_picture, numbers_in

ALL = np.arange


def write_frames(
    folder: Path, count: int = 5, name: str = "img_{:05d}.png", first: int = 1
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(numbered_picture(i)).save(folder / name.format(first + i))
    return folder


def touched(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def refusal(folder: Path, **limits: Any) -> str:
    with pytest.raises(VideoUnreadable) as caught:
        read_frames(folder, ALL, limits=ClipLimits(**limits))
    assert caught.value.path == str(folder)
    return caught.value.reason


def test_a_video_and_its_pictures_are_the_same_clip(
    clips: Callable[[str], Path], tmp_path: Path
) -> None:
    video, folder = clips("h264.mp4"), tmp_path / "clip_01"
    folder.mkdir()
    for i, picture in enumerate(read_frames(video, ALL)):
        Image.fromarray(picture).save(folder / f"img_{i + 1:05d}.png")
    for policy in ("segment-center", "uniform", "dense"):
        options = DecodeOptions(frames=8, policy=policy, size=32)
        store = ClipCache(tmp_path / "cache", options, workers=int(policy == "dense"))
        assert store.prepare([video, folder]) == {}
        assert np.array_equal(store.get(folder), store.get(video))
        assert store.n_decoded == 2


def test_changed_pictures_are_another_clip(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip")
    store = ClipCache(tmp_path / "cache", DecodeOptions(frames=5, size=32), workers=0)
    store.prepare([folder])
    before = np.array(store.get(folder))
    Image.fromarray(numbered_picture(9)).save(folder / "img_00003.png")
    os.utime(folder / "img_00003.png", (1, 1))
    store.prepare([folder])
    assert store.n_decoded == 2
    assert not np.array_equal(store.get(folder)[2], before[2])
    touched(folder, "notes.txt")  # no frame
    store.prepare([folder])
    assert store.n_decoded == 2


def test_equal_names_sizes_and_times_elsewhere_are_another_clip(tmp_path: Path) -> None:
    one, other = (write_frames(tmp_path / name, 1) for name in "ab")
    for folder in (one, other):
        os.utime(folder / "img_00001.png", (1, 1))
    assert clip_stamp(one).size == clip_stamp(other).size
    assert clip_stamp(one).token != clip_stamp(other).token
    # one clip all the same, until a picture differs
    assert content_digest(one) == content_digest(other)
    Image.fromarray(numbered_picture(9)).save(other / "img_00001.png")
    assert content_digest(one) != content_digest(other)


@pytest.mark.parametrize(
    ("name", "first"),
    [("{}.png", 0), ("{}.png", 8), ("frame-{:03d}.PNG", 1), ("v_Run_g01_c01_{}.bmp", 98)],
)
def test_numbers_decide_the_order(name: str, first: int, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 5, name, first)
    assert numbers_in(read_frames(folder, ALL)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["img_00001.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg"], "img_00001.jpg"),
        (["1.jpg", "mask1.jpg"], "1.jpg"),
        (["frame1.jpg", "thumbnail.jpg", "poster.png", "x.mp4", ".img_1.jpg"], "frame1.jpg"),
        (["rgb1.webp"], "rgb1.webp"),
    ],
)
def test_the_series_of_frames_is_found(names: list[str], kept: str, tmp_path: Path) -> None:
    assert [file.name for file in list_frame_files(touched(tmp_path, *names))] == [kept]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "is a folder without numbered pictures; expected a video file, or a folder with"),
        (["a.jpg", "b.png", "c.txt", "d"], "there are a.jpg, b.png, c.txt, ..."),
        (["flow_x_1.jpg", "flow_y_1.jpg"], "2 series of pictures: flow_x_1.jpg (1), flow_y_1.jpg"),
        (["img_1.jpg", "1.jpg"], "2 series of pictures: 1.jpg (1), img_1.jpg (1); expected one"),
        (["1.jpg", "001.jpg"], "two pictures of one number: 001.jpg and 1.jpg"),
        (["1.jpg", "1.png"], "two pictures of one number: 1.jpg and 1.png"),
        (["1.jpg", "3.jpg", "9.jpg"], "lacks 6 of 9 pictures from 1.jpg to 9.jpg: 2, 4 to 8."),
        (
            ["1403636579763555584.png", "1403636579813555456.png"],
            "lacks 49999871 of 49999873 pictures",
        ),
    ],
)
def test_names_that_tell_no_order_are_refused(names: list[str], words: str, tmp_path: Path) -> None:
    folder = touched(tmp_path / "clip", *names)
    assert words in refusal(folder)
    failures = ClipCache(tmp_path / "c", DecodeOptions(), workers=0).prepare([folder])
    assert words in failures[folder].reason


def test_each_picture_must_be_whole_and_of_one_size(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip")
    third = folder / "img_00003.png"
    data = third.read_bytes()
    third.write_bytes(data[: len(data) // 2])
    assert "its picture img_00003.png is damaged or cannot be read (Pillow: " in refusal(folder)
    third.write_bytes(b"")
    assert "its picture img_00003.png is no picture of the kinds JPEG, PNG" in refusal(folder)
    third.unlink()
    os.mkfifo(third)
    assert refusal(folder) == "its picture img_00003.png is a named pipe, not a file"
    with pytest.raises(VideoUnreadable, match=r"its picture img_00003.png is a named pipe"):
        clip_stamp(folder)
    third.unlink()
    Image.fromarray(numbered_picture(2, 48, 32)).save(third)
    expected = "its picture img_00003.png has another size or turn than those before it"
    assert expected in refusal(folder)
    # also where it is not asked for
    with pytest.raises(VideoUnreadable, match="has another size"):
        decode(folder, DecodeOptions(frames=1, size=32))


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_frames(tmp_path / "clip")
    assert "has 6144 pixels, more than 6000; --max-pixels raises" in refusal(folder, pixels=6000)
    assert "has more than 4 frames; --max-frames raises" in refusal(folder, frames=4)
    for most in (4000, 2000):  # a warning of Pillow, and its error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        assert "img_00001.png is larger than Pillow opens" in refusal(folder)


def one(folder: Path, image: Image.Image, name: str = "1.png", **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    image.save(folder / name, **options)
    return folder


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    plain = Image.fromarray(numbered_picture(3))
    for mode in ("1", "L", "LA", "P", "RGBA"):
        image = plain.convert(mode)
        options: dict[str, Any] = {"transparency": bytes(range(256))} if mode == "P" else {}
        (shown,) = read_frames(one(tmp_path / mode, image, **options), ALL)
        expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(shown, expected), mode


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("CMYK", "1.jpg", "has mode CMYK: convert it to 8-bit grey or RGB"),
        ("I;16", "1.png", "has 16 bits per value: convert it"),
    ],
)
def test_pictures_that_can_be_shown_in_several_ways_are_refused(
    mode: str, name: str, words: str, tmp_path: Path
) -> None:
    folder = one(tmp_path / "clip", Image.new(mode, (32, 32)), name)
    assert f"its picture {name} {words}" in refusal(folder)


def test_colours_of_16_bits_are_refused(tmp_path: Path) -> None:
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 32, 32, "rgb48be"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint16), format="rgb48be")
    (touched(tmp_path / "clip") / "1.png").write_bytes(b"".join(map(bytes, encoder.encode(frame))))
    assert "has 16 bits per value" in refusal(tmp_path / "clip")


def test_moving_pictures_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(numbered_picture(0))
    others = [Image.fromarray(numbered_picture(1))]
    folder = one(tmp_path / "clip", image, save_all=True, append_images=others)
    assert "holds several pictures" in refusal(folder)


def test_turns_are_applied(tmp_path: Path) -> None:
    image = Image.fromarray(numbered_picture(5))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    for name in ("1.png", "1.webp"):
        folder = one(tmp_path / name[2:], image, name, exif=exif, lossless=True)
        (shown,) = read_frames(folder, ALL)
        assert np.array_equal(shown, np.rot90(numbered_picture(5), -1)), name
    one(folder, image, "2.webp", lossless=True)
    assert "2.webp has another size or turn" in refusal(folder)


def test_what_is_in_a_picture_is_not_told_by_its_name(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 1)
    (folder / "img_00001.png").rename(folder / "img_00001.jpg")
    assert numbers_in(read_frames(folder, ALL)) == [0]
    Image.fromarray(numbered_picture(0)).save(folder / "img_00001.jpg", format="TIFF")
    assert "img_00001.jpg is no picture of the kinds JPEG, PNG, BMP, WEBP" in refusal(folder)


def test_a_damaged_picture_never_ends_in_another_error(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "clip"
    folder.mkdir()
    for name in ("1.png", "1.jpg", "1.bmp", "1.webp"):
        Image.fromarray(numbered_picture(7)).save(folder / name)
        whole = np.frombuffer((folder / name).read_bytes(), np.uint8)
        for _ in range(30):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 4)] = random.integers(0, 256, 4)
            (folder / name).write_bytes(damaged[: random.integers(1, len(whole) + 1)].tobytes())
            try:
                read_frames(folder, ALL)
            except VideoUnreadable as error:
                assert f"its picture {name} " in error.reason  # noqa: PT017 - it may be read
        (folder / name).unlink()


def test_a_jpeg_with_a_hole_is_refused_and_no_whole_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (16, 24, 3), np.uint8)).resize((96, 64))
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"quality": 30, "progressive": True},
        {"subsampling": 0, "optimize": True, "comment": b"x" * 999},
        {"restart_marker_blocks": 2},
    )
    for options in kinds:
        for image in (noise, noise.convert("L")):
            folder = one(tmp_path / "clip", image, "1.jpg", **options)
            read_frames(folder, ALL)
    file = one(tmp_path / "clip", noise, "1.jpg", quality=95) / "1.jpg"
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 800] = bytes(800)
    file.write_bytes(data)
    assert "its picture 1.jpg is damaged" in refusal(tmp_path / "clip")


def test_a_frame_is_known_by_its_name() -> None:
    frames = ("1.jpg", "img_00001.JPEG", "a b 2.webp")
    others = ("a.jpg", "1.mp4", "1", "img_1_left.png", ".jpg", "x\u0663.png")
    assert [name for name in (*frames, *others) if frame_folder.is_frame_name(name)] == list(frames)
