"""Escape control characters in text from files and names before it reaches a terminal.

The name of a clip, a tensor or a host can hold sequences that clear the screen, colour the text
after them or reverse the direction of writing. They are escaped; letters of all languages stay.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# control signs but tab and newline, line separators, and what turns the direction of writing
_CONTROL_CHARACTERS = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def printable(text: str) -> str:
    r"""Text with escapes for the signs that act on a terminal; JSON and quoted YAML stay valid.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _CONTROL_CHARACTERS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code_point = ord(match.group())
    return f"\\x{code_point:02x}" if code_point < 0x20 else f"\\u{code_point:04x}"


class _PrintableStream:
    """A stream that escapes with `printable`."""

    color = False
    """click leaves the escaping to this stream."""
    encoding = "utf-8"
    """click writes past a stream that says less; what the stream itself lacks becomes an escape."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text; return its character count."""
        self.stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Pass everything written to standard output and error through `printable`."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_PrintableStream(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def terminal_stream() -> TextIO:
    """Standard error for moving the cursor, as progress bars do."""
    stream: TextIO = getattr(sys.stderr, "stream", sys.stderr)
    return stream
