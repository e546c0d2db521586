"""Reading clips: the frames asked for are exactly the frames returned.

Frame n of a clip is the n-th picture, in the order of showing, of a complete decode that conceals
nothing. PyAV decodes every file that way, from its first packet to its last, on every platform.
Nothing is skipped and nothing seeks: whether a key frame is a safe place to start from cannot be
told without decoding what lies before it (open GOP, intra refresh, fragments).

decord is there for comparisons with programs that read through it, and reads only when it is asked
for (`backend="decord"`). Its frames are the same ones; single values can differ by 1 or 2 grey
levels, since its conversion to RGB is an older one. It refuses what it does not read exactly.

What cannot be noticed: damage that still decodes without any sign of it, and MPEG-TS, MPEG-PS, ASF
and FLV files that were cut off between two frames, because their headers do not reliably say how
long they are.
"""

from __future__ import annotations

import bisect
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot_i2v.data.video.damage import watched
from fewshot_i2v.data.video.frame_folder import is_folder, read_frame_folder
from fewshot_i2v.data.video.frame_sampling import POLICIES, FrameIndices, check_count, frame_indices
from fewshot_i2v.data.video.probe import CUT, Probe, before, probe
from fewshot_i2v.data.video.pyav_stream import Image, explained, opened, picture
from fewshot_i2v.errors import ConfigError, UnknownNameError, VideoUnreadable
from fewshot_i2v.utils.limits import FRAMES, PIXELS, raising

Shape = Callable[[np.ndarray], np.ndarray]
NativeLog = Callable[[], int]
"""Says how many bytes native code has written to standard error so far."""

_ROUNDING = 3
"""Largest difference of a value, in grey levels, between the RGB of two FFmpeg versions."""


def decord_present() -> bool:
    """Whether decord is installed: it has no wheels for macOS and for Linux on Arm."""
    return importlib.util.find_spec("decord") is not None


def read_with_decord(
    clip: Probe, indices: FrameIndices, shape: Shape, log: NativeLog | None
) -> list[np.ndarray]:
    """Read frames through decord, if it shows exactly the right ones.

    decord conceals damage and says so on standard error alone; its skipping and its seeking start
    again from key frames, and give other frames than asked for where pictures reach beyond them. So
    every frame is taken in order, any message refuses the clip, and the number of frames and the
    first one must be those of the strict decoder.

    Args:
        clip: what is known of the clip.
        indices: the frames wanted, (T,), non-decreasing.
        shape: what to do with each picture (H, W, 3) before it is kept.
        log: how to see whether native code has complained.

    Returns:
        T shaped pictures.

    Raises:
        VideoUnreadable: if decord cannot be relied upon for this file.
        ConfigError: if decord is not installed, or cannot be watched.
    """
    if not decord_present():
        raise ConfigError("video.backend is decord, which is not installed here: use pyav")
    if log is None:
        raise ConfigError("backend 'decord' needs `log`: decord conceals damage otherwise")
    if clip.doubts:
        raise _refused(clip, ", ".join(clip.doubts))
    import decord

    quiet = log()
    try:
        reader = decord.VideoReader(str(clip.path.absolute()), num_threads=1)
        if len(reader) != clip.frames:
            raise _refused(clip, f"it counts {len(reader)} frames of {clip.frames}")
        pictures = _pictures(reader, clip, {int(i) for i in indices}, shape)
        # this also ends decord's threads, so that their last words are in the log
        del reader
    except (decord.DECORDError, RuntimeError, StopIteration, IndexError, ValueError) as error:
        raise _refused(clip, f"it fails with {type(error).__name__}") from error
    if log() != quiet:
        raise _refused(clip, "it complains of damage")
    return [pictures[int(i)] for i in indices]


def _refused(clip: Probe, reason: str) -> VideoUnreadable:
    return VideoUnreadable(
        clip.path, f"cannot be read exactly by decord ({reason}): use video.backend pyav"
    )


def _pictures(reader: object, clip: Probe, wanted: set[int], shape: Shape) -> dict[int, np.ndarray]:
    pictures = {}
    for index in range(clip.frames):
        frame = reader.next()  # type: ignore[attr-defined]
        if index and index not in wanted:
            continue
        picture = frame.asnumpy()
        if index == 0 and not _alike(picture, clip.first):
            raise _refused(clip, "its first frame is another one")
        if index in wanted:
            pictures[index] = shape(picture)
    return pictures


def _alike(picture: np.ndarray, other: np.ndarray) -> bool:
    if picture.shape != other.shape:
        return False
    return int(np.abs(picture.astype(np.int16) - other).max()) <= _ROUNDING


BACKENDS = ("pyav", "decord")

READER_FAMILY = "strict-rgb24"
"""Names what the readers give: changed when an older version gave other frames or pixels."""


