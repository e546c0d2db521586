"""Aligned columns, wrapped notes and lists of names for a terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest

_GAP = "  "
_HANGING = " "
"""Before the further lines of a cell."""
_BREAKS = re.compile(r"(?<=[ ,:/])")
"""Where a cell may be broken: after these signs."""
_MIN_TEXT, _MIN_LAST = 8, 24
"""Least width of a wrapped column, and of a last column that is not put on lines of its own."""
WIDTH = 80
"""Columns of a terminal that tables and notes are made for."""


def align_columns(
    columns: Mapping[str, Sequence[str]], left_aligned: Collection[str], width: int | None = None
) -> list[str]:
    """Format the lines of a table with a rule below the headings.

    Args:
        columns: cells by heading, top to bottom.
        left_aligned: headings of the columns that are aligned to the left; the others are aligned
            to the right.
        width: terminal columns that the table must fit: long cells of columns that are aligned to
            the left go on in lines below; None: each cell is one line.
    """
    widths = {
        heading: max(map(display_width, (heading, *cells))) for heading, cells in columns.items()
    }
    if width is not None:
        limit = width - len(_GAP) * (len(widths) - 1)
        text_columns = {h: cells for h, cells in columns.items() if h in left_aligned}
        for least in (_longest_word, _least_width):  # words are broken where nothing else helps
            _narrow(widths, {h: least(h, cells) for h, cells in text_columns.items()}, limit)
    padded_columns = []
    for heading, cells in columns.items():
        lines_by_cell = [_wrap_cell(cell, widths[heading]) for cell in (heading, *cells)]
        column_width = max(display_width(line) for lines in lines_by_cell for line in lines)
        padded_columns.append(
            [
                [_pad(line, column_width, left=heading in left_aligned) for line in lines]
                for lines in (lines_by_cell[0], ["-" * column_width], *lines_by_cell[1:])
            ]
        )
    return [
        _GAP.join(
            cell or " " * len(column[1][0])
            for cell, column in zip(line, padded_columns, strict=True)
        ).rstrip()
        for row in zip(*padded_columns, strict=True)
        for line in zip_longest(*row, fillvalue="")
    ]


def _longest_word(heading: str, cells: Sequence[str]) -> int:
    words = [word.rstrip() for cell in cells for word in _BREAKS.split(cell)]
    return max(map(display_width, (heading, *(_HANGING + word for word in words))))


def _least_width(heading: str, _cells: Sequence[str]) -> int:
    return max(_MIN_TEXT, len(heading))


def _narrow(widths: dict[str, int], least: Mapping[str, int], limit: int) -> None:
    """Make the widest of some columns narrower, until all together fit, or none can be narrower."""
    while sum(widths.values()) > limit:
        wide = {heading: widths[heading] for heading in least if widths[heading] > least[heading]}
        if not wide:
            return
        widths[max(wide, key=lambda heading: wide[heading])] -= 1


def _wrap_cell(text: str, width: int) -> list[str]:
    """Break a cell after spaces, commas, colons and slashes, and a longer word anywhere."""
    if display_width(text) <= width:
        return [text]  # with the spaces that align numbers
    lines, line = [], ""
    for word in _BREAKS.split(text):
        rest = word
        if line.strip() and display_width((line + rest).rstrip()) > width:
            lines.append(line.rstrip())
            line = _HANGING
        while display_width((line + rest).rstrip()) > width:
            n_fitting = next(
                n
                for n in range(len(rest), 0, -1)
                if n == 1 or display_width(line + rest[:n]) <= width
            )
            lines.append(line + rest[:n_fitting])
            line, rest = _HANGING, rest[n_fitting:]
        line += rest
    return [*lines, line.rstrip()]


def _pad(text: str, width: int, *, left: bool) -> str:
    space = " " * (width - display_width(text))
    return text + space if left else space + text


def wrap_last_column(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Format rows with aligned columns; the last one is text that is wrapped at spaces.

    Beside wide columns it begins on a line of its own.
    """
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)][:-1]
    margin = len(indent) + sum(widths) + len(_GAP) * len(widths)
    below = WIDTH - margin < _MIN_LAST and any(
        margin + display_width(row[-1]) > WIDTH for row in rows
    )
    lines = []
    for *cells, text in rows:
        start = indent + "".join(
            _pad(cell, width, left=True) + _GAP for cell, width in zip(cells, widths, strict=True)
        )
        hanging = " " * (len(indent) + 4 if below else margin)
        lines += [start.rstrip()] if below else []
        wrapped = wrap_text(text, first=hanging if below else start, hanging=hanging)
        lines += wrapped or ([] if below else [start.rstrip()])
    return lines


def display_width(text: str) -> int:
    """Number of terminal columns that a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def wrap_text(text: str, width: int = WIDTH, *, first: str = "", hanging: str = "") -> list[str]:
    """Wrap text at its spaces into lines that begin with `first`, later ones with `hanging`."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )


def wrap_notes(notes: Iterable[str]) -> list[str]:
    """Wrap notes into lines that fit below a table."""
    return [line for note in notes for line in wrap_text(note)]


def bullet_lines(sentences: Iterable[str]) -> list[str]:
    """Wrap sentences into lines of a list, each sentence behind a dash."""
    return [line for text in sentences for line in wrap_text(text, first="- ", hanging="  ")]


def unique_sentences(paragraphs: Iterable[str]) -> list[str]:
    """Split paragraphs into sentences, each once, in order of first appearance."""
    return list(
        dict.fromkeys(
            sentence for paragraph in paragraphs for sentence in re.split(r"(?<=\.) ", paragraph)
        )
    )


def count_text(count: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun: "1 clip", "2 clips", "1,200 classes".

    Args:
        count: at least 0.
        noun: for one.
        plural: for more; empty: the noun with "s", or "es" after s, x, ch or sh.
    """
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count:,} {noun if count == 1 else plural or noun + ending}"


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
