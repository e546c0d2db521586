"""Reading through decord: every frame in order, and refused at the first doubt."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from fewshot_i2v.errors import ConfigError, VideoUnreadable
from fewshot_i2v.video.frames import FrameIndices
from fewshot_i2v.video.probe import Probe

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
