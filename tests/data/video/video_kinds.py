"""Videos of every kind of coding and container, whose frames carry their own numbers.

Each kind says which numbers a strict decode shows, from its first frame to its last; whatever the
way of coding, frame n of a clip must be the n-th of these.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIDE = 96
BITS = 12
FRAMES = 44


def numbered(number: int) -> np.ndarray:
    """A picture (96, 96, 3): twelve bars with the bits of the number above a square that moves."""
    bits = (number >> (np.arange(SIDE) * BITS // SIDE)) & 1
    picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
    picture[: SIDE // 3] = np.where(bits == 1, 230, 20)[None, :, None]
    left, top = number * 3 % 70, 40 + number * 2 % 30
    picture[top : top + 24, left : left + 24] = (200, 60, 40)
    return picture


def numbers(pictures: np.ndarray) -> list[int]:
    """The numbers that pictures (T, H, W, 3) carry."""
    height, width = pictures.shape[1:3]
    columns = pictures[:, 2 : height // 3 - 3].mean((1, 3))
    bits = columns[:, (2 * np.arange(BITS) + 1) * width // (2 * BITS)] > 125
    return [int((row << np.arange(BITS)).sum()) for row in bits]


@dataclass(frozen=True)
class Kind:
    """How a video is made.

    Attributes:
        name: of the file.
        codec: FFmpeg's name of the encoder.
        options: of the encoder.
        mux: options of the container.
        layout: pixel format.
        uneven: whether the time between two frames varies.
        cut: which key frame a copy begins with that was cut from a longer file; 0: no copy.
        late: how many packets after that key frame it begins.
        trimmed: how many of its first frames an edit list hides, as tools do that cut MP4 files.
        shown: the numbers that a strict decode shows.
    """

    name: str
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    mux: dict[str, str] = field(default_factory=dict)
    layout: str = "yuv420p"
    uneven: bool = False
    cut: int = 0
    late: int = 0
    trimmed: int = 0
    shown: Sequence[int] = range(FRAMES)

    def write(self, folder: Path) -> Path:
        """Write the file."""
        path = folder / self.name
        if self.cut:
            path.write_bytes(self._copy(self._encode("matroska", {}), _format(path)))
        else:
            path.write_bytes(self._encode(_format(path), self.mux))
        return path

    def _encode(self, container: str, mux: dict[str, str]) -> bytes:
        times = np.arange(FRAMES) * 40
        if self.uneven:
            times = np.cumsum(10 + (np.arange(FRAMES) * 37) % 80)
        memory = io.BytesIO()
        with av.open(memory, "w", format=container, options=mux) as file:
            stream: Any = file.add_stream(self.codec, rate=25)
            stream.width = stream.height = SIDE
            stream.pix_fmt = self.layout
            stream.options = self.options
            stream.codec_context.thread_count = 1
            if self.uneven:
                stream.codec_context.time_base = Fraction(1, 1000)
            for number, time in enumerate(times.tolist()):
                frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
                if self.uneven:
                    frame.pts, frame.time_base = time, Fraction(1, 1000)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        return memory.getvalue()

    def _copy(self, content: bytes, container: str) -> bytes:
        """What tools leave of a file that cut it by copying and do not encode it again."""
        memory = io.BytesIO()
        with (
            av.open(io.BytesIO(content)) as whole,
            av.open(memory, "w", format=container) as part,
        ):
            source = whole.streams.video[0]
            target = part.add_stream_from_template(source)
            packets: list[Any] = [packet for packet in whole.demux(source) if packet.size]
            first = [i for i, packet in enumerate(packets) if packet.is_keyframe][self.cut]
            shift = packets[first].pts + 40 * self.trimmed if self.trimmed else 0
            for packet in packets[first + self.late :]:
                packet.stream = target
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                part.mux(packet)
        return memory.getvalue()


def _format(path: Path) -> str:
    names = {".mkv": "matroska", ".webm": "webm", ".ts": "mpegts", ".avi": "avi", ".mov": "mov"}
    return names.get(path.suffix, "mp4")


def _x264(name: str, parameters: str, **more: Any) -> Kind:
    return Kind(name, options={"x264-params": f"threads=1:{parameters}"}, **more)


def _x265(name: str, parameters: str, **more: Any) -> Kind:
    quiet = f"log-level=none:pools=none:frame-threads=1:{parameters}".rstrip(":")
    return Kind(name, "libx265", {"x265-params": quiet, "preset": "ultrafast"}, **more)


_CLOSED = "keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0"
_OPEN = f"open-gop=1:{_CLOSED}"
_FRAGMENTS = {"movflags": "frag_keyframe", "frag_duration": "400000"}
_EMPTY = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_MPEG4 = {"bf": "2", "g": "12"}
_VP9 = {"cpu-used": "8", "g": "12"}

WHOLE = (
    _x264("h264-default.mp4", ""),
    _x264("h264-closed.mp4", _CLOSED),
    _x264("h264-open.mp4", _OPEN),
    _x264("h264-open.mkv", _OPEN),
    _x264("h264-open.ts", _OPEN),
    _x264("h264-open.avi", _OPEN),
    _x264("h264-pyramid.mp4", "b-pyramid=normal:bframes=5:b-adapt=0:keyint=20:min-keyint=20"),
    _x264("h264-refresh.mp4", "intra-refresh=1:keyint=20"),
    _x264("h264-closed-fragments.mp4", _CLOSED, mux=_FRAGMENTS),
    _x264("h264-open-fragments.mp4", _OPEN, mux=_FRAGMENTS),
    _x264("h264-empty-moov.mp4", _OPEN, mux=_EMPTY),
    _x264("h264-uneven.mp4", _OPEN, uneven=True),
    _x264("h264-uneven.mkv", _OPEN, uneven=True),
    _x264("h264-ten-bit.mp4", _OPEN, layout="yuv420p10le"),
    _x265("hevc-default.mp4", ""),
    _x265("hevc-open.mp4", "keyint=10"),
    _x265("hevc-closed.mp4", "keyint=10:open-gop=0"),
    _x265("hevc-open.mkv", "keyint=10"),
    _x265("hevc-open.ts", "keyint=10"),
    _x265("hevc-pyramid.mp4", "keyint=20:bframes=8:b-adapt=0:rc-lookahead=12"),
    _x265("hevc-refresh.mp4", "intra-refresh=1:keyint=20"),
    _x265("hevc-fragments.mp4", "keyint=10", mux=_FRAGMENTS),
    _x265("hevc-empty-moov.mp4", "keyint=10", mux=_EMPTY),
    _x265("hevc-uneven.mp4", "keyint=10", uneven=True),
    Kind("mpeg4.avi", "mpeg4", _MPEG4),
    Kind("mpeg4.mp4", "mpeg4", _MPEG4),
    Kind("mpeg2.ts", "mpeg2video", _MPEG4),
    Kind("mjpeg.mov", "mjpeg", layout="yuvj420p"),
    Kind("vp9.webm", "libvpx-vp9", _VP9 | {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    Kind("vp9.mp4", "libvpx-vp9", _VP9),
    Kind("av1.mp4", "libsvtav1", {"preset": "10"}),
    Kind("av1.mkv", "libsvtav1", {"preset": "10"}),
)
"""Whole files: every frame is shown."""

CUT = (
    _x264("h264-cut.mp4", _CLOSED, cut=2, shown=range(20, FRAMES)),
    _x264("h264-trimmed.mp4", _CLOSED, cut=2, trimmed=3, shown=range(23, FRAMES)),
    _x264("h264-simple-open-cut.mkv", f"{_OPEN}:bframes=1", cut=2, shown=range(20, FRAMES)),
    _x265("hevc-open-cut.mkv", "keyint=10", cut=2, shown=range(20, FRAMES)),
    _x265("hevc-open-cut.mp4", "keyint=10", cut=2, shown=range(20, FRAMES)),
    _x265("hevc-open-cut.ts", "keyint=10", cut=2, shown=range(20, FRAMES)),
    Kind("mpeg4-cut.mkv", "mpeg4", _MPEG4, cut=2, shown=range(24, FRAMES)),
    Kind("mpeg2-cut.ts", "mpeg2video", _MPEG4, cut=2, shown=range(24, FRAMES)),
    Kind("vp9-cut.mkv", "libvpx-vp9", _VP9, cut=2, shown=range(24, FRAMES)),
)
"""Copies from a key frame on: every frame is shown from that key frame on."""

REFUSED = (
    _x264("h264-open-cut.mkv", _OPEN, cut=2),
    _x264("h264-open-cut.mp4", _OPEN, cut=2),
    _x264("h264-refresh-cut.mkv", "intra-refresh=1:keyint=20", cut=2),
    _x264("h264-late.mkv", _OPEN, cut=2, late=5),
    _x264("h264-late.mp4", _CLOSED, cut=2, late=5),
    _x264("h264-late.ts", _OPEN, cut=2, late=5),
    _x265("hevc-late.mkv", "keyint=10", cut=2, late=3),
    Kind("mpeg4-late.mkv", "mpeg4", _MPEG4, cut=2, late=3),
    Kind("mpeg4-late.avi", "mpeg4", {"bf": "0", "g": "12"}, cut=2, late=3),
    Kind("mpeg2-late.ts", "mpeg2video", _MPEG4, cut=2, late=3),
    Kind("vp9-late.mkv", "libvpx-vp9", _VP9, cut=2, late=3),
)
"""Copies that begin with pictures that need others before them."""
