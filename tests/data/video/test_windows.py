"""Windows of long videos: the right frames, each made once, in one pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_i2v.data.video import windows as windows_module
from fewshot_i2v.data.video.pyav_stream import RgbImage
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.windows import WindowPlan, plan_windows, read_windows
from fewshot_i2v.errors import ConfigError, VideoUnreadable
from tests.data.video.made_videos import numbers_in, write_video

OPTIONS = DecodeOptions(frames=4, size=64, crop=1.0)
RATE = 25


def _video(path: Path, frames: int = 100, **more: object) -> Path:
    return write_video(path, "mpeg4", frames, size=(64, 64), **more)  # type: ignore[arg-type]


def _watch_pictures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times of the frames that are made into pictures, from now on."""
    made: list[int] = []
    original = windows_module.to_rgb

    def _to_rgb(path: Path, frame: Any) -> RgbImage:  # noqa: ANN401 - PyAV's frame
        made.append(frame.pts)
        return original(path, frame)

    monkeypatch.setattr(windows_module, "to_rgb", _to_rgb)
    return made


@pytest.mark.parametrize(("window", "stride"), [(1.0, 0.5), (1.0, 1.0), (0.4, 0.3), (2.0, 0.12)])
def test_each_window_has_the_pictures_shown_at_its_times(
    tmp_path: Path, window: float, stride: float
) -> None:
    path = _video(tmp_path / "v.mp4")
    plan = plan_windows(path, window, stride)
    assert plan.duration == pytest.approx(4.0)
    found = list(read_windows(path, plan, OPTIONS))
    assert len(found) == plan.count == 1 + int((4.0 - window) / stride + 1e-3)
    for k, part in enumerate(found):
        assert (part.start, part.end) == pytest.approx((k * stride, k * stride + window))
        times = k * stride + (np.arange(4) + 0.5) * window / 4
        assert numbers_in(part.frames) == np.floor(times * RATE + 1e-6).astype(int).tolist()


def test_frames_that_are_not_evenly_spaced(tmp_path: Path) -> None:
    times = [0, 100, 900, 1000, 1900, 2000]  # milliseconds
    path = _video(tmp_path / "v.mkv", 6, times=times)
    plan = WindowPlan.of(2.0, 2.0, 1.0)
    (part,) = read_windows(path, plan, OPTIONS)
    # at 0.25, 0.75, 1.25 and 1.75 s a player shows the frames that began before
    assert numbers_in(part.frames) == [1, 1, 3, 3]


def test_a_picture_is_made_once_however_many_windows_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _video(tmp_path / "v.mp4")
    made = _watch_pictures(monkeypatch)
    plan = plan_windows(path, 1.0, 0.25)
    shown = {
        number for part in read_windows(path, plan, OPTIONS) for number in numbers_in(part.frames)
    }
    assert len(made) == len(set(made)) == len(shown)
    assert len(shown) < plan.count * OPTIONS.frames


def test_windows_come_before_the_video_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _video(tmp_path / "v.mp4")
    made = _watch_pictures(monkeypatch)
    first = next(read_windows(path, plan_windows(path, 1.0, 0.5), OPTIONS))
    assert first.end == 1.0
    assert len(made) <= 8, "memory does not grow with the length of the video"


def test_a_short_video_is_one_window(tmp_path: Path) -> None:
    path = _video(tmp_path / "v.mp4", 20)
    plan = plan_windows(path, 5.0, 1.0)
    (part,) = read_windows(path, plan, OPTIONS)
    assert (part.start, part.end) == (0, pytest.approx(0.8))
    assert plan_windows(path, 50.0, 12.5).stride == pytest.approx(0.8), "as long as the video"
    assert numbers_in(part.frames) == [2, 7, 12, 17]


@pytest.mark.parametrize(
    ("window", "stride"),
    [(0.0, 1.0), (1.0, -1.0), (1.0, 1e-9), (1.0, 2.0), (float("inf"), 1.0), (float("nan"), 1.0)],
)
def test_impossible_lengths_are_refused(tmp_path: Path, window: float, stride: float) -> None:
    with pytest.raises(ConfigError, match="stride"):
        plan_windows(_video(tmp_path / "v.mp4", 50), window, stride)


def test_frames_that_are_all_shown_at_once_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _video(tmp_path / "v.mkv", 3)
    probe = replace(windows_module.probe_clip(path), times=(0, 0, 0))
    monkeypatch.setattr(windows_module, "probe_clip", lambda *_: probe)
    with pytest.raises(VideoUnreadable, match=r"v\.mkv.*at the same time"):
        plan_windows(path, 1.0, 0.5)


def test_what_has_no_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    with pytest.raises(VideoUnreadable):
        plan_windows(tmp_path / "frames", 1.0, 1.0)
    damaged = tmp_path / "cut.mp4"
    damaged.write_bytes(_video(tmp_path / "v.mp4").read_bytes()[:3000])
    with pytest.raises(VideoUnreadable):
        plan_windows(damaged, 1.0, 1.0)
