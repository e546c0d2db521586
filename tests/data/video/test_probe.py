"""What a file is told to be, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fewshot_i2v.data.video.probe import probe_clip
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video.made_videos import HEIGHT, WIDTH, numbers_in, write_video

Clips = Callable[[str], Path]

NOT_VIDEOS = {
    "empty": (b"", "is empty (0 bytes)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
    "hls": (b"#EXTM3U\n#EXTINF:1,\nother.mp4\n", "is a playlist (HLS)"),
    "hls with mark": (b"\xef\xbb\xbf#EXTM3U\nother.mp4\n", "is a playlist (HLS)"),
    "ffconcat": (b"ffconcat version 1.0\nfile other.mp4\n", "is a playlist (ffconcat)"),
    "pls": (b"[playlist]\nFile1=other.mp4\n", "is a playlist (PLS)"),
    "dash": (b"<?xml version='1.0'?><MPD><BaseURL>x</BaseURL></MPD>", "is a playlist (DASH)"),
    "sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "(SDP)"),
    "html": (b"\n<!DOCTYPE html><title>404</title>", "is a web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is a picture (SVG)"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(32), "is a picture (PNG)"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(32), "is a picture (JPEG)"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(32), "is a picture (WebP)"),
    "avif": (b"\0\0\0\x20ftypavif" + bytes(32), "is a picture (HEIF or AVIF)"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(32), "is an audio file (WAV)"),
    "zip": (b"PK\x03\x04" + bytes(32), "is a ZIP archive"),
    "text": (b"one,two\n1,2\n", "is a text file"),
    "rubbish": (b"\0\x01\x02\x03\x04rubbish", "(it begins with the bytes 00 01 02 03 04"),
}


@pytest.fixture
def closed_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reader may be handed the file."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the file was opened by a reader")

    monkeypatch.setattr(av, "open", refuse)


@pytest.mark.usefixtures("closed_av")
@pytest.mark.parametrize("kind", NOT_VIDEOS)
def test_other_content_is_refused_before_a_reader_sees_it(kind: str, tmp_path: Path) -> None:
    content, reason = NOT_VIDEOS[kind]
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoUnreadable) as caught:
        probe_clip(path)
    assert reason in caught.value.reason
    assert caught.value.path == str(path)


@pytest.mark.usefixtures("closed_av")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    reasons = {
        "folder.mp4": "is a folder, not a file",
        "pipe.mp4": "is a named pipe, not a file",
        "loop.mp4": "cannot be looked at",
        "endless.mp4": "is a device, not a file",
        "absent.mp4": "does not exist",
        "nul\0.mp4": "has a NUL character",
        "x" * 300: "cannot be looked at",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoUnreadable) as caught:
            probe_clip(tmp_path / name)
        assert reason in caught.value.reason


def test_a_file_is_known_by_its_content_whatever_its_name(clips: Clips, tmp_path: Path) -> None:
    for name, demuxer in (("h264.mp4", "mov,"), ("vfr.mkv", "matroska"), ("animated.gif", "gif")):
        path = tmp_path / "concat:clip.txt"
        path.write_bytes(clips(name).read_bytes())
        assert probe_clip(path).demuxer.startswith(demuxer)


def test_what_a_probe_tells(clips: Clips) -> None:
    found = probe_clip(clips("h264.mp4"))
    assert (found.width, found.height, found.frame_count) == (WIDTH, HEIGHT, 30)
    assert found.decord_doubts == ()
    assert numbers_in(found.first_frame[None]) == [0]
    gaps = np.diff(probe_clip(clips("vfr.mp4")).times)
    assert len(gaps) == 29
    assert gaps.min() > 0
    assert len(set(gaps.tolist())) > 5


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("mpeg4.mp4", "coding mpeg4"),
        ("packed.avi", "container avi"),
        ("h264.ts", "container mpegts"),
        ("av1.mkv", "coding av1"),
        ("vp9-odd.webm", "odd width or height"),
        ("ten-bit.mp4", "pixel format yuv420p10le"),
        ("interlaced.mp4", "interlaced"),
    ],
)
def test_reasons_not_to_trust_decord(name: str, doubt: str, clips: Clips) -> None:
    assert doubt in probe_clip(clips(name)).decord_doubts


@pytest.mark.parametrize(
    "name", ["h264.mp4", "front.mp4", "mpeg4.avi", "vfr.mkv", "vp9-odd.webm", "animated.gif"]
)
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_files_cut_off_are_refused(name: str, part: float, clips: Clips, tmp_path: Path) -> None:
    whole = clips(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(VideoUnreadable, match=r"is cut off: .* bytes are there, .* more"):
        probe_clip(path)


def _forget_length(content: bytes, name: str) -> bytes:
    """As a program that writes while recording: the length of the data is left open."""
    changed = bytearray(content)
    if name.endswith(".mp4"):
        start = changed.index(b"mdat") - 4
        changed[start : start + 4] = bytes(4)
    else:
        start = changed.index(b"\x18\x53\x80\x67") + 4
        changed[start : start + 8] = b"\x01" + b"\xff" * 7
    return bytes(changed)


@pytest.mark.parametrize("name", ["front.mp4", "vfr.mkv"])
def test_files_cut_off_are_refused_even_if_they_do_not_know_their_length(
    name: str, clips: Clips, tmp_path: Path
) -> None:
    content = _forget_length(clips(name).read_bytes(), name)
    path = tmp_path / name
    path.write_bytes(content)
    assert probe_clip(path).frame_count == 30
    for part in (0.6, 0.7, 0.8):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(VideoUnreadable, match=r"cut off|is damaged"):
            probe_clip(path)


def test_limits(clips: Clips) -> None:
    with pytest.raises(VideoUnreadable, match="6144 pixels, more than 6143; --max-pixels"):
        probe_clip(clips("h264.mp4"), ClipLimits(pixels=WIDTH * HEIGHT - 1))
    with pytest.raises(VideoUnreadable, match="more than 29 frames; --max-frames"):
        probe_clip(clips("h264.mp4"), ClipLimits(frames=29))
    assert probe_clip(clips("h264.mp4"), ClipLimits(30, WIDTH * HEIGHT)).frame_count == 30


def test_sound_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoUnreadable, match="holds no video stream"):
        probe_clip(path)


def test_the_first_frame_is_turned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", "libx264", 2, turn=(90, False, False))
    found = probe_clip(path)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert found.first_frame.shape == (WIDTH, HEIGHT, 3)