@dataclass(frozen=True)
class DecodeOptions:
    """How a clip becomes an array.

    Args:
        frames: how many frames are taken, at least 1.
        policy: which ones; a name of `fewshot_i2v.data.video.frame_sampling.POLICIES`.
        stride: distance of neighbours for the policy `dense`, in frames.
        size: height and width of the result in pixels, 1..4096.
        crop: the central fraction of the short side that is kept, above 0 and at most 1. The short
            side is resized to `size / crop`, then the centre is cut out; 1.0 keeps all of it.
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
    max_pixels: int = PIXELS
    max_frames: int = FRAMES
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
        text = f"frames={self.frames} policy={policy} size={self.size} crop={float(self.crop)!r}"
        return text if self.backend == "pyav" else f"{text} backend={self.backend}"


def decode(
    path: Path, options: DecodeOptions | None = None, *, log: NativeLog | None = None
) -> Image:
    """Read the frames of a clip and bring them to one size.

    Each picture is resized with Pillow's antialiased bicubic filter, on 8-bit values, as CLIP's own
    preprocessing does. Only the chosen frames are kept, and those at their final size.

    Args:
        path: the clip.
        options: which frames, how large, by which back end; the defaults if None.
        log: see `read_frames`.

    Returns:
        The clip (T, size, size, 3), uint8, red-green-blue.

    Raises:
        VideoUnreadable: if the frames cannot be had exactly.
        ConfigError: if decord is asked for where it cannot be watched, or is not installed.
    """
    wanted = options or DecodeOptions()
    return read_frames(
        path,
        lambda total: frame_indices(wanted.policy, total, wanted.frames, stride=wanted.stride),
        shape=lambda image: _fit(path, image, wanted),
        backend=wanted.backend,
        log=log,
        max_pixels=wanted.max_pixels,
        max_frames=wanted.max_frames,
    )


def read_frames(
    path: Path,
    choose: Callable[[int], FrameIndices],
    *,
    shape: Shape = lambda image: image,
    backend: str = "pyav",
    log: NativeLog | None = None,
    max_pixels: int = PIXELS,
    max_frames: int = FRAMES,
) -> np.ndarray:
    """Read chosen frames of a clip.

    Args:
        path: the clip: a video file, or a folder of numbered pictures, which no back end reads
            (`fewshot_i2v.data.video.frame_folder`).
        choose: given the true number of frames, the indices wanted, (T,), non-decreasing, each in
            0..number-1. It may be called twice.
        shape: what to do with each picture (H, W, 3) before it is kept.
        backend: "pyav", or "decord", which refuses what it does not read exactly.
        log: says how many bytes native code has written to standard error, which is where decord
            tells of damage, and nowhere else: without it decord is refused.
        max_pixels: clips with larger frames are refused.
        max_frames: clips with more frames are refused.

    Returns:
        What `shape` made of the pictures, stacked: (T, ...).

    Raises:
        VideoUnreadable: if the frames cannot be had exactly.
        UnknownNameError: if the backend does not exist.
        ConfigError: if decord is asked for where it cannot be watched, or is not installed.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("video backend", backend, BACKENDS)
    if is_folder(path):
        limits = {"max_pixels": max_pixels, "max_frames": max_frames}
        return read_frame_folder(path, choose, shape=shape, **limits)
    clip = probe(path, max_pixels=max_pixels, max_frames=max_frames)
    if backend == "decord":
        return np.stack(read_with_decord(clip, choose(clip.frames), shape, log))
    total, pictures = _decode_all(clip, choose(max(clip.frames, 1)), shape, max_pixels)
    if total != clip.frames:
        # one packet was not one frame: choose again, by the number that was really shown
        _, pictures = _decode_all(clip, choose(total), shape, max_pixels)
    return np.stack(pictures)


def _decode_all(
    clip: Probe, indices: FrameIndices, shape: Shape, max_pixels: int
) -> tuple[int, list[np.ndarray]]:
    """Decode a clip to its end; the true number of frames, and the pictures if they exist."""
    wanted = {int(i) for i in indices}
    found: dict[int, np.ndarray] = {}
    total = keys = 0
    with watched(clip.path), opened(clip.path, clip.demuxer) as (container, stream):
        # checked by the decoder before it sets memory aside; a header may announce smaller frames.
        # It counts the margins of its buffers, too
        margins = (clip.width + 128) * (clip.height + 128)
        stream.codec_context.options |= {"max_pixels": str(max(max_pixels, margins))}
        for packet in container.demux(stream):
            if before(packet, clip.start):
                continue
            keys += packet.is_keyframe
            number = total if packet.pts is None else bisect.bisect_left(clip.times, packet.pts)
            damage = f"is damaged at frame {number} of {clip.frames}"
            with explained(clip.path, CUT if clip.cut and keys <= 1 else damage):
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
