"""Probing a clip before its frames are read.

The container is read from end to end, and only the first frame is decoded. The frame counts and
rates written in headers are not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.data.video.completeness import (
    DEMUXERS_WITH_LENGTH,
    check_duration,
    check_frame_count,
    declared_frames,
    describe_time_gaps,
)
from fewshot_i2v.data.video.container import MATROSKA, MOV, ContainerInfo, identify_container
from fewshot_i2v.data.video.damage import PacketChecker, check_ffmpeg_log
from fewshot_i2v.data.video.h264 import has_idr_picture
from fewshot_i2v.data.video.pyav_stream import (
    RgbImage,
    moving_streams,
    open_stream,
    to_rgb,
    translate_errors,
)
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_MAX_FRAMES, DEFAULT_MAX_PIXELS, limit_hint

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

CUT_REASON = (
    "was cut out of a longer file without encoding it again: its first pictures cannot be decoded "
    "exactly. Encode it again: ffmpeg -i IN -c:v libx264 -crf 17 OUT.mp4"
)
"""What is said of a file that begins in the middle of a stream."""

_UNDECODABLE_LEADING = ("h264",)
"""Codings in which a picture shown before the first key frame needs frames before it. The decoders
of others know which of these pictures they can decode."""

_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive


@dataclass(frozen=True)
class ClipProbe:
    """Result of reading through a file once.

    Attributes:
        path: the file.
        demuxer: the FFmpeg demuxer it must be opened with.
        codec: FFmpeg's name of the coding, such as "h264".
        width: pixels per line, as stored (before rotation).
        height: lines, as stored.
        pixel_format: FFmpeg's name, such as "yuv420p".
        frame_rate: average frames per second as the container declares it, or None.
        frame_count: how many frames are to be shown. Exact for intact files except where one packet
            does not give one frame; the reader detects that by decoding.
        times: presentation times of these frames in units of the stream's time base, ascending;
            empty if some packet has none.
        first_frame: the first frame shown, (H, W, 3) uint8, rotated as the file specifies.
        rotation: quarter turn the file specifies, in degrees counter-clockwise.
        decord_doubts: why decord might show other frames or pixels than these, in words; empty if
            no reason is known.
        starts_mid_stream: whether it begins in the middle of a stream, as copies do.
        decodable_from: the time before which no picture can be decoded, or None if all can.
        notes: what a user should know of a file that is read all the same, in words.
    """

    path: Path
    demuxer: str
    codec: str
    width: int
    height: int
    pixel_format: str
    frame_rate: Fraction | None
    frame_count: int
    times: tuple[int, ...] = field(repr=False)
    first_frame: RgbImage = field(repr=False, compare=False)
    rotation: int
    decord_doubts: tuple[str, ...]
    starts_mid_stream: bool
    decodable_from: int | None
    notes: tuple[str, ...]


@dataclass
class _StreamScan:
    """Values collected packet by packet."""

    n_shown: int = 0
    n_packets: int = 0
    n_untimed: int = 0
    n_hidden: int = 0
    starts_at_key: bool = True
    starts_mid_stream: bool = False
    start_time: int | None = None
    n_leading: int = 0
    end_seconds: float = 0.0
    times: list[int] = field(default_factory=list)
    first_frame: RgbImage | None = None
    rotation: int = 0
    interlaced: bool = False


def probe_clip(
    path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS, max_frames: int = DEFAULT_MAX_FRAMES
) -> ClipProbe:
    """Read through a file and describe its video.

    Args:
        path: the file. Its type is read from its content, never from its name.
        max_pixels: the most pixels a frame may have.
        max_frames: the most frames the clip may have.

    Returns:
        The description.

    Raises:
        VideoUnreadable: if it is no regular file, no video, larger than the limits, cut off, or
            damaged in a way that shows without decoding all frames.
    """
    info = identify_container(path)
    if info.missing_bytes:
        reason = f"{info.size} bytes are there, {info.missing_bytes} more are announced"
        raise VideoUnreadable(path, f"is cut off: {reason}. Copy or download it again")
    with check_ffmpeg_log(path), open_stream(path, info.demuxer) as (container, stream):
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > max_pixels:
            reason = (
                f"has frames of {pixels} pixels, more than {max_pixels}; {limit_hint('pixels')}"
            )
            raise VideoUnreadable(path, reason)
        declared = declared_frames(stream, info.demuxer)
        scan, checker = _StreamScan(), PacketChecker(path, stream)
        with translate_errors(path, "is damaged"):
            for packet in container.demux():
                number = scan.n_packets
                if packet.size:
                    _record_packet(path, scan, packet, stream)
                    if scan.n_packets > max_frames:
                        reason = f"has more than {max_frames} frames; {limit_hint('frames')}"
                        raise VideoUnreadable(path, reason)
                elif packet.stream_index == stream.index:
                    _decode_first_frame(path, scan, packet)
                if packet.stream_index == stream.index:
                    checker.check(number, packet)
        if scan.first_frame is None:
            reason = CUT_REASON if scan.starts_mid_stream else "holds no frame that can be decoded"
            raise VideoUnreadable(path, reason)
        check_frame_count(
            path, max(declared, declared_frames(stream, info.demuxer)), scan.n_packets
        )
        if info.demuxer == MATROSKA:
            check_duration(path, container, scan.end_seconds)
        return _build_probe(path, info, scan, container, stream, scan.first_frame)


def _record_packet(path: Path, scan: _StreamScan, packet: Packet[Any], stream: VideoStream) -> None:
    if packet.pts is not None and packet.time_base:
        scan.end_seconds = max(
            scan.end_seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base)
        )
    if packet.stream_index != stream.index:
        return
    if packet.is_corrupt:
        raise VideoUnreadable(path, f"is damaged or cut off: packet {scan.n_packets} is not whole")
    if packet.has_sidedata("encryption_info"):
        raise VideoUnreadable(path, "is encrypted: get it without protection, or decrypt it first")
    if not scan.n_packets:
        scan.starts_at_key, scan.start_time = packet.is_keyframe, packet.pts
        scan.starts_mid_stream = not packet.is_keyframe or (
            stream.codec_context.name == "h264"
            and not has_idr_picture(bytes(packet), stream.codec_context.extradata)
        )
    scan.n_packets += 1
    if is_shown_before(packet, scan.start_time):
        scan.n_leading += 1
        if stream.codec_context.name in _UNDECODABLE_LEADING:
            return
    if packet.is_discard:
        scan.n_hidden += 1
    else:
        scan.n_shown += 1
        if packet.pts is None:
            scan.n_untimed += 1
        else:
            scan.times.append(packet.pts)
    _decode_first_frame(path, scan, packet)


def is_shown_before(packet: Packet[Any], time: int | None) -> bool:
    """Return whether a packet is shown before a time; False where either has none."""
    return time is not None and packet.pts is not None and packet.pts < time


def _decode_first_frame(path: Path, scan: _StreamScan, packet: Packet[Any]) -> None:
    if scan.first_frame is not None:
        return
    with translate_errors(
        path,
        CUT_REASON if scan.starts_mid_stream else "is damaged: its first frame cannot be decoded",
    ):
        frames = packet.decode()
    if frames:
        # containers forget to mark key frames, so the decoder is asked too
        frame = frames[0]
        if not (scan.starts_at_key or (frame.key_frame and frame.pts == scan.start_time)):
            raise VideoUnreadable(path, CUT_REASON)
        if frames[0].is_corrupt:
            raise VideoUnreadable(path, "is damaged: its first frame is not whole")
        scan.first_frame = to_rgb(path, frames[0])
        scan.rotation = frames[0].rotation
        scan.interlaced = frames[0].interlaced_frame


def _build_probe(
    path: Path,
    info: ContainerInfo,
    scan: _StreamScan,
    container: InputContainer,
    stream: VideoStream,
    first_frame: RgbImage,
) -> ClipProbe:
    codec = stream.codec_context
    # "av1", where `name` would be that of one of its decoders
    codec_name = getattr(codec.codec, "canonical_name", codec.name)
    pixel_format = codec.pix_fmt or "unknown"
    times = tuple(sorted(scan.times))
    doubts = {
        f"container {info.demuxer}": info.demuxer not in (MOV, MATROSKA),
        # MPEG-4 part 2: packed B-frames, and an older inverse transform, off by 2 grey levels;
        # VP8 and VP9: hidden frames, and frame sizes that change; AV1: no decoder
        f"coding {codec_name}": codec_name not in ("h264", "hevc"),
        f"pixel format {pixel_format}": pixel_format not in ("yuv420p", "yuvj420p"),
        "odd width or height": bool(codec.width % 2 or codec.height % 2),
        "interlaced": scan.interlaced or codec.field_order not in _PROGRESSIVE,
        "frames hidden by an edit list": scan.n_hidden > 0,
        "frames without a time, or with the same time": len(set(scan.times)) != scan.n_shown,
        "does not start with a key frame": not scan.starts_at_key,
        "pictures before the key frame that they need": scan.n_leading > 0,
        "several video streams": len(container.streams.video) > 1,
    }
    n_streams, gaps = len(moving_streams(container)), describe_time_gaps(times, stream.time_base)
    notes = {
        "begins with pictures that are shown before its first key frame, as copies do when cut "
        f"without encoding: those of these {scan.n_leading} that need others are left out": (
            scan.n_leading > 0
        ),
        f"holds {n_streams} video streams: number {stream.index}, of {codec.width} x "
        f"{codec.height} pixels, is read": n_streams > 1,
        gaps: bool(gaps) and info.demuxer not in DEMUXERS_WITH_LENGTH,
    }
    return ClipProbe(
        path=path,
        demuxer=info.demuxer,
        codec=codec_name,
        width=codec.width,
        height=codec.height,
        pixel_format=pixel_format,
        frame_rate=stream.average_rate,
        frame_count=scan.n_shown,
        times=() if scan.n_untimed else times,
        first_frame=first_frame,
        rotation=scan.rotation,
        decord_doubts=tuple(doubt for doubt, applies in doubts.items() if applies),
        starts_mid_stream=scan.starts_mid_stream,
        decodable_from=scan.start_time
        if scan.n_leading and codec_name in _UNDECODABLE_LEADING
        else None,
        notes=tuple(note for note, applies in notes.items() if applies),
    )
