"""Reading clips: the frames returned are exactly the frames requested.

Frame n of a clip is the n-th picture, in the order of showing, of a complete decode that conceals
nothing. PyAV decodes every file that way, from its first packet to its last, on every platform.
Nothing is skipped and nothing seeks: whether a key frame is a safe position to start from cannot
be determined without decoding what lies before it (open GOP, intra refresh, fragments).

Only when requested (`backend="decord"`), `decord_reader.py` reads.

Not detected: damage that still decodes without any sign of it, and MPEG-TS, MPEG-PS, ASF and FLV
files that were cut off between two frames, because their headers do not reliably give their
length.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.data.video.damage import check_ffmpeg_log
from fewshot_i2v.data.video.decord_reader import read_with_decord
from fewshot_i2v.data.video.frame_folder import is_frame_folder, read_frame_folder
from fewshot_i2v.data.video.frame_sampling import POLICIES, FrameIndices, check_count, frame_indices
from fewshot_i2v.data.video.probe import CUT_REASON, ClipProbe, is_shown_before, probe_clip
from fewshot_i2v.data.video.pyav_stream import (
    FrameTransform,
    RgbImage,
    open_stream,
    to_rgb,
    translate_errors,
)
from fewshot_i2v.errors import ConfigError, UnknownNameError, VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits, limit_hint

BACKENDS = ("pyav", "decord")

READER_FAMILY = "strict-rgb24"
"""Names what the readers give: changed when an older version gave other frames or pixels."""


@dataclass(frozen=True)
class DecodeOptions:
    """How a clip becomes an array.

    Args:
        frames: how many frames are taken, at least 1.
        policy: which frames; a name of `fewshot_i2v.data.video.frame_sampling.POLICIES`.
        stride: distance of neighbours for the policy `dense`, in frames.
        size: height and width of the result in pixels, 1..4096.
        crop: the central fraction of the short side that is used, above 0 and at most 1. The short
            side is resized to `size / crop`, then the centre is cropped; 1.0 uses all of it.
        backend: "pyav", or "decord" for pixels as programs see them that read through decord.

    Raises:
        ConfigError: if a value is outside its range.
        UnknownNameError: if there is no such policy or backend.
    """

    frames: int = 8
    policy: str = "segment-center"
    stride: int = 1
    size: int = 224
    crop: float = 0.875
    backend: str = "pyav"

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "size"):
            check_count(name, getattr(self, name))
        if self.policy not in POLICIES:
            raise UnknownNameError("frame policy", self.policy, POLICIES)
        if self.backend not in BACKENDS:
            raise UnknownNameError("video backend", self.backend, BACKENDS)
        if self.size > 4096:
            raise ConfigError(f"size is {self.size}: at most 4096 pixels are possible")
        is_number = isinstance(self.crop, (int, float)) and not isinstance(self.crop, bool)
        if not is_number or not 0 < self.crop <= 1:
            raise ConfigError(f"crop is {self.crop!r}: a fraction above 0 and at most 1 is needed")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of every decoded clip, (T, size, size, 3)."""
        return (self.frames, self.size, self.size, 3)

    def settings_key(self) -> str:
        """Return every option that changes pixels, as one line of text."""
        policy = f"dense/{self.stride}" if self.policy == "dense" else self.policy
        line = f"frames={self.frames} policy={policy} size={self.size} crop={float(self.crop)!r}"
        return line if self.backend == "pyav" else f"{line} backend={self.backend}"


def decode(
    path: Path, options: DecodeOptions | None = None, limits: ClipLimits = DEFAULT_LIMITS
) -> RgbImage:
    """Read the frames of a clip and resize them to one size.

    Each picture is resized with Pillow's antialiased bicubic filter, on 8-bit values, as CLIP's own
    preprocessing does. Only the chosen frames are stored, at their final size.

    Args:
        path: the clip.
        options: which frames, how large, by which back end; the defaults if None.
        limits: clips with more frames or larger ones are refused.

    Returns:
        The clip (T, size, size, 3), uint8, red-green-blue.

    Raises:
        VideoUnreadable: if the frames cannot be read exactly.
        ConfigError: if decord is requested where it cannot be watched, or is not installed.
    """
    resolved = options or DecodeOptions()
    return read_frames(
        path,
        lambda total: frame_indices(
            resolved.policy, total, resolved.frames, stride=resolved.stride
        ),
        transform=lambda image: fit_picture(path, image, resolved, limits.pixels),
        backend=resolved.backend,
        limits=limits,
    )


