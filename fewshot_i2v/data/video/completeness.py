"""Truncation checks: compare a file with the frame count or duration that it declares.

MOV, MP4, AVI and GIF declare the number of their frames, Matroska and WebM their duration in
seconds. MPEG streams, ASF and FLV declare nothing reliable: for these only gaps in time show that
something is missing, and a recording may have such gaps legitimately.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from fewshot_i2v.data.video.container import MATROSKA, MOV
from fewshot_i2v.errors import VideoUnreadable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

DEMUXERS_WITH_LENGTH = (MOV, MATROSKA, "avi", "gif")
"""Demuxers of the containers that say how much they hold."""

_ADVICE = "Copy or download it again"


def declared_frames(stream: VideoStream, demuxer: str) -> int:
    """Return the number of frames that the index and header of a file declare.

    The index of a fragmented file grows while the file is read.

    Returns:
        The number; 0 if there is no reliable one.
    """
    # PyAV before 16 has no index
    sizes = [entry.size for entry in getattr(stream, "index_entries", ())]
    if demuxer == MOV:
        return len(sizes)
    if demuxer == "gif":
        return stream.frames
    if demuxer != "avi":
        return 0
    # an empty entry repeats the frame before it. The header is wrong more often than the index
    return sum(size > 0 for size in sizes) if sizes else stream.frames


def check_frame_count(path: Path, declared: int, present: int) -> None:
    """Refuse a file with fewer frames than it declares; VideoUnreadable."""
    if present < declared:
        counts = f"{present} of the {declared} frames that its index names are there"
        raise VideoUnreadable(path, f"is damaged or cut off: {counts}. {_ADVICE}")


def check_duration(path: Path, container: InputContainer, end_seconds: float) -> None:
    """Refuse a Matroska file whose last packet ends before its declared duration.

    Raises:
        VideoUnreadable: if more than half a second, and more than 5 %, is missing.
    """
    declared_seconds = (container.duration or 0) / 1e6
    # the header is written last, so it is exact up to the length of a frame or two
    if end_seconds < declared_seconds - max(0.5, 0.05 * declared_seconds):
        lengths = f"{end_seconds:.2f} of {declared_seconds:.2f} seconds"
        raise VideoUnreadable(path, f"is cut off: {lengths} are there. {_ADVICE}")


def describe_time_gaps(times: Sequence[int], time_base: Fraction | None) -> str:
    """Describe the gaps in time between the frames of a clip.

    A gap lasts more than a quarter of a second and more than four frames of this clip.

    Args:
        times: of its frames, ascending.
        time_base: unit of the times, in seconds; None if unknown.

    Returns:
        How many gaps there are, how long and where the longest is; empty if there is none.
    """
    time_base = time_base or Fraction(0)
    steps = [later - earlier for earlier, later in pairwise(times)]
    threshold = 4 * median(steps) if steps else 0
    gaps = [
        (step, start)
        for step, start in zip(steps, times, strict=False)
        if step > threshold and step * time_base > 0.25
    ]
    if not gaps:
        return ""
    longest, start = max(gaps, key=lambda gap: gap[0])
    gap_count = "1 gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
    duration, position = (f"{float(n * time_base):.2f} s" for n in (longest, start - times[0]))
    return f"{gap_count} in time, the longest {duration} at {position}: frames may be missing"
