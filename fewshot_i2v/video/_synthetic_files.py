"""Writing generated clips as video files: whole or not at all."""

from __future__ import annotations

import io
import uuid
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.video._temporary import being_written, publish


@cache
def _codec() -> tuple[str, dict[str, str]]:
    """The best encoder this PyAV has, and its options for short, small, nearly lossless clips."""
    import av

    if "libx264" in av.codecs_available:
        # No B-frames and a key frame every 8: frames come back in order and seeking is cheap.
        # Without assembler: on pictures this small it reads memory that nobody wrote, and the same
        # frames then give another file once in some dozen times.
        options = {"crf": "14", "preset": "veryfast", "g": "8", "bf": "0"}
        return "libx264", options | {"x264-params": "asm=0"}
    return "mpeg4", {"qmin": "1", "qmax": "3", "g": "8"}


def encode(frames: NDArray[np.uint8], fps: int) -> bytes:
    """Encode frames as an MP4 file.

    Args:
        frames: (T, H, W, 3), red, green, blue; H and W even.
        fps: frames per second.

    Returns:
        The file's bytes; the same for the same frames and library versions.
    """
    import av
    from av.video.stream import VideoStream

    codec, options = _codec()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=fps, options=dict(options)))
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        # clips this small gain nothing from threads; one gives the same bytes each time
        stream.thread_count = 1
        for picture in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def write_new(path: Path, data: bytes) -> bool:
    """Make a file that is seen whole or not at all, also by other processes.

    The folder's entry is made durable by `sync_folder`, once for many files.

    Args:
        path: the file. One that is there stays: others may be reading it.
        data: its content.

    Returns:
        Whether there was none.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with being_written(temporary) as file:
        file.write(data)
        return publish(file, path, mode=0o644, replace=False)
