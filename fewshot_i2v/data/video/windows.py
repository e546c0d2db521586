"""Windows of a long video: one decode pass, frames shared between windows that overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from pathlib import Path
from sys import maxsize
from typing import Any

import numpy as np

from fewshot_i2v.data.video.damage import check_ffmpeg_log
from fewshot_i2v.data.video.frame_folder import is_frame_folder
from fewshot_i2v.data.video.probe import is_shown_before, probe_clip
from fewshot_i2v.data.video.pyav_stream import RgbImage, open_stream, to_rgb, translate_errors
from fewshot_i2v.data.video.reader import DecodeOptions, fit_picture
from fewshot_i2v.errors import ConfigError, VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits

_MAX_WINDOWS = 1_000_000


@dataclass(frozen=True, eq=False)
class VideoWindow:
    """Frames of a part of a video.

    Attributes:
        number: of the window, from 0.
        start: seconds from the first frame.
        end: likewise.
        frames: (T, size, size, 3) uint8, from the middles of T equal segments of the window.
    """

    number: int
    start: float
    end: float
    frames: RgbImage


@dataclass(frozen=True)
class WindowPlan:
    """Where the windows of a video are.

    Attributes:
        duration: of the video, in seconds.
        window: length of a window in seconds; that of the video where it is shorter.
        stride: seconds from the start of a window to that of the next; at most the window.
        count: number of windows.
    """

    duration: float
    window: float
    stride: float
    count: int

    @classmethod
    def of(cls, duration: float, window: float, stride: float) -> WindowPlan:
        """Plans as many windows as fit; a shorter video is one window.

        Raises:
            ConfigError: when a length is not above 0, or there would be too many windows.
        """
        _check_lengths(window, stride)
        window = min(window, duration)
        # a longer one would leave the middle of its first part outside the only window
        stride = min(stride, window)
        # a window that ends within a thousandth of a stride after the video still fits
        count = 1 + int((duration - window) / stride + 1e-3)
        if count > _MAX_WINDOWS:
            raise ConfigError(
                f"stride: {stride:g} s makes {count} windows of {duration:.0f} s; expected at most "
                f"{_MAX_WINDOWS}"
            )
        return cls(duration, window, stride, count)

    @classmethod
    def endless(cls, window: float, stride: float) -> WindowPlan:
        """Plans the windows of a stream, which has no known end.

        Raises:
            ConfigError: when a length is not above 0.
        """
        _check_lengths(window, stride)
        return cls(inf, window, stride, maxsize)

    def frame_times(self, frames: int) -> Iterator[tuple[float, int, int]]:
        """Yields time, window and position of every frame of every window, in order of time."""
        step = self.window / frames
        pending: list[tuple[float, int, int]] = []
        following = 0
        while pending or following < self.count:
            first_time = following * self.stride + 0.5 * step
            if following < self.count and (not pending or first_time <= pending[0][0]):
                heappush(pending, (first_time, following, 0))
                following += 1
                continue
            time, k, i = heappop(pending)
            yield time, k, i
            if i + 1 < frames:
                heappush(pending, (k * self.stride + (i + 1.5) * step, k, i + 1))


def _check_lengths(window: float, stride: float) -> None:
    if not (0 < stride <= window < inf):
        raise ConfigError(
            f"window and stride: got {window:g} and {stride:g} s; expected seconds above 0, "
            "and a stride of at most the window, so that no part is left out"
        )


def plan_windows(
    path: str | Path, window: float, stride: float, limits: ClipLimits = DEFAULT_LIMITS
) -> WindowPlan:
    """Plans the windows of a video, without decoding it.

    Args:
        path: a video file.
        window: length of a window in seconds.
        stride: seconds from one to the next.
        limits: larger pictures or more frames are refused.

    Raises:
        VideoUnreadable: if the video cannot be read, does not say when its frames are shown, or
            shows all of them at the same time.
        ConfigError: for impossible lengths.
    """
    path = Path(path)
    if is_frame_folder(path):
        raise VideoUnreadable(path, "is a folder of pictures, which does not say how fast they are")
    clip = probe_clip(path, limits)
    if not clip.times:
        raise VideoUnreadable(path, "does not say when its frames are shown; windows need that")
    with open_stream(clip.path, clip.demuxer) as (_, stream):
        seconds = np.array(clip.times, dtype=np.float64) * float(stream.time_base or 0)
    steps = np.diff(seconds)
    last = float(np.median(steps)) if len(steps) else 0.04
    duration = float(seconds[-1] - seconds[0]) + last
    if duration <= 0:
        reason = f"shows all of its {len(seconds)} frames at the same time; windows need a length"
        raise VideoUnreadable(path, reason)
    return WindowPlan.of(duration, window, stride)


def read_windows(
    path: Path,
    plan: WindowPlan,
    options: DecodeOptions,
    limits: ClipLimits = DEFAULT_LIMITS,
) -> Iterator[VideoWindow]:
    """Reads the windows of a video in one decode pass; memory does not grow with its length.

    At each time the picture is taken that a player shows then. Each picture is resized once,
    however many windows it is in.

    Args:
        path: a video file.
        plan: from `plan_windows`.
        options: number of frames, size and crop; the frames are always the middles of segments.
        limits: as for `plan_windows`.

    Yields:
        The windows, in order.

    Raises:
        VideoUnreadable: where damage is met; the windows before it were yielded.
    """
    return assemble_windows(_shown_pictures(path, options, limits), plan, options.frames)


ShownPicture = tuple[Callable[[], RgbImage], float | None]
"""A picture, as a function that makes it, and when the next one is shown; None after the last."""


def assemble_windows(
    pictures: Iterable[ShownPicture], plan: WindowPlan, frames: int
) -> Iterator[VideoWindow]:
    """Assembles windows from pictures in the order of showing; each is made at most once.

    Args:
        pictures: their times are in seconds from the first one.
        plan: where the windows are.
        frames: of a window.

    Yields:
        The windows, in order; the last ones only where the pictures reach that far.
    """
    times = plan.frame_times(frames)
    due = next(times, None)
    slots: dict[int, list[RgbImage]] = {}
    for make, end in pictures:
        picture: RgbImage | None = None
        while due is not None and (end is None or due[0] < end):
            _, window, slot = due
            picture = make() if picture is None else picture
            members = slots.setdefault(window, [])
            members.append(picture)
            if slot == frames - 1:
                start = window * plan.stride
                yield VideoWindow(window, start, start + plan.window, np.stack(slots.pop(window)))
            due = next(times, None)


def _shown_pictures(
    path: Path, options: DecodeOptions, limits: ClipLimits
) -> Iterator[ShownPicture]:
    """Yields the pictures of a file; the times are in seconds from the first one."""
    clip = probe_clip(path, limits)
    first_time: float | None = None
    previous: Any = None
    with check_ffmpeg_log(clip.path), open_stream(clip.path, clip.demuxer) as (container, stream):
        margins = (clip.width + 128) * (clip.height + 128)
        stream.codec_context.options |= {"max_pixels": str(max(limits.pixels, margins))}
        time_base = float(stream.time_base or 0)
        for packet in container.demux(stream):
            if is_shown_before(packet, clip.decodable_from):
                continue
            with translate_errors(clip.path, "is damaged"):
                frames = packet.decode()
            for frame in frames:
                if frame.is_corrupt:
                    raise VideoUnreadable(clip.path, "is damaged: a frame is not whole")
                if frame.pts is None:
                    raise VideoUnreadable(clip.path, "has a frame without a time")
                time = frame.pts * time_base
                first_time = time if first_time is None else first_time
                if previous is not None:
                    yield picture_maker(path, previous, options, limits), time - first_time
                previous = frame
    if previous is not None:
        yield picture_maker(path, previous, options, limits), None


def picture_maker(
    path: Path,
    frame: Any,  # noqa: ANN401 - PyAV's frame
    options: DecodeOptions,
    limits: ClipLimits,
) -> Callable[[], RgbImage]:
    """Returns a function that makes the picture of a decoded frame, resized and cropped."""

    def _make() -> RgbImage:
        return fit_picture(path, to_rgb(path, frame), options, limits.pixels)

    return _make
