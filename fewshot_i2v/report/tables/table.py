"""A table of results with its notes, and its text for a terminal and Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import align_columns, wrap_notes

LEFT_COLUMNS = frozenset({"", "adapter", "start", "head", "names", "row", "against"})
"""Columns of text, which are aligned to the left; the others hold numbers."""


@dataclass(frozen=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: its text.
        value: sort key: a number as text, or empty where it is sorted by its text.
        interval: what it shows, where that is a mean with its interval.
    """

    text: str
    value: str = ""
    interval: Interval | None = None


def number_cell(text: str, value: float | None, interval: Interval | None = None) -> TableCell:
    """A cell that is sorted by a number."""
    return TableCell(text, "" if value is None else f"{value:.9g}", interval)


@dataclass(frozen=True)
class Table:
    """A table with its notes.

    Attributes:
        columns: cells by heading, top to bottom.
        notes: what headings mean and intervals cover, a sentence or two each.
        title: its name; empty for the main table of a section.
        caption: a few words on its content.
    """

    columns: Mapping[str, Sequence[TableCell]]
    notes: Sequence[str]
    title: str = ""
    caption: str = ""

    @property
    def lines(self) -> list[list[str]]:
        """Text of its cells, row by row."""
        columns = [[cell.text for cell in cells] for cells in self.columns.values()]
        return [list(line) for line in zip(*columns, strict=True)]

    def to_text(self) -> str:
        """Align the cells as plain text, with the notes below."""
        columns = {
            heading: [cell.text for cell in cells] for heading, cells in self.columns.items()
        }
        return "\n".join([*align_columns(columns, LEFT_COLUMNS), "", *wrap_notes(self.notes)])

    def to_markdown(self) -> list[str]:
        """Format table and notes as two blocks of Markdown."""
        lines = [[escape_markdown(cell) for cell in line] for line in self.lines]
        notes = "\n".join(f"- {escape_markdown(note)}" for note in self.notes)
        return ["\n".join(markdown_lines(list(self.columns), lines)), notes]


def markdown_lines(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table from escaped cells; names are aligned to the left."""
    rules = ["---" if heading in LEFT_COLUMNS else "--:" for heading in headings]
    return ["| " + " | ".join(line) + " |" for line in (headings, rules, *lines)]


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
