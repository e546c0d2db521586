"""Aligned columns, wrapped notes and lists of names for a terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

_GAP = "  "
WIDTH = 80
"""Columns of a terminal that tables and notes are made for."""


def align_columns(columns: Mapping[str, Sequence[str]], left_aligned: Collection[str]) -> list[str]:
    """Format the lines of a table with a rule below the headings.

    Args:
        columns: cells by heading, top to bottom.
        left_aligned: headings of the columns that are aligned to the left; the others are aligned
            to the right.
    """
    padded_columns = []
    for heading, cells in columns.items():
        width = max(display_width(cell) for cell in (heading, *cells))
        padded_cells = [
            cell + " " * (width - display_width(cell))
            if heading in left_aligned
            else " " * (width - display_width(cell)) + cell
            for cell in (heading, *cells)
        ]
        padded_columns.append([padded_cells[0], "-" * width, *padded_cells[1:]])
    return [_GAP.join(line).rstrip() for line in zip(*padded_columns, strict=True)]


def display_width(text: str) -> int:
    """Number of terminal columns that a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def wrap_notes(notes: Iterable[str]) -> list[str]:
    """Wrap notes into lines that fit below a table."""
    wrap = textwrap.TextWrapper(WIDTH, break_on_hyphens=False, break_long_words=False).wrap
    return [line for note in notes for line in wrap(note)]


def unique_sentences(paragraphs: Iterable[str]) -> list[str]:
    """Split paragraphs into sentences, each once, in order of first appearance."""
    return list(
        dict.fromkeys(
            sentence for paragraph in paragraphs for sentence in re.split(r"(?<=\.) ", paragraph)
        )
    )


def join_names(names: Sequence[str], max_shown: int = 3) -> str:
    """Join the first names of a list with commas, and count those that are not shown."""
    more_note = f" and {len(names) - max_shown} more" if len(names) > max_shown else ""
    return ", ".join(names[:max_shown]) + more_note


def join_with_and(names: Sequence[str], max_shown: int = 3) -> str:
    """Join names for a sentence, "a, b and c"; of many the first, and how many more there are."""
    if len(names) > max_shown + 1:
        return f"{', '.join(names[:max_shown])} and {len(names) - max_shown} more rows"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


_MAX_NAME_LENGTH = 60


def escape_name(name: str, max_length: int = _MAX_NAME_LENGTH) -> str:
    """Escape a name as one printable line: control and direction marks as escapes, long ones cut.

    Args:
        name: any text.
        max_length: at least 1.

    Returns:
        At most `max_length` characters, the last one "…" where something was cut.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in name[: max_length + 1]
    )
    return shown if len(shown) <= max_length else shown[: max_length - 1] + "…"
