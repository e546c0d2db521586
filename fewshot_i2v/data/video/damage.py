"""Detection of damage that decoders conceal even when they are set to stop at it.

Three signs are checked in addition to the decoder's own errors:

- FFmpeg's log messages while it reads on: bytes in a Matroska file that do not belong to its
  structure, and pictures that ran out of data;
- H.264 and HEVC pictures with bytes that the coding never writes, which is what a hole full of
  zeros leaves;
- for VP8 and VP9, whose FFmpeg decoders notice almost nothing, the verdict of libvpx.

Also here, since it reads the same units: whether an H.264 picture needs no earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import VideoUnreadable

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# where FFmpeg only warns: by who says it, what it says of damaged files and of no other
_DAMAGE_MESSAGES = (
    ("matroska", "invalid as first byte of an EBML number"),
    ("matroska", "inside parent with finite size"),
    ("matroska", "exceeds containing master element"),
    ("matroska", "Invalid track number"),
    ("mov", "Sample size"),
    ("hevc", "CABAC_MAX_BIN"),
    ("mpeg4", "header damaged"),
)
# the standards forbid them within a coded picture: they would look like the start of the next
_FORBIDDEN_BYTES = re.compile(rb"\0\0[\0-\2]")
_UNIT_MARK = re.compile(rb"\0\0\x01(.)", re.DOTALL)
_IDR_PICTURE = 5  # type of a unit, ITU-T H.264, 7.3.1
_SECOND_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def check_ffmpeg_log(path: Path) -> Iterator[None]:
    """Refuse a file if FFmpeg logs damage while it is read.

    Args:
        path: the file that is read in this thread, for the message.

    Raises:
        VideoUnreadable: at the end, if FFmpeg logged damage but the read raised no error.
    """
    import av

    level, skip_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # what was said of the file before is said again of this one
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=True) as messages:
            yield
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip_repeated)
    for _, component, message in messages:
        if any(
            component.startswith(source) and sign in message for source, sign in _DAMAGE_MESSAGES
        ):
            first_line = message.strip().splitlines()[0]
            raise VideoUnreadable(
                path, f"is damaged: parts of it are missing or overwritten (FFmpeg: {first_line})"
            )


class PacketChecker:
    """Checks the packets of a stream for damage, one after another."""

    def __init__(self, path: Path, stream: VideoStream) -> None:
        codec = stream.codec_context
        extradata = bytes(codec.extradata or b"")
        self._path = path
        self._length_bytes = _length_bytes(codec.name, extradata)
        self._hevc = codec.name == "hevc"
        self._second_decoder = _open_second_decoder(codec.name, extradata)

    def check(self, number: int, packet: Packet[Any]) -> None:
        """Check one packet.

        Args:
            number: of the packet, for the message.
            packet: with data, or the empty one at the end.

        Raises:
            VideoUnreadable: if it is damaged.
        """
        import av

        if self._length_bytes and self._has_forbidden_bytes(bytes(packet)):
            raise VideoUnreadable(self._path, f"is damaged: picture {number} is overwritten")
        if self._second_decoder is not None:
            try:
                self._second_decoder.decode(packet)
            except av.FFmpegError as error:
                detail = f"libvpx: {error.strerror}"
                reason = f"is damaged: picture {number} cannot be decoded ({detail})"
                raise VideoUnreadable(self._path, reason) from error

    def _has_forbidden_bytes(self, data: bytes) -> bool:
        """Return whether a coded picture holds bytes that the coding forbids."""
        for start, end in _units(data, self._length_bytes):
            # 32 on in HEVC, 6 on in H.264: no pictures but notes, which some programs write
            # carelessly
            is_picture = data[start] >> 1 & 63 < 32 if self._hevc else 1 <= data[start] & 31 <= 5
            match = _FORBIDDEN_BYTES.search(data, start, end) if is_picture else None
            # zeros at the end are padding
            if match and data[match.start() : end].strip(b"\0"):
                return True
        return False


def has_idr_picture(packet: bytes, extradata: bytes) -> bool:
    """Return whether an H.264 packet holds an IDR picture: no later one refers to one before it.

    Other key frames only promise that pictures shown after them can be decoded; the stream may
    still refer to pictures before them. Complete files begin with an IDR picture, copies that were
    cut out of a longer file often do not.

    Args:
        packet: the coded picture.
        extradata: the stream setup stored in the container.
    """
    length_bytes = _length_bytes("h264", extradata)
    if length_bytes:
        headers = [packet[start] for start, _ in _units(packet, length_bytes)]
    else:
        headers = [match[1][0] for match in _UNIT_MARK.finditer(packet)]
    return any(header & 31 == _IDR_PICTURE for header in headers)


def _length_bytes(codec_name: str, extradata: bytes) -> int:
    """Return the bytes of the length in front of each unit; 0: marks separate them, or no units."""
    position = {"h264": 4, "hevc": 21}.get(codec_name)
    if position is None or extradata[:1] != b"\1" or len(extradata) <= position:
        return 0
    return (extradata[position] & 3) + 1


def _units(data: bytes, length_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each unit of a coded picture."""
    start = length_bytes
    while start < len(data):
        end = start + int.from_bytes(data[start - length_bytes : start], "big")
        yield start, end
        start = end + length_bytes


def _open_second_decoder(codec_name: str, extradata: bytes) -> Any:  # noqa: ANN401 - typed differently by release
    import av

    name = _SECOND_DECODERS.get(codec_name)
    if name not in av.codec.codecs_available:
        return None
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.thread_count = 1
    if extradata:
        decoder.extradata = extradata
    return decoder
