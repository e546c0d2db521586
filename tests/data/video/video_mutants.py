"""Damaged copies of clips: cut off, with holes, with changed bytes; always the same ones."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from fewshot_i2v.data.video.reader import read_frames
from tests.data.video.made_videos import numbered_picture

HOLES = ("truncate", "zeros", "ones")
KINDS = (*HOLES, "bytes", "header", "tail")
CLIPS: dict[str, tuple[str, dict[str, str]]] = {
    "h264.mp4": ("libx264", {"g": "25"}),
    "mpeg4.avi": ("mpeg4", {"g": "12", "b": "800000"}),
    "vp9.webm": ("libvpx-vp9", {"cpu-used": "8", "deadline": "realtime", "g": "25"}),
    "h264.mkv": ("libx264", {"g": "25"}),
    "h264.mov": ("libx264", {"g": "25"}),
    "hevc.mov": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=25:log-level=none"}),
}
_SIZE = (128, 96)


def write_textured(path: Path, frames: int) -> Path:
    """Write a clip of a moving texture: its pictures fill most of the file, as in real clips."""
    codec, options = CLIPS[path.name]
    texture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        stream.options = options
        stream.codec_context.thread_count = 1
        for number in range(frames):
            picture = np.roll(texture, (number, 2 * number), (0, 1))
            picture[:32] = numbered_picture(number % 256, *_SIZE)[:32]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def mutants(path: Path, kinds: tuple[str, ...], each: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of damaged copies, `each` of every kind."""
    content = path.read_bytes()
    for kind in kinds:
        for number in range(each):
            name = f"{path.stem}-{kind}-{number}{path.suffix}"
            # text, not a tuple: its hash would be another in each process
            yield name, _damaged(content, kind, random.Random(f"{path.name} {kind} {number}"))


def _damaged(content: bytes, kind: str, draw: random.Random) -> bytes:
    size, changed = len(content), bytearray(content)
    if kind == "truncate":
        return content[: draw.randrange(1, size)]
    if kind in ("zeros", "ones"):
        length = max(1, int(size * draw.choice((0.002, 0.01, 0.05, 0.2))))
        start = draw.randrange(size - length)
        changed[start : start + length] = (b"\0" if kind == "zeros" else b"\xff") * length
        return bytes(changed)
    first, last = {"header": (0, 1024), "tail": (size - max(256, size // 20), size)}.get(
        kind, (0, size)
    )
    for _ in range(draw.choice((1, 4, 16))):
        changed[draw.randrange(first, min(last, size))] = draw.randrange(256)
    return bytes(changed)


def every_frame(path: str) -> str:
    """A digest of all frames of a clip, read by PyAV; called in worker processes."""

    def _digest(image: np.ndarray) -> np.ndarray:
        return np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8)

    frames = read_frames(Path(path), np.arange, transform=_digest, backend="pyav")
    return f"{len(frames)} {hashlib.sha256(frames.tobytes()).hexdigest()}"
