"""Reading clips: the frames asked for are exactly the frames returned.

Frame n of a clip is the n-th picture, in the order of showing, of a complete decode that conceals
nothing. PyAV decodes that way for every file. decord reads a file instead where no reason is known
why it might show anything else, where it agrees on the number of frames and on the first one, and
where its messages can be watched, which is in the worker processes of `fewshot_i2v.video.pool`.
Which of the two read a clip is therefore not to be seen in its pixels.

What cannot be noticed: damage that still decodes without any sign of it (decord's decoder, of 2018,
gives somewhat fewer signs than PyAV's), and MPEG-TS, MPEG-PS, ASF and FLV files that were cut off
between two frames, because their headers do not reliably say how long they are.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot_i2v._limits import FRAMES, PIXELS, raising
from fewshot_i2v.errors import ConfigError, UnknownNameError, VideoUnreadable
from fewshot_i2v.video._damage import watched
from fewshot_i2v.video._decord import NativeLog, Shape, decord_present, read_with_decord
from fewshot_i2v.video._pyav import Image, explained, opened, picture
from fewshot_i2v.video.frames import POLICIES, FrameIndices, check_count, frame_indices
from fewshot_i2v.video.probe import Probe, probe

BACKENDS = ("auto", "decord", "pyav")

READER_FAMILY = "ffmpeg-rgb24"
"""Names the pixels a reader gives: readers of one family give the same."""


@dataclass(frozen=True)
class DecodeOptions:
    """How a clip becomes an array.

    Args:
        frames: how many frames are taken, at least 1.
        policy: which ones; a name of `fewshot_i2v.video.frames.POLICIES`.
        stride: distance of neighbours for the policy `dense`, in frames.
        size: height and width of the result in pixels, 1..4096.
        crop: the central fraction of the short side that is kept, above 0 and at most 1. The short
            side is resized to `size / crop`, then the centre is cut out; 1.0 keeps all of it.
        max_pixels: clips with larger frames are refused.
        max_frames: clips with more frames are refused.

    Raises:
        ConfigError: if a value is outside its range.
        UnknownNameError: if the policy does not exist.
    """

    frames: int = 8
    policy: str = "segment-center"
    stride: int = 1
    size: int = 224
    crop: float = 0.875
    max_pixels: int = PIXELS
    max_frames: int = FRAMES

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "size", "max_pixels", "max_frames"):
            check_count(name, getattr(self, name))
        if self.policy not in POLICIES:
            raise UnknownNameError("frame policy", self.policy, POLICIES)
        if self.size > 4096:
            raise ConfigError(f"size is {self.size}: at most 4096 pixels are possible")
        number = isinstance(self.crop, (int, float)) and not isinstance(self.crop, bool)
        if not number or not 0 < self.crop <= 1:
            raise ConfigError(f"crop is {self.crop!r}: a fraction above 0 and at most 1 is needed")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of every decoded clip, (T, size, size, 3)."""
        return (self.frames, self.size, self.size, 3)

    def key(self) -> str:
        """Everything in these options that changes pixels, as one line of text."""
        policy = f"dense/{self.stride}" if self.policy == "dense" else self.policy
        return f"frames={self.frames} policy={policy} size={self.size} crop={float(self.crop)!r}"


def decode(
    path: Path,
    options: DecodeOptions | None = None,
    *,
    backend: str = "auto",
    log: NativeLog | None = None,
) -> Image:
    """Read the frames of a clip and bring them to one size.

    Each picture is resized with Pillow's antialiased bicubic filter, on 8-bit values, as CLIP's own
    preprocessing does. Only the chosen frames are kept, and those at their final size.

    Args:
        path: the clip.
        options: which frames, how large; the defaults if None.
        backend: "auto", "pyav" or "decord"; see `read_frames`.
        log: see `read_frames`.

    Returns:
        The clip (T, size, size, 3), uint8, red-green-blue.

    Raises:
        VideoUnreadable: if the frames cannot be had exactly.
        UnknownNameError: if the backend does not exist.
    """
    wanted = options or DecodeOptions()
    return read_frames(
        path,
        lambda total: frame_indices(wanted.policy, total, wanted.frames, stride=wanted.stride),
        shape=lambda image: _fit(path, image, wanted),
        backend=backend,
        log=log,
        max_pixels=wanted.max_pixels,
        max_frames=wanted.max_frames,
    )


