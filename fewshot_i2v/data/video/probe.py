"""Probing a clip before its frames are read.

The container is read from end to end, and only the first frame is decoded. The frame counts and
rates written in headers are not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.data.video.completeness import (
    DEMUXERS_WITH_LENGTH,
    check_duration,
    check_frame_count,
    declared_frames,
    describe_time_gaps,
)
from fewshot_i2v.data.video.container import MATROSKA, MOV, identify_container
from fewshot_i2v.data.video.damage import PacketChecker, check_ffmpeg_log, has_idr_picture
from fewshot_i2v.data.video.pyav_stream import (
    RgbImage,
    moving_streams,
    open_stream,
    to_rgb,
    translate_errors,
)
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits, limit_hint

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
        width: pixels per line, as stored (before rotation).
        height: lines, as stored.
        frame_count: how many frames are to be shown. Exact for intact files except where one packet
            does not give one frame; the reader detects that by decoding.
        times: presentation times of these frames in units of the stream's time base, ascending;
            empty if some packet has none.
        first_frame: the first frame shown, (H, W, 3) uint8, rotated as the file specifies.
        decord_doubts: why decord might show other frames or pixels than these, in words; empty if
            no reason is known.
        starts_mid_stream: whether it begins in the middle of a stream, as copies do.
        decodable_from: the time before which no picture can be decoded, or None if all can.
        notes: what a user should know of a file that is read all the same, in words.
    """

    path: Path
    demuxer: str
    width: int
    height: int
    frame_count: int
    times: tuple[int, ...] = field(repr=False)
    first_frame: RgbImage = field(repr=False, compare=False)
    decord_doubts: tuple[str, ...]
    starts_mid_stream: bool
    decodable_from: int | None
    notes: tuple[str, ...]


@dataclass
class _StreamScan:
    """Values collected packet by packet from the video stream of a file."""

    path: Path
    stream: VideoStream
    n_shown: int = 0
    n_packets: int = 0
    n_untimed: int = 0
    n_hidden: int = 0
    starts_at_key: bool = True
    starts_mid_stream: bool = False
    start_time: int | None = None
    n_leading: int = 0
    times: list[int] = field(default_factory=list)
    first_frame: RgbImage | None = None
    interlaced: bool = False

    def record(self, packet: Packet[Any]) -> None:
        """Take the next packet of the stream; an empty one ends it."""
        if packet.size and not self._count_packet(packet):
            return
        if self.first_frame is None:
            self._decode_first_frame(packet)

    def _count_packet(self, packet: Packet[Any]) -> bool:
        """Count a packet with data; return whether it can be decoded."""
        path, codec = self.path, self.stream.codec_context
        if packet.is_corrupt:
            reason = f"is damaged or cut off: packet {self.n_packets} is not whole"
            raise VideoUnreadable(path, reason)
        if packet.has_sidedata("encryption_info"):
            reason = "is encrypted: get it without protection, or decrypt it first"
            raise VideoUnreadable(path, reason)
        if not self.n_packets:
            self.starts_at_key, self.start_time = packet.is_keyframe, packet.pts
            self.starts_mid_stream = not packet.is_keyframe or (
                codec.name == "h264"
                and not has_idr_picture(bytes(packet), bytes(codec.extradata or b""))
            )
        self.n_packets += 1
        if is_shown_before(packet, self.start_time):
            self.n_leading += 1
            if codec.name in _UNDECODABLE_LEADING:
                return False
        if packet.is_discard:
            self.n_hidden += 1
        else:
            self.n_shown += 1
            if packet.pts is None:
                self.n_untimed += 1
            else:
                self.times.append(packet.pts)
        return True

    def _decode_first_frame(self, packet: Packet[Any]) -> None:
        damage = "is damaged: its first frame cannot be decoded"
        with translate_errors(self.path, CUT_REASON if self.starts_mid_stream else damage):
            frames = packet.decode()
        if not frames:
            return
        # containers forget to mark key frames, so the decoder is asked too
        frame = frames[0]
        if not (self.starts_at_key or (frame.key_frame and frame.pts == self.start_time)):
            raise VideoUnreadable(self.path, CUT_REASON)
        if frame.is_corrupt:
            raise VideoUnreadable(self.path, "is damaged: its first frame is not whole")
        self.first_frame = to_rgb(self.path, frame)
        self.interlaced = frame.interlaced_frame


def probe_clip(path: Path, limits: ClipLimits = DEFAULT_LIMITS) -> ClipProbe:
    """Read through a file and describe its video.

    Args:
        path: the file. Its type is read from its content, never from its name.
        limits: clips with more frames or larger ones are refused.

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
        if pixels > limits.pixels:
            reason = (
                f"has frames of {pixels} pixels, more than {limits.pixels}; {limit_hint('pixels')}"
            )
            raise VideoUnreadable(path, reason)
        declared = declared_frames(stream, info.demuxer)
        scan, checker, end_seconds = _StreamScan(path, stream), PacketChecker(path, stream), 0.0
        with translate_errors(path, "is damaged"):
            for packet in container.demux():
                if packet.size and packet.pts is not None and packet.time_base:
                    packet_end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    end_seconds = max(end_seconds, packet_end)
                if packet.stream_index != stream.index:
                    continue
                number = scan.n_packets
                scan.record(packet)
                if scan.n_packets > limits.frames:
                    reason = f"has more than {limits.frames} frames; {limit_hint('frames')}"
                    raise VideoUnreadable(path, reason)
                checker.check(number, packet)
        if scan.first_frame is None:
            reason = CUT_REASON if scan.starts_mid_stream else "holds no frame that can be decoded"
            raise VideoUnreadable(path, reason)
        declared = max(declared, declared_frames(stream, info.demuxer))
        check_frame_count(path, declared, scan.n_packets)
        if info.demuxer == MATROSKA:
            check_duration(path, container, end_seconds)
        return _build_probe(info.demuxer, scan, container, scan.first_frame)


def is_shown_before(packet: Packet[Any], time: int | None) -> bool:
    """Return whether a packet is shown before a time; False where either has none."""
    return time is not None and packet.pts is not None and packet.pts < time


def _build_probe(
    demuxer: str, scan: _StreamScan, container: InputContainer, first_frame: RgbImage
) -> ClipProbe:
    stream, codec = scan.stream, scan.stream.codec_context
    # "av1", where `name` would be that of one of its decoders
    codec_name = getattr(codec.codec, "canonical_name", codec.name)
    pixel_format = codec.pix_fmt or "unknown"
    times = tuple(sorted(scan.times))
    doubts = {
        f"container {demuxer}": demuxer not in (MOV, MATROSKA),
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
        gaps: bool(gaps) and demuxer not in DEMUXERS_WITH_LENGTH,
    }
    return ClipProbe(
        path=scan.path,
        demuxer=demuxer,
        width=codec.width,
        height=codec.height,
        frame_count=scan.n_shown,
        times=() if scan.n_untimed else times,
        first_frame=first_frame,
        decord_doubts=tuple(doubt for doubt, applies in doubts.items() if applies),
        starts_mid_stream=scan.starts_mid_stream,
        decodable_from=scan.start_time
        if scan.n_leading and codec_name in _UNDECODABLE_LEADING
        else None,
        notes=tuple(note for note, applies in notes.items() if applies),
    )
