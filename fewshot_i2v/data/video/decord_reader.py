"""Reading through decord, for comparisons with programs that do so.

Its frames are those of `reader.py`; single values can differ by 1 or 2 grey levels, since its
conversion to RGB is an older one.

decord conceals damage and reports it on standard error alone; its skipping and its seeking start
again from key frames, and give wrong frames where pictures reach beyond them. So every frame is
taken in order, any message refuses the clip, and the number of frames and the first frame must be
those of the strict decoder.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from fewshot_i2v.data.video.frame_sampling import FrameIndices
from fewshot_i2v.data.video.probe import ClipProbe
from fewshot_i2v.data.video.pyav_stream import FrameTransform
from fewshot_i2v.data.video.worker_pool import native_log_reader
from fewshot_i2v.errors import ConfigError, VideoUnreadable

_MAX_GREY_DIFFERENCE = 3
"""Largest difference of a value, in grey levels, between the RGB of two FFmpeg versions."""


def decord_present() -> bool:
    """Whether decord is installed: it has no wheels for macOS and for Linux on Arm."""
    return importlib.util.find_spec("decord") is not None


def read_with_decord(
    clip: ClipProbe, indices: FrameIndices, transform: FrameTransform
) -> list[np.ndarray]:
    """Read frames through decord, if it shows exactly the right ones.

    Args:
        clip: the file, which the strict decoder has probed.
        indices: the frames, non-decreasing.
        transform: applied to each picture (H, W, 3).

    Raises:
        VideoUnreadable: if decord is not reliable for this file.
        ConfigError: if decord is not installed, or cannot be watched.
    """
    if not decord_present():
        raise ConfigError("video.backend is decord, which is not installed here: use pyav")
    log = native_log_reader()
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
