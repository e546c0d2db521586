"""Reading clips: the frames returned are exactly the frames requested.

Frame n of a clip is the n-th picture, in the order of showing, of a complete decode that conceals
nothing. PyAV decodes every file that way, from its first packet to its last, on every platform.
Nothing is skipped and nothing seeks: whether a key frame is a safe position to start from cannot
be determined without decoding what lies before it (open GOP, intra refresh, fragments).

decord is there for comparisons with programs that read through it, and reads only when requested
(`backend="decord"`). Its frames are the same; single values can differ by 1 or 2 grey levels,
since its conversion to RGB is an older one. It refuses what it does not read exactly.

Not detected: damage that still decodes without any sign of it, and MPEG-TS, MPEG-PS, ASF and FLV
files that were cut off between two frames, because their headers do not reliably give their
length.
"""

from __future__ import annotations

import bisect
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot_i2v.data.video.damage import check_ffmpeg_log
from fewshot_i2v.data.video.frame_folder import is_frame_folder, read_frame_folder
from fewshot_i2v.data.video.frame_sampling import POLICIES, FrameIndices, check_count, frame_indices
from fewshot_i2v.data.video.probe import CUT_REASON, ClipProbe, is_shown_before, probe_clip
from fewshot_i2v.data.video.pyav_stream import RgbImage, open_stream, to_rgb, translate_errors
from fewshot_i2v.errors import ConfigError, UnknownNameError, VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_MAX_FRAMES, DEFAULT_MAX_PIXELS, limit_hint

FrameTransform = Callable[[np.ndarray], np.ndarray]
NativeLog = Callable[[], int]
"""Says how many bytes native code has written to standard error so far."""

BACKENDS = ("pyav", "decord")

READER_FAMILY = "strict-rgb24"
"""Names what the readers give: changed when an older version gave other frames or pixels."""

