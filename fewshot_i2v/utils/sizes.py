"""Sizes of files, for people."""

from __future__ import annotations

import re

_STEP = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_BYTES: dict[str, int] = {unit.lower(): _STEP**i for i, unit in enumerate(_UNITS)} | {
    f"{letter}ib": 1024**i for i, letter in enumerate("kmgtp", start=1)
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)


def format_size(size: int) -> str:
    """Formats a number of bytes in the largest decimal unit that fits: "640 B" or "1.2 GB"."""
    value, position = float(size), 0
    while value >= _STEP - 0.5 and position < len(_UNITS) - 1:
        value, position = value / _STEP, position + 1
    return (
        f"{value:.1f} {_UNITS[position]}"
        if 0 < value < 9.95 and position
        else (f"{value:.0f} {_UNITS[position]}")
    )


def parse_size(text: str) -> int:
    """Parses a size with its unit, such as 20GB or 1.5 TiB, into bytes.

    Raises:
        ValueError: for anything else, also a number without a unit, which could mean any.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError("expected a size with a unit, such as 20GB, 500MB or 16GiB")
    return round(float(match[1]) * _BYTES[match[2].lower()])
