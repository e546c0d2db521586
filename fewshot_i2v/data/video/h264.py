"""Whether an H.264 stream begins at a picture that needs nothing before it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_IDR = 5


def begins_anew(packet: bytes, setup: bytes | None) -> bool:
    """Tell whether a packet holds an IDR picture, at which nothing before it is referred to.

    Other key frames only promise that pictures shown after them can be decoded; the stream may go
    on to speak of pictures before them. Whole files begin with an IDR picture, copies that were cut
    out of a longer file often do not.

    Args:
        packet: the coded picture.
        setup: what the container says of the stream (extradata). An `avcC` record says how long the
            lengths of the units are; without one, units are told apart by start codes.

    Returns:
        Whether one of its units (ITU-T H.264, 7.3.1) is of type 5.
    """
    return any(kind == _IDR for kind in _unit_types(packet, setup or b""))


def _unit_types(packet: bytes, setup: bytes) -> Iterator[int]:
    if len(setup) < 5 or setup[0] != 1:
        for mark in re.finditer(b"\x00\x00\x01(.)", packet, re.DOTALL):
            yield mark[1][0] & 31
        return
    width = (setup[4] & 3) + 1
    at = 0
    while at + width < len(packet):
        yield packet[at + width] & 31
        at += width + int.from_bytes(packet[at : at + width], "big")
