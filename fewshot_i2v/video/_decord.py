"""Reading through decord: from the first frame to the last, and given up at the first doubt."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from fewshot_i2v.video.frames import FrameIndices
from fewshot_i2v.video.probe import Probe

Shape = Callable[[np.ndarray], np.ndarray]
NativeLog = Callable[[], int]
"""Says how many bytes native code has written to standard error so far."""


def decord_present() -> bool:
    """Whether decord is installed: it has no wheels for macOS and for Linux on Arm."""
    return importlib.util.find_spec("decord") is not None


def read_with_decord(
    clip: Probe, indices: FrameIndices, shape: Shape, log: NativeLog
) -> list[np.ndarray] | None:
    """Read frames through decord, if it shows exactly the right ones.

    decord conceals damage and says so on standard error alone, and its seeking can miss the frame.
    So the clip is decoded in order to its very last frame, any message counts as doubt, and the
    first frame must equal the one the strict decoder gave.

    Args:
        clip: a probe without doubts.
        indices: the frames wanted, (T,), non-decreasing.
        shape: what to do with each picture (H, W, 3) before it is kept.
        log: how to see whether native code has complained.

    Returns:
        T shaped pictures, or None if decord cannot be relied upon for this file.
    """
    import decord

    quiet = log()
    try:
        reader = decord.VideoReader(str(clip.path.absolute()), num_threads=1)
        if len(reader) != clip.frames:
            return None
        found = _pictures(reader, clip, sorted({int(i) for i in indices}), shape)
        # this also ends decord's threads, so that their last words are in the log
        del reader
    except (decord.DECORDError, RuntimeError, StopIteration, IndexError, ValueError):
        return None
    if found is None or log() != quiet:
        return None
    return [found[int(i)] for i in indices]


def _pictures(
    reader: object, clip: Probe, wanted: list[int], shape: Shape
) -> dict[int, np.ndarray] | None:
    found = {}
    position = 0
    for index in sorted({0, *wanted, clip.frames - 1}):
        if index > position:
            reader.skip_frames(index - position)  # type: ignore[attr-defined]
        picture = reader.next().asnumpy()  # type: ignore[attr-defined]
        position = index + 1
        if index == 0 and not np.array_equal(picture, clip.first):
            return None
        if index in wanted:
            found[index] = shape(picture)
    return found
