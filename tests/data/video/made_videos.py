"""Small videos whose every frame shows its own number, so that a wrong frame cannot hide."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 8
WIDTH, HEIGHT = 96, 64


def numbered_picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture (H, W, 3): the number in binary as grey bars, above a horizontal ramp."""
    bars = [(number >> bit) & 1 for bit in range(BITS)]
    columns = np.arange(width) * BITS // width
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:] = np.where(np.array(bars)[columns] == 1, 220, 40)[None, :, None]
    picture[height // 2 :, :, 0] = np.linspace(0, 255, width).astype(np.uint8)
    return picture


def numbers_in(pictures: np.ndarray) -> list[int]:
    """The numbers that pictures (T, H, W, 3) show."""
    return [_number_in(picture) for picture in pictures]


def _number_in(picture: np.ndarray) -> int:
    upper = picture[: picture.shape[0] // 2 - 4, :, 1].astype(float)
    width = picture.shape[1]
    centres = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum((upper[:, c - 1 : c + 2].mean() > 130) << bit for bit, c in enumerate(centres))


def write_video(
    path: Path,
    codec: str,
    frames: int = 30,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    layout: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    turn: tuple[int, bool, bool] | None = None,
    mux: dict[str, str] | None = None,
) -> Path:
    """Write `frames` numbered pictures, shown at `times` (in milliseconds) or 25 a second."""
    with av.open(str(path), "w", options=mux or {}) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = layout
        stream.options = options or {}
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_packed_avi(path: Path, frames: int = 21) -> Path:
    """Write MPEG-4 part 2 as old DivX encoders did: P and B frame in one packet, then a filler."""
    encoder: Any = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"bf": "1", "b_strategy": "0", "g": "100"}
    coded = []
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        coded += [bytes(packet) for packet in encoder.encode(frame)]
    coded += [bytes(packet) for packet in encoder.encode()]
    # the 13 letters tell decoders that the frames are packed
    vop = coded[0].index(b"\x00\x00\x01\xb6")
    user = coded[0].find(b"\x00\x00\x01\xb2")
    start = coded[0][: user if user >= 0 else vop]
    packets = [start + b"\x00\x00\x01\xb2DivX503b1393p" + coded[0][vop:]]
    for forward, between in zip(coded[1::2], coded[2::2], strict=False):
        packets += [forward + between, b"\x00\x00\x01\xb6\x51\x2f"]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for position, data in enumerate(packets):
            packet: Any = av.Packet(data)
            packet.pts = packet.dts = position
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.is_keyframe = position == 0
            container.mux(packet)
    return path
