"""Whether a file holds as much as it says of itself.

MOV and MP4, AVI and GIF number their frames, Matroska and WebM tell their length in seconds. MPEG
streams, ASF and FLV promise nothing that could be relied upon: there, only gaps in time show that
something is missing, and a recording may have such gaps rightly.
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

PROMISING = (MOV, MATROSKA, "avi", "gif")
"""Demuxers of the containers that say how much they hold."""

_ADVICE = "Copy or download it again"


def promised_frames(stream: VideoStream, demuxer: str) -> int:
    """How many frames index and header of a file name.

    Args:
        stream: its video stream. What is known of a fragmented file grows while it is read.
        demuxer: of its container.

    Returns:
        The number; 0 if there is none to rely upon.
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


def check_complete(path: Path, promised: int, found: int) -> None:
    """Refuse a file with fewer frames than it promises.

    Args:
        path: the file.
        promised: frames that its index names; 0 if it has none.
        found: frames that are there.

    Raises:
        VideoUnreadable: if some are missing.
    """
    if found < promised:
        counts = f"{found} of the {promised} frames that its index names are there"
        raise VideoUnreadable(path, f"is damaged or cut off: {counts}. {_ADVICE}")


def check_length(path: Path, container: InputContainer, end: float) -> None:
    """Refuse a Matroska file that ends before its time.

    Args:
        path: the file.
        container: with its length, if it knows it.
        end: of its last packet, in seconds.

    Raises:
        VideoUnreadable: if more than half a second, and more than 5 %, is missing.
    """
    seconds = (container.duration or 0) / 1e6
    # the header is written last, so it is exact up to the length of a frame or two
    if end < seconds - max(0.5, 0.05 * seconds):
        found = f"{end:.2f} of {seconds:.2f} seconds"
        raise VideoUnreadable(path, f"is cut off: {found} are there. {_ADVICE}")


def gaps_in_time(times: Sequence[int], unit: Fraction | None) -> str:
    """Say where a clip has no frames for a while.

    Args:
        times: of its frames, ascending.
        unit: of the times, in seconds; None if it is not known.

    Returns:
        How many gaps there are, how long and where the longest is; empty if there is none. A gap
        lasts more than a quarter of a second and more than four frames of this clip.
    """
    unit = unit or Fraction(0)
    steps = [after - before for before, after in pairwise(times)]
    usual = 4 * median(steps) if steps else 0
    gaps = [
        (step, start)
        for step, start in zip(steps, times, strict=False)
        if step > usual and step * unit > 0.25
    ]
    if not gaps:
        return ""
    longest, start = max(gaps, key=lambda gap: gap[0])
    count = "1 gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
    long, where = (f"{float(n * unit):.2f} s" for n in (longest, start - times[0]))
    return f"{count} in time, the longest {long} at {where}: frames may be missing"
