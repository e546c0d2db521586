"""Text of files and names on its way to a terminal: no sign of it acts on the terminal.

A name of a clip, a tensor or a host can hold sequences that clear the screen, colour what follows
or turn the order of letters around. They are shown as escapes; letters of all languages stay.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# control signs but tab and newline, line separators, and what turns the direction of writing
_ACTING = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def printable(text: str) -> str:
    r"""Text with escapes for the signs that act on a terminal; JSON and quoted YAML stay valid.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _ACTING.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < 0x20 else f"\\u{number:04x}"


class _Printing:
    """A stream that writes what `printable` gives.

    Args:
        stream: what it writes to.
    """

    color = False
    """click leaves the escaping to this stream."""
    encoding = "utf-8"
    """click writes past a stream that says less; what the stream itself lacks becomes an escape."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes text; the number of its characters."""
        self.stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Lets everything that is written to standard output and error go through `printable`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Printing(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def terminal() -> TextIO:
    """Standard error for what moves the cursor itself, such as a bar."""
    stream: TextIO = getattr(sys.stderr, "stream", sys.stderr)
    return stream
