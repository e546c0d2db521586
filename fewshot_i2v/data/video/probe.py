"""What is known of a clip before its frames are read.

The container is walked from end to end without decoding more than the first frame. The frame counts
and rates written in headers are not believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.data.video.completeness import (
    PROMISING,
    check_complete,
    check_length,
    gaps_in_time,
    promised_frames,
)
from fewshot_i2v.data.video.container import MATROSKA, MOV, Content, identify
from fewshot_i2v.data.video.damage import PacketCheck, watched
from fewshot_i2v.data.video.h264 import begins_anew
from fewshot_i2v.data.video.pyav_stream import Image, explained, moving, opened, picture
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import FRAMES, PIXELS, raising

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

CUT = (
    "was cut out of a longer file without encoding it again: its first pictures cannot be decoded "
    "exactly. Encode it again: ffmpeg -i IN -c:v libx264 -crf 17 OUT.mp4"
)
"""What is said of a file that begins in the middle of a stream."""

_NEVER_LEADING = ("h264",)
"""Codings in which a picture shown before the first key frame needs frames before it. The decoders
of others know which of these pictures they can decode."""

_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive


@dataclass(frozen=True)
class Probe:
    """What a walk through a file tells.

    Attributes:
        path: the file.
        demuxer: the FFmpeg demuxer it must be opened with.
        codec: FFmpeg's name of the coding, such as "h264".
        width: pixels per line, as stored (before rotation).
        height: lines, as stored.
        pixel_format: FFmpeg's name, such as "yuv420p".
        rate: average frames per second by the container's account, or None.
        frames: how many frames are to be shown. Exact for intact files except where one packet
            does not give one frame; the reader finds that out by decoding.
        times: presentation times of these frames in units of the stream's time base, ascending;
            empty if some packet has none.
        first: the first frame shown, (H, W, 3) uint8, turned as the file asks.
        rotation: quarter turn the file asks for, in degrees counter-clockwise.
        doubts: why decord might show other frames or pixels than these, in words; empty if no
            reason is known.
        cut: whether it begins in the middle of a stream, as copies do.
        start: the time before which no picture can be decoded, or None if all can.
        notes: what a user should know of a file that is read all the same, in words.
    """

    path: Path
    demuxer: str
    codec: str
    width: int
    height: int
    pixel_format: str
    rate: Fraction | None
    frames: int
    times: tuple[int, ...] = field(repr=False)
    first: Image = field(repr=False, compare=False)
    rotation: int
    doubts: tuple[str, ...]
    cut: bool
    start: int | None
    notes: tuple[str, ...]


@dataclass
class _Walk:
    """What is gathered packet by packet."""

    shown: int = 0
    packets: int = 0
    untimed: int = 0
    hidden: int = 0
    starts_at_key: bool = True
    cut: bool = False
    start: int | None = None
    leading: int = 0
    end: float = 0.0
    times: list[int] = field(default_factory=list)
    first: Image | None = None
    rotation: int = 0
    interlaced: bool = False


def probe(path: Path, *, max_pixels: int = PIXELS, max_frames: int = FRAMES) -> Probe:
    """Walk through a file and say what is in it.

    Args:
        path: the file. What it is is told by its content, never by its name.
        max_pixels: the most pixels a frame may have.
        max_frames: the most frames the clip may have.

    Returns:
        What was found.

    Raises:
        VideoUnreadable: if it is no regular file, no video, larger than the limits, cut off, or
            damaged where the walk can see it.
    """
    content = identify(path)
    if content.missing:
        reason = f"{content.size} bytes are there, {content.missing} more are announced"
        raise VideoUnreadable(path, f"is cut off: {reason}. Copy or download it again")
    with watched(path), opened(path, content.demuxer) as (container, stream):
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > max_pixels:
            reason = f"has frames of {pixels} pixels, more than {max_pixels}; {raising('pixels')}"
            raise VideoUnreadable(path, reason)
        promised = promised_frames(stream, content.demuxer)
        walk, check = _Walk(), PacketCheck(path, stream)
        with explained(path, "is damaged"):
            for packet in container.demux():
                number = walk.packets
                if packet.size:
                    _note(path, walk, packet, stream)
                    if walk.packets > max_frames:
                        reason = f"has more than {max_frames} frames; {raising('frames')}"
                        raise VideoUnreadable(path, reason)
                elif packet.stream_index == stream.index:
                    _decode_first(path, walk, packet)
                if packet.stream_index == stream.index:
                    check.look(number, packet)
        if walk.first is None:
            reason = CUT if walk.cut else "holds no frame that can be decoded"
            raise VideoUnreadable(path, reason)
        check_complete(path, max(promised, promised_frames(stream, content.demuxer)), walk.packets)
        if content.demuxer == MATROSKA:
            check_length(path, container, walk.end)
        return _summary(path, content, walk, container, stream, walk.first)


def _note(path: Path, walk: _Walk, packet: Packet[Any], stream: VideoStream) -> None:
    if packet.pts is not None and packet.time_base:
        walk.end = max(walk.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if packet.stream_index != stream.index:
        return
    if packet.is_corrupt:
        raise VideoUnreadable(path, f"is damaged or cut off: packet {walk.packets} is not whole")
    if packet.has_sidedata("encryption_info"):
        raise VideoUnreadable(path, "is encrypted: get it without protection, or decrypt it first")
    if not walk.packets:
        walk.starts_at_key, walk.start = packet.is_keyframe, packet.pts
        walk.cut = not packet.is_keyframe or (
            stream.codec_context.name == "h264"
            and not begins_anew(bytes(packet), stream.codec_context.extradata)
        )
    walk.packets += 1
    if before(packet, walk.start):
        walk.leading += 1
        if stream.codec_context.name in _NEVER_LEADING:
            return
    if packet.is_discard:
        walk.hidden += 1
    else:
        walk.shown += 1
        if packet.pts is None:
            walk.untimed += 1
        else:
            walk.times.append(packet.pts)
    _decode_first(path, walk, packet)


def before(packet: Packet[Any], start: int | None) -> bool:
    """Whether a packet is shown before a time; False where either has none."""
    return start is not None and packet.pts is not None and packet.pts < start


def _decode_first(path: Path, walk: _Walk, packet: Packet[Any]) -> None:
    if walk.first is not None:
        return
    with explained(path, CUT if walk.cut else "is damaged: its first frame cannot be decoded"):
        frames = packet.decode()
    if frames:
        # containers forget to mark key frames, so the decoder is asked too
        first = frames[0]
        if not (walk.starts_at_key or (first.key_frame and first.pts == walk.start)):
            raise VideoUnreadable(path, CUT)
        if frames[0].is_corrupt:
            raise VideoUnreadable(path, "is damaged: its first frame is not whole")
        walk.first = picture(path, frames[0])
        walk.rotation = frames[0].rotation
        walk.interlaced = frames[0].interlaced_frame


def _summary(
    path: Path,
    content: Content,
    walk: _Walk,
    container: InputContainer,
    stream: VideoStream,
    first: Image,
) -> Probe:
    codec = stream.codec_context
    # "av1", where `name` would be that of one of its decoders
    name = getattr(codec.codec, "canonical_name", codec.name)
    layout = codec.pix_fmt or "unknown"
    times = tuple(sorted(walk.times))
    doubts = {
        f"container {content.demuxer}": content.demuxer not in (MOV, MATROSKA),
        # MPEG-4 part 2: packed B-frames, and an older inverse transform, off by 2 grey levels;
        # VP8 and VP9: hidden frames, and frame sizes that change; AV1: no decoder
        f"coding {name}": name not in ("h264", "hevc"),
        f"pixel format {layout}": layout not in ("yuv420p", "yuvj420p"),
        "odd width or height": bool(codec.width % 2 or codec.height % 2),
        "interlaced": walk.interlaced or codec.field_order not in _PROGRESSIVE,
        "frames hidden by an edit list": walk.hidden > 0,
        "frames without a time, or with the same time": len(set(walk.times)) != walk.shown,
        "does not start with a key frame": not walk.starts_at_key,
        "pictures before the key frame that they need": walk.leading > 0,
        "several video streams": len(container.streams.video) > 1,
    }
    streams, gaps = len(moving(container)), gaps_in_time(times, stream.time_base)
    notes = {
        "begins with pictures that are shown before its first key frame, as copies do when cut "
        f"without encoding: those of these {walk.leading} that need others are left out": (
            walk.leading > 0
        ),
        f"holds {streams} video streams: number {stream.index}, of {codec.width} x {codec.height} "
        "pixels, is read": streams > 1,
        gaps: bool(gaps) and content.demuxer not in PROMISING,
    }
    return Probe(
        path=path,
        demuxer=content.demuxer,
        codec=name,
        width=codec.width,
        height=codec.height,
        pixel_format=layout,
        rate=stream.average_rate,
        frames=walk.shown,
        times=() if walk.untimed else times,
        first=first,
        rotation=walk.rotation,
        doubts=tuple(doubt for doubt, holds in doubts.items() if holds),
        cut=walk.cut,
        start=walk.start if walk.leading and name in _NEVER_LEADING else None,
        notes=tuple(note for note, holds in notes.items() if holds),
    )
