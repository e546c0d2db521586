"""Aligned columns and wrapped notes for a terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

_GAP = "  "
_NOTE_WIDTH = 100


def aligned(columns: Mapping[str, Sequence[str]], lefts: Collection[str]) -> list[str]:
    """Lines of a table with a rule below the headings.

    Args:
        columns: cells by heading, top to bottom.
        lefts: headings of the columns that are aligned to the left; the others are to the right.
    """
    padded = []
    for heading, cells in columns.items():
        width = max(_width(cell) for cell in (heading, *cells))
        sides = [
            cell + " " * (width - _width(cell))
            if heading in lefts
            else " " * (width - _width(cell)) + cell
            for cell in (heading, *cells)
        ]
        padded.append([sides[0], "-" * width, *sides[1:]])
    return [_GAP.join(line).rstrip() for line in zip(*padded, strict=True)]


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def wrapped(notes: Iterable[str]) -> list[str]:
    """Notes as lines that fit below a table."""
    wrap = textwrap.TextWrapper(_NOTE_WIDTH, break_on_hyphens=False).wrap
    return [part for line in notes for part in wrap(line)]


def sentences(texts: Iterable[str]) -> list[str]:
    """Each sentence once, in order of first appearance."""
    return list(dict.fromkeys(s for text in texts for s in re.split(r"(?<=\.) ", text)))


_LONGEST_NAME = 60


def escaped(name: str) -> str:
    """A name as one printable line: control and direction marks shown as escapes, long ones cut.

    Args:
        name: anything.

    Returns:
        At most 60 characters, the last one "…" where something was cut.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in name[: _LONGEST_NAME + 1]
    )
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"
