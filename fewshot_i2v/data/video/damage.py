"""Damage that decoders conceal even when they are told to stop at it.

Three signs are looked for beside the decoder's own errors:

- what FFmpeg says of a file while it reads on: parts of a Matroska file that are no part of its
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
_SIGNS = (
    ("matroska", "invalid as first byte of an EBML number"),
    ("matroska", "inside parent with finite size"),
    ("matroska", "exceeds containing master element"),
    ("matroska", "Invalid track number"),
    ("mov", "Sample size"),
    ("hevc", "CABAC_MAX_BIN"),
    ("mpeg4", "header damaged"),
)
# the standards forbid them within a coded picture: they would look like the start of the next
_FORBIDDEN = re.compile(rb"\0\0[\0-\2]")
_SECOND = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Refuse a file if FFmpeg tells of damage in it while it is read.

    Args:
        path: the file that is read in this thread, for the message.

    Raises:
        VideoUnreadable: at the end, if it was read without an error nevertheless.
    """
    import av

    level, brief = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # what was said of the file before is said again of this one
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=True) as said:
            yield
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(brief)
    for _, who, text in said:
        if any(who.startswith(source) and sign in text for source, sign in _SIGNS):
            words = text.strip().splitlines()[0]
            raise VideoUnreadable(
                path, f"is damaged: parts of it are missing or overwritten (FFmpeg: {words})"
            )


class PacketCheck:
    """Looks at the packets of a stream, one after the other.

    Args:
        path: the file, for messages.
        stream: its video stream.
    """

    def __init__(self, path: Path, stream: VideoStream) -> None:
        self._path = path
        codec = stream.codec_context
        extra = bytes(codec.extradata or b"")
        # units with their length in front; without this header they have marks between them
        place = {"h264": 4, "hevc": 21}.get(codec.name)
        counted = place is not None and extra[:1] == b"\1" and len(extra) > place
        self._width = (extra[place] & 3) + 1 if counted and place is not None else 0
        self._hevc = codec.name == "hevc"
        self._second = _second_decoder(codec.name, extra)

    def look(self, number: int, packet: Packet[Any]) -> None:
        """Look at one packet.

        Args:
            number: of the packet, for the message.
            packet: with data, or the empty one at the end.

        Raises:
            VideoUnreadable: if it is damaged.
        """
        import av

        if self._width and _overwritten(bytes(packet), self._width, hevc=self._hevc):
            raise VideoUnreadable(self._path, f"is damaged: picture {number} is overwritten")
        if self._second is not None:
            try:
                self._second.decode(packet)
            except av.FFmpegError as error:
                words = f"libvpx: {error.strerror}"
                reason = f"is damaged: picture {number} cannot be decoded ({words})"
                raise VideoUnreadable(self._path, reason) from error


def _second_decoder(name: str, extra: bytes) -> Any:  # noqa: ANN401 - typed differently by release
    import av

    if name not in _SECOND or _SECOND[name] not in av.codec.codecs_available:
        return None
    decoder: Any = av.CodecContext.create(_SECOND[name], "r")
    decoder.thread_count = 1
    if extra:
        decoder.extradata = extra
    return decoder


def _overwritten(data: bytes, width: int, *, hevc: bool) -> bool:
    """Whether a coded picture holds bytes that it cannot hold."""
    start = 0
    while start + width < len(data):
        end = start + width + int.from_bytes(data[start : start + width], "big")
        start += width
        # 32 on in HEVC, 6 on in H.264: no pictures but notes, which some programs write carelessly
        picture = data[start] >> 1 & 63 < 32 if hevc else 1 <= data[start] & 31 <= 5
        if picture:
            found = _FORBIDDEN.search(data, start, end)
            # zeros at the end are padding
            if found and data[found.start() : end].strip(b"\0"):
                return True
        start = end
    return False
