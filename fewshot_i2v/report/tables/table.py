"""A table of results with its notes, and its text for a terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import align_columns, wrap_notes

LEFT_COLUMNS = frozenset({"adapter", "start", "head", "names", "row", "against"})
"""Columns of text, which are aligned to the left; the others hold numbers."""
_TEX_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "^": r"\textasciicircum{}", "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%",
    "±": r"$\pm$", "−": "$-$", "…": r"\ldots{}", "†": r"\dag{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


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

    def to_latex(self, caption: str) -> str:
        """Format it as a LaTeX table with the notes in its caption; needs the package booktabs."""
        alignments = "".join("l" if heading in LEFT_COLUMNS else "r" for heading in self.columns)
        head = " & ".join(map(_escape_tex, self.columns))
        body = [" & ".join(map(_escape_tex_cell, line)) + r" \\" for line in self.lines]
        notes = " ".join(map(_escape_tex, self.notes))
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{_escape_tex(caption)} {notes}}}",
                rf"  \begin{{tabular}}{{{alignments}}}",
                r"    \toprule",
                rf"    {head} \\",
                r"    \midrule",
                *(f"    {line}" for line in body),
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
            ]
        )


def markdown_lines(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table from escaped cells; names are aligned to the left."""
    rules = ["---" if heading in LEFT_COLUMNS else "--:" for heading in headings]
    return ["| " + " | ".join(line) + " |" for line in (headings, rules, *lines)]


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _escape_tex_cell(text: str) -> str:
    """Escape a cell; the hyphen before a number is a minus sign, that in a name is none."""
    return _escape_tex(re.sub(r"(?<![\w.-])-(?=\d)", "−", text))


def _escape_tex(text: str) -> str:
    return "".join(_TEX_ESCAPES.get(c, c) for c in " ".join(text.split()))
