"""Reading a clip from end to end; called in the worker processes of `fewshot_i2v.video.pool`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_i2v._limits import FRAMES, PIXELS
from fewshot_i2v.video.frame_folder import is_folder
from fewshot_i2v.video.frames import FrameIndices
from fewshot_i2v.video.probe import probe
from fewshot_i2v.video.reader import read_frames


def count_frames(path: str, max_frames: int = FRAMES, max_pixels: int = PIXELS) -> tuple[int, str]:
    """Decode every frame of a clip, and keep none.

    Args:
        path: the clip.
        max_frames: clips with more frames are refused.
        max_pixels: clips with larger frames are refused.

    Returns:
        How many frames it shows, and what is odd about it, in words.

    Raises:
        VideoUnreadable: if they cannot all be had.
    """
    totals = [0]

    def _first(total: int) -> FrameIndices:
        totals.append(total)
        # of a folder only the pictures that are asked for are decoded whole
        return np.arange(total if is_folder(Path(path)) else 1)

    read_frames(
        Path(path),
        _first,
        shape=lambda image: image[:1, :1].copy(),
        max_frames=max_frames,
        max_pixels=max_pixels,
    )
    if is_folder(Path(path)):
        return totals[-1], ""
    notes = probe(Path(path), max_frames=max_frames, max_pixels=max_pixels).notes
    return totals[-1], "; ".join(notes)