def fit_picture(path: Path, image: RgbImage, options: DecodeOptions, max_pixels: int) -> RgbImage:
    """Resize the short side, then cut out the centre, as torchvision does for CLIP."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    short_side = max(options.size, round(options.size / options.crop))
    new_width = math.floor(short_side * width / min(height, width))
    new_height = math.floor(short_side * height / min(height, width))
    if new_width * new_height > max_pixels:
        reason = f"is too elongated ({width} x {height}) to be resized; {limit_hint('pixels')}"
        raise VideoUnreadable(path, reason)
    resized = Pillow.fromarray(np.ascontiguousarray(image)).resize(
        (new_width, new_height), Pillow.Resampling.BICUBIC
    )
    left, top = round((new_width - options.size) / 2), round((new_height - options.size) / 2)
    cropped = resized.crop((left, top, left + options.size, top + options.size))
    return np.asarray(cropped, dtype=np.uint8)


def read_frames(
    path: Path,
    choose: Callable[[int], FrameIndices],
    *,
    transform: FrameTransform = lambda image: image,
    backend: str = "pyav",
    limits: ClipLimits = DEFAULT_LIMITS,
) -> np.ndarray:
    """Read chosen frames of a clip.

    Args:
        path: the clip: a video file, or a folder of numbered pictures, which no back end reads.
        choose: maps the true number of frames to the indices wanted, (T,), non-decreasing,
            each in 0..number-1. It may be called twice.
        transform: applied to each picture (H, W, 3) before it is stored.
        backend: "pyav", or "decord", which refuses what it does not read exactly.
        limits: clips with more frames or larger ones are refused.

    Returns:
        The transformed pictures, stacked: (T, ...).

    Raises:
        VideoUnreadable: if the frames cannot be read exactly.
        UnknownNameError: if the backend does not exist.
        ConfigError: if decord is requested where it cannot be watched, or is not installed.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("video backend", backend, BACKENDS)
    if is_frame_folder(path):
        return read_frame_folder(path, choose, transform, limits)
    clip = probe_clip(path, limits)
    if backend == "decord":
        return np.stack(read_with_decord(clip, choose(clip.frame_count), transform))
    total, pictures = _decode_all(clip, choose(max(clip.frame_count, 1)), transform, limits)
    if total != clip.frame_count:
        # one packet was not one frame: choose again, by the number that was really shown
        _, pictures = _decode_all(clip, choose(total), transform, limits)
    return np.stack(pictures)


def count_frames(path: str, limits: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """Decode every frame of a clip, and return their number.

    Called in the worker processes; `limits` are the fields of `ClipLimits`.

    Returns:
        Number of frames, and a description of oddities.

    Raises:
        VideoUnreadable: if not all frames can be decoded.
    """
    clip_limits = ClipLimits(**limits or {})
    if is_frame_folder(Path(path)):
        # of a folder only the pictures that are chosen are decoded whole
        pixels = read_frame_folder(
            Path(path),
            lambda total: np.arange(total, dtype=np.int64),
            lambda image: image[:1, :1].copy(),
            clip_limits,
        )
        return len(pixels), ""
    clip = probe_clip(Path(path), clip_limits)
    total, _ = _decode_all(clip, np.zeros(1, np.int64), lambda image: image[:1, :1], clip_limits)
    return total, "; ".join(clip.notes)


def _decode_all(
    clip: ClipProbe, indices: FrameIndices, transform: FrameTransform, limits: ClipLimits
) -> tuple[int, list[np.ndarray]]:
    """Decode a clip to its end; returns the true number of frames, and the selected pictures."""
    wanted = {int(i) for i in indices}
    selected: dict[int, np.ndarray] = {}
    total = n_key_frames = 0
    with check_ffmpeg_log(clip.path), open_stream(clip.path, clip.demuxer) as (container, stream):
        # checked by the decoder before it sets memory aside; a header may announce smaller frames.
        # It counts the margins of its buffers, too
        margins = (clip.width + 128) * (clip.height + 128)
        stream.codec_context.options |= {"max_pixels": str(max(limits.pixels, margins))}
        for packet in container.demux(stream):
            if is_shown_before(packet, clip.decodable_from):
                continue
            n_key_frames += packet.is_keyframe
            number = total if packet.pts is None else bisect.bisect_left(clip.times, packet.pts)
            damage = f"is damaged at frame {number} of {clip.frame_count}"
            with translate_errors(
                clip.path, CUT_REASON if clip.starts_mid_stream and n_key_frames <= 1 else damage
            ):
                frames = packet.decode()
            for frame in frames:
                if frame.is_corrupt:
                    position = f"frame {total} of {clip.frame_count}"
                    raise VideoUnreadable(clip.path, f"is damaged: {position} is not whole")
                if total in wanted:
                    selected[total] = transform(to_rgb(clip.path, frame))
                total += 1
    if not total:
        raise VideoUnreadable(clip.path, "holds no frame that can be decoded")
    return total, [selected[int(i)] for i in indices if int(i) in selected]