def read_frames(
    path: Path,
    choose: Callable[[int], FrameIndices],
    *,
    shape: Shape = lambda image: image,
    backend: str = "auto",
    log: NativeLog | None = None,
    max_pixels: int = PIXELS,
    max_frames: int = FRAMES,
) -> np.ndarray:
    """Read chosen frames of a clip.

    Args:
        path: the clip.
        choose: given the true number of frames, the indices wanted, (T,), non-decreasing, each in
            0..number-1. It may be called twice.
        shape: what to do with each picture (H, W, 3) before it is kept.
        backend: "auto" reads with decord where that is exact and can be watched, else with PyAV.
            "decord" refuses what decord does not read exactly; "pyav" never uses decord.
        log: says how many bytes native code has written to standard error, which is where decord
            tells of damage, and nowhere else. Without it "auto" reads with PyAV, and "decord" is
            an error.
        max_pixels: clips with larger frames are refused.
        max_frames: clips with more frames are refused.

    Returns:
        What `shape` made of the pictures, stacked: (T, ...).

    Raises:
        VideoUnreadable: if the frames cannot be had exactly.
        UnknownNameError: if the backend does not exist.
        ConfigError: if decord is asked for where it cannot be watched.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("video backend", backend, BACKENDS)
    if backend == "decord" and log is None:
        raise ConfigError("backend 'decord' needs `log`: decord conceals damage otherwise")
    clip = probe(path, max_pixels=max_pixels, max_frames=max_frames)
    if backend != "pyav" and log is not None:
        found = _try_decord(clip, choose, shape, log)
        if found is not None:
            return np.stack(found)
        if backend == "decord":
            why = ", ".join(clip.doubts) or "decord is absent, or shows another clip than PyAV"
            raise VideoUnreadable(path, f"cannot be read exactly by decord ({why}): use PyAV")
    total, pictures = _decode_all(clip, choose(max(clip.frames, 1)), shape, max_pixels)
    if total != clip.frames:
        # one packet was not one frame: choose again, by the number that was really shown
        _, pictures = _decode_all(clip, choose(total), shape, max_pixels)
    return np.stack(pictures)


def _try_decord(
    clip: Probe, choose: Callable[[int], FrameIndices], shape: Shape, log: NativeLog
) -> list[np.ndarray] | None:
    if clip.doubts or not decord_present():
        return None
    return read_with_decord(clip, choose(clip.frames), shape, log)


def _decode_all(
    clip: Probe, indices: FrameIndices, shape: Shape, max_pixels: int
) -> tuple[int, list[np.ndarray]]:
    """Decode a clip to its end; the true number of frames, and the pictures if they exist."""
    wanted = {int(i) for i in indices}
    found: dict[int, np.ndarray] = {}
    total = 0
    with watched(clip.path), opened(clip.path, clip.demuxer) as (container, stream):
        # checked by the decoder before it sets memory aside; a header may announce smaller frames
        stream.codec_context.options |= {"max_pixels": str(max_pixels)}
        for packet in container.demux(stream):
            number = total if packet.pts is None else bisect.bisect_left(clip.times, packet.pts)
            with explained(clip.path, f"is damaged at frame {number} of {clip.frames}"):
                frames = packet.decode()
            for frame in frames:
                if frame.is_corrupt:
                    where = f"frame {total} of {clip.frames}"
                    raise VideoUnreadable(clip.path, f"is damaged: {where} is not whole")
                if total in wanted:
                    found[total] = shape(picture(clip.path, frame))
                total += 1
    if not total:
        raise VideoUnreadable(clip.path, "holds no frame that can be decoded")
    return total, [found[int(i)] for i in indices if int(i) in found]


def _fit(path: Path, image: Image, options: DecodeOptions) -> Image:
    """Resize the short side, then cut out the centre, as torchvision does for CLIP."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    short = max(options.size, round(options.size / options.crop))
    wide = math.floor(short * width / min(height, width))
    high = math.floor(short * height / min(height, width))
    if wide * high > options.max_pixels:
        reason = f"is too elongated ({width} x {height}) to be resized; {raising('pixels')}"
        raise VideoUnreadable(path, reason)
    resized = Pillow.fromarray(np.ascontiguousarray(image)).resize(
        (wide, high), Pillow.Resampling.BICUBIC
    )
    left, top = round((wide - options.size) / 2), round((high - options.size) / 2)
    cut = resized.crop((left, top, left + options.size, top + options.size))
    return np.asarray(cut, dtype=np.uint8)
