"""Reading a clip from end to end; called in the worker processes of `fewshot_i2v.video.pool`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_i2v.video.frame_folder import is_folder
from fewshot_i2v.video.frames import FrameIndices
from fewshot_i2v.video.reader import read_frames


def count_frames(path: str) -> int:
    """Decode every frame of a clip, and keep none.

    Args:
        path: the clip.

    Returns:
        How many frames it shows.

    Raises:
        VideoUnreadable: if they cannot all be had.
    """
    totals = [0]

    def _first(total: int) -> FrameIndices:
        totals.append(total)
        # of a folder only the pictures that are asked for are decoded whole
        return np.arange(total if is_folder(Path(path)) else 1)

    read_frames(Path(path), _first, shape=lambda image: image[:1, :1].copy())
    return totals[-1]
