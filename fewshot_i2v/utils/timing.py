"""Measuring how long something takes, and writing times for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter

LONG_SECONDS = 0.5
"""A call that takes longer is measured once."""


def best_seconds(run: Callable[[], object], calls: int = 2) -> float:
    """Measures a call twice and returns the shorter time in seconds: the first call warms up.

    A call that takes longer than half a second is not repeated.

    Args:
        run: returns when all is computed, also on a GPU.
        calls: how often it is measured, at least once.
    """
    seconds: list[float] = []
    while len(seconds) < calls and (not seconds or seconds[0] < LONG_SECONDS):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return min(seconds)


def format_seconds(seconds: float) -> str:
    """Formats a time in the largest unit that fits: "0.7 s", "82 s", "12 min" or "3.5 h"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_age(seconds: float) -> str:
    """Formats how long ago something was: "just now", "5 min ago", "3 h ago" or "12 days ago"."""
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), round(seconds / 86_400)
    if minutes < 1:
        return "just now"
    if minutes < 100:
        return f"{minutes} min ago"
    return f"{hours} h ago" if hours < 48 else f"{days} days ago"


_AGE = re.compile(r"(\d+)\s*(h|d|w)")
_UNIT_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


def parse_age(text: str) -> int:
    """Parses an age in hours, days or weeks, such as "12h", "30d" or "8w", into seconds.

    Raises:
        ValueError: for anything else.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected hours, days or weeks, such as 12h, 30d or 8w")
    return int(match[1]) * _UNIT_SECONDS[match[2]]
