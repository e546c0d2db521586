"""Detection of H.264 streams that start with an IDR picture, which needs no earlier picture."""

from __future__ import annotations

import re
from collections.abc import Iterator

_IDR = 5


def has_idr_picture(packet: bytes, extradata: bytes | None) -> bool:
    """Return whether a packet holds an IDR picture; no later picture refers to one before it.

    Other key frames only promise that pictures shown after them can be decoded; the stream may
    still refer to pictures before them. Complete files begin with an IDR picture, copies that were
    cut out of a longer file often do not.

    Args:
        packet: the coded picture.
        extradata: the stream setup stored in the container. An `avcC` record gives the size of the
            length fields of the units; without one, start codes separate the units.

    Returns:
        Whether one of its units (ITU-T H.264, 7.3.1) is of type 5.
    """
    return any(unit_type == _IDR for unit_type in _unit_types(packet, extradata or b""))


def _unit_types(packet: bytes, extradata: bytes) -> Iterator[int]:
    if len(extradata) < 5 or extradata[0] != 1:
        for match in re.finditer(b"\x00\x00\x01(.)", packet, re.DOTALL):
            yield match[1][0] & 31
        return
    length_bytes = (extradata[4] & 3) + 1
    offset = 0
    while offset + length_bytes < len(packet):
        yield packet[offset + length_bytes] & 31
        offset += length_bytes + int.from_bytes(packet[offset : offset + length_bytes], "big")
