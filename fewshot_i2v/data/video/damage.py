"""Detection of damage that decoders conceal even when they are set to stop at it.

Three signs are checked in addition to the decoder's own errors:

- FFmpeg's log messages while it reads on: bytes in a Matroska file that do not belong to its
  structure, and pictures that ran out of data;
- H.264 and HEVC pictures with bytes that the coding never writes, which is what a hole full of
  zeros leaves;
- for VP8 and VP9, whose FFmpeg decoders notice almost nothing, the verdict of libvpx.
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
    """Checks the packets of a stream for damage, one after another.

    Args:
        path: the file, for messages.
        stream: its video stream.
    """

    def __init__(self, path: Path, stream: VideoStream) -> None:
        self._path = path
        codec = stream.codec_context
        extradata = bytes(codec.extradata or b"")
        # units with their length in front; without this header they have marks between them
        length_position = {"h264": 4, "hevc": 21}.get(codec.name)
        has_lengths = (
            length_position is not None
            and extradata[:1] == b"\1"
            and len(extradata) > length_position
        )
        self._length_bytes = (
            (extradata[length_position] & 3) + 1
            if has_lengths and length_position is not None
            else 0
        )
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

        if self._length_bytes and _has_forbidden_bytes(
            bytes(packet), self._length_bytes, hevc=self._hevc
        ):
            raise VideoUnreadable(self._path, f"is damaged: picture {number} is overwritten")
        if self._second_decoder is not None:
            try:
                self._second_decoder.decode(packet)
            except av.FFmpegError as error:
                detail = f"libvpx: {error.strerror}"
                reason = f"is damaged: picture {number} cannot be decoded ({detail})"
                raise VideoUnreadable(self._path, reason) from error


def _open_second_decoder(codec_name: str, extradata: bytes) -> Any:  # noqa: ANN401 - typed differently by release
    import av

    if (
        codec_name not in _SECOND_DECODERS
        or _SECOND_DECODERS[codec_name] not in av.codec.codecs_available
    ):
        return None
    decoder: Any = av.CodecContext.create(_SECOND_DECODERS[codec_name], "r")
    decoder.thread_count = 1
    if extradata:
        decoder.extradata = extradata
    return decoder


def _has_forbidden_bytes(data: bytes, length_bytes: int, *, hevc: bool) -> bool:
    """Return whether a coded picture holds bytes that the coding forbids."""
    start = 0
    while start + length_bytes < len(data):
        end = start + length_bytes + int.from_bytes(data[start : start + length_bytes], "big")
        start += length_bytes
        # 32 on in HEVC, 6 on in H.264: no pictures but notes, which some programs write carelessly
        is_picture = data[start] >> 1 & 63 < 32 if hevc else 1 <= data[start] & 31 <= 5
        if is_picture:
            match = _FORBIDDEN_BYTES.search(data, start, end)
            # zeros at the end are padding
            if match and data[match.start() : end].strip(b"\0"):
                return True
        start = end
    return False