_MAX_GREY_DIFFERENCE = 3
"""Largest difference of a value, in grey levels, between the RGB of two FFmpeg versions."""


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
        max_pixels: clips with larger frames are refused.
        max_frames: clips with more frames are refused.
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
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_frames: int = DEFAULT_MAX_FRAMES
    backend: str = "pyav"

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "size", "max_pixels", "max_frames"):
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
    path: Path, options: DecodeOptions | None = None, *, log: NativeLog | None = None
) -> RgbImage:
    """Read the frames of a clip and resize them to one size.

    Each picture is resized with Pillow's antialiased bicubic filter, on 8-bit values, as CLIP's own
    preprocessing does. Only the chosen frames are stored, at their final size.

    Args:
        path: the clip.
        options: which frames, how large, by which back end; the defaults if None.
        log: see `read_frames`.

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
        transform=lambda image: _fit(path, image, resolved),
        backend=resolved.backend,
        log=log,
        max_pixels=resolved.max_pixels,
        max_frames=resolved.max_frames,
    )


def _fit(path: Path, image: RgbImage, options: DecodeOptions) -> RgbImage:
    """Resize the short side, then cut out the centre, as torchvision does for CLIP."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    short_side = max(options.size, round(options.size / options.crop))
    new_width = math.floor(short_side * width / min(height, width))
    new_height = math.floor(short_side * height / min(height, width))
    if new_width * new_height > options.max_pixels:
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
    log: NativeLog | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_frames: int = DEFAULT_MAX_FRAMES,
) -> np.ndarray:
    """Read chosen frames of a clip.

    Args:
        path: the clip: a video file, or a folder of numbered pictures, which no back end reads.
        choose: maps the true number of frames to the indices wanted, (T,), non-decreasing,
            each in 0..number-1. It may be called twice.
        transform: applied to each picture (H, W, 3) before it is stored.
        backend: "pyav", or "decord", which refuses what it does not read exactly.
        log: returns how many bytes native code has written to standard error, which is the only way
            in which decord reports damage: without it decord is refused.
        max_pixels: clips with larger frames are refused.
        max_frames: clips with more frames are refused.

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
        return read_frame_folder(
            path, choose, transform=transform, max_pixels=max_pixels, max_frames=max_frames
        )
    clip = probe_clip(path, max_pixels=max_pixels, max_frames=max_frames)
    if backend == "decord":
        return np.stack(read_with_decord(clip, choose(clip.frame_count), transform, log))
    total, pictures = _decode_all(clip, choose(max(clip.frame_count, 1)), transform, max_pixels)
    if total != clip.frame_count:
        # one packet was not one frame: choose again, by the number that was really shown
        _, pictures = _decode_all(clip, choose(total), transform, max_pixels)
    return np.stack(pictures)


def count_frames(
    path: str, max_frames: int = DEFAULT_MAX_FRAMES, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[int, str]:
    """Decode every frame of a clip, and return their number.

    Args:
        path: the clip.
        max_frames: clips with more frames are refused.
        max_pixels: clips with larger frames are refused.

    Returns:
        Number of frames, and a description of oddities.

    Raises:
        VideoUnreadable: if not all frames can be decoded.
    """
    if is_frame_folder(Path(path)):
        # of a folder only the pictures that are chosen are decoded whole
        pixels = read_frame_folder(
            Path(path),
            lambda total: np.arange(total, dtype=np.int64),
            transform=lambda image: image[:1, :1].copy(),
            max_pixels=max_pixels,
            max_frames=max_frames,
        )
        return len(pixels), ""
    clip = probe_clip(Path(path), max_pixels=max_pixels, max_frames=max_frames)
    total, _ = _decode_all(clip, np.zeros(1, np.int64), lambda image: image[:1, :1], max_pixels)
    return total, "; ".join(clip.notes)


def _decode_all(
    clip: ClipProbe, indices: FrameIndices, transform: FrameTransform, max_pixels: int
) -> tuple[int, list[np.ndarray]]:
    """Decode a clip to its end; returns the true number of frames, and the selected pictures."""
    wanted = {int(i) for i in indices}
    selected: dict[int, np.ndarray] = {}
    total = n_key_frames = 0
    with check_ffmpeg_log(clip.path), open_stream(clip.path, clip.demuxer) as (container, stream):
        # checked by the decoder before it sets memory aside; a header may announce smaller frames.
        # It counts the margins of its buffers, too
        margins = (clip.width + 128) * (clip.height + 128)
        stream.codec_context.options |= {"max_pixels": str(max(max_pixels, margins))}
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


def decord_present() -> bool:
    """Whether decord is installed: it has no wheels for macOS and for Linux on Arm."""
    return importlib.util.find_spec("decord") is not None


def read_with_decord(
    clip: ClipProbe, indices: FrameIndices, transform: FrameTransform, log: NativeLog | None
) -> list[np.ndarray]:
    """Read frames through decord, if it shows exactly the right ones.

    decord conceals damage and reports it on standard error alone; its skipping and its seeking
    start again from key frames, and give wrong frames where pictures reach beyond them. So every
    frame is taken in order, any message refuses the clip, and the number of frames and the first
    frame must be those of the strict decoder.

    Arguments and result are those of `read_frames`.

    Raises:
        VideoUnreadable: if decord is not reliable for this file.
        ConfigError: if decord is not installed, or cannot be watched.
    """
    if not decord_present():
        raise ConfigError("video.backend is decord, which is not installed here: use pyav")
    if log is None:
        raise ConfigError("backend 'decord' needs `log`: decord conceals damage otherwise")
    if clip.decord_doubts:
        raise _refusal(clip, ", ".join(clip.decord_doubts))
    import decord

    log_bytes_before = log()
    try:
        reader = decord.VideoReader(str(clip.path.absolute()), num_threads=1)
        if len(reader) != clip.frame_count:
            raise _refusal(clip, f"it counts {len(reader)} frames of {clip.frame_count}")
        pictures = _decode_pictures(reader, clip, {int(i) for i in indices}, transform)
        # this also ends decord's threads, so that their last words are in the log
        del reader
    except (decord.DECORDError, RuntimeError, StopIteration, IndexError, ValueError) as error:
        raise _refusal(clip, f"it fails with {type(error).__name__}") from error
    if log() != log_bytes_before:
        raise _refusal(clip, "it complains of damage")
    return [pictures[int(i)] for i in indices]


def _refusal(clip: ClipProbe, reason: str) -> VideoUnreadable:
    return VideoUnreadable(
        clip.path, f"cannot be read exactly by decord ({reason}): use video.backend pyav"
    )


def _decode_pictures(
    reader: object, clip: ClipProbe, wanted: set[int], transform: FrameTransform
) -> dict[int, np.ndarray]:
    pictures = {}
    for index in range(clip.frame_count):
        frame = reader.next()  # type: ignore[attr-defined]
        if index and index not in wanted:
            continue
        picture = frame.asnumpy()
        if index == 0 and not _nearly_equal(picture, clip.first_frame):
            raise _refusal(clip, "its first frame is another one")
        if index in wanted:
            pictures[index] = transform(picture)
    return pictures


def _nearly_equal(picture: np.ndarray, expected: np.ndarray) -> bool:
    if picture.shape != expected.shape:
        return False
    return int(np.abs(picture.astype(np.int16) - expected).max()) <= _MAX_GREY_DIFFERENCE
