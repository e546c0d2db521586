"""Strict decoding through PyAV: every packet in order, nothing concealed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewshot_i2v.data.video.clip_disk import check_disk_of
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import limit_hint

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

RgbImage = npt.NDArray[np.uint8]
"""One picture, (H, W, 3), red-green-blue."""
FrameTransform = Callable[[np.ndarray], np.ndarray]
"""What is done to each picture before it is stored."""


@contextmanager
def open_stream(path: Path, demuxer: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the video of a file with one demuxer, whatever the file's name is.

    Args:
        path: a file that `identify_container` accepted.
        demuxer: the demuxer `identify_container` named; no other is tried, and none of them opens a
            second file.

    Yields:
        The container and its video stream, cover pictures left out. The decoder is single-threaded
        and stops at the first damage it notices.

    Raises:
        VideoUnreadable: if the demuxer cannot make sense of the file, it holds no video stream, or
            no decoder knows its format.
    """
    import av

    with translate_errors(path, "cannot be opened: the file is damaged or cut off"):
        container = av.open(
            # absolute: a name such as "concat:a" is a file here, never a protocol
            str(path.absolute()),
            format=demuxer,
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    with container:
        stream = _best_stream(container)
        if stream is None:
            raise VideoUnreadable(path, "holds no video stream")
        if stream.codec_context is None:
            raise VideoUnreadable(path, "is coded in a format that no decoder here knows")
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams of a container, cover pictures left out."""
    from av.stream import Disposition

    streams = container.streams.video
    return [s for s in streams if not s.disposition & Disposition.attached_pic]


def _best_stream(container: InputContainer) -> VideoStream | None:
    videos = moving_streams(container)
    best: Any = container.streams.best("video")
    return best if best in videos else (videos[0] if videos else None)


@contextmanager
def translate_errors(path: Path, reason: str, *, is_on_disk: bool = True) -> Iterator[None]:
    """Translate the errors of PyAV into `VideoUnreadable`.

    Args:
        path: the file that is read.
        reason: what could not be done, in words; FFmpeg's own message is put behind it.
        is_on_disk: False for cameras and addresses, which no disk can take along.

    Raises:
        VideoUnreadable: also for the errors of Python that PyAV raises on damaged files.
    """
    import av

    try:
        yield
    except MemoryError as error:
        reason = f"needs more memory to decode than is allowed; {limit_hint('memory')}"
        raise VideoUnreadable(path, reason) from error
    except (av.FFmpegError, ValueError, IndexError, EOFError, OverflowError) as error:
        if is_on_disk:
            check_disk_of(path, error)
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoUnreadable(path, f"{reason} (FFmpeg: {detail})") from error


def to_rgb(path: Path, frame: VideoFrame) -> RgbImage:
    """Convert a decoded frame to the RGB picture that a player would show.

    The rotation and mirroring that the file specifies are applied. Alpha is dropped, and pixels
    that are not square are left as they are stored.

    Returns:
        The picture (H, W, 3), uint8.

    Raises:
        VideoUnreadable: if its rotation is no multiple of 90 degrees.
    """
    import av

    # PyAV 17 and later start a thread per processor for each frame, which lives as long as the
    # frame: a few dozen frames use up the memory that a process may have
    options: dict[str, Any] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
    with translate_errors(path, "holds pictures that cannot be turned into RGB"):
        image = np.asarray(frame.to_ndarray(format="rgb24", **options), dtype=np.uint8)
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # (x, y) goes to (a x + c y, b x + d y), in 16.16 fixed point
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if a and d and not (b or c):
        return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    if b and c and not (a or d):
        return image.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    raise VideoUnreadable(
        path, f"is to be turned by {frame.rotation} degrees: only quarter turns are supported"
    )
