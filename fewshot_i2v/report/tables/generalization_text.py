"""Intervals for other clips, groups, classes and training seeds as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_i2v.report.analysis.generalization import (
    GeneralizationIntervals,
    answered_questions,
)
from fewshot_i2v.report.tables.interval_text import (
    EMPTY,
    format_ends,
    join_covers,
    methods_by_label,
)
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.report.tables.table_notes import shots_text
from fewshot_i2v.utils.text_table import WIDTH, align_columns, display_width, wrap_notes

_FEWEST_QUESTIONS, _MAX_QUESTIONS = 2, 3
"""Columns of intervals beside the names of rows: always so many, and where names are short."""


def generalization_text(
    rows: Sequence[GeneralizationIntervals], gains: Sequence[GeneralizationIntervals]
) -> str:
    """Format intervals of accuracies and of gains as aligned plain text, with what each covers.

    There is a column of heads where rows have short names of heads.
    """
    lines = _table(rows, "accuracy %", "{:.2f}")
    if gains:
        lines += ["", *_table(gains, "over frozen", "{:+z.2f}")]
    all_rows = [*rows, *gains]
    notes = ["Intervals are 95 %, in percent; each answers its own question."]
    notes += [coverage_note(question, rows, gains) for question in answered_questions(all_rows)]
    return "\n".join([*lines, "", *wrap_notes(notes)])


def coverage_note(
    question: str,
    rows: Sequence[GeneralizationIntervals],
    gains: Sequence[GeneralizationIntervals] = (),
) -> str:
    """Note on how the intervals for a question were computed, and what they cover.

    Where not all were computed alike, it says which rows, or whether gains, were not.
    """
    of_rows = [(_row_label(row, rows), row.intervals[question])
               for row in rows if question in row.intervals]  # fmt: skip
    of_gains = [("gains", gain.intervals[question])
                for gain in gains if question in gain.intervals]  # fmt: skip
    methods = [methods_by_label(labelled) for labelled in (of_rows, of_gains) if labelled]
    text = methods[0]
    if len(methods) > 1 and methods[1] != methods[0]:
        text += f"; of gains: {methods[1]}"
    return f"{question}: {text}. {join_covers(interval for _, interval in (*of_rows, *of_gains))}"


def _row_label(row: GeneralizationIntervals, rows: Sequence[GeneralizationIntervals]) -> str:
    """Name of a row for a note, with its head and shots where rows differ in these."""
    head = f"head {row.head}" if len({other.head for other in rows}) > 1 else ""
    shot = shots_text(row.shot) if len({other.shot for other in rows}) > 1 else ""
    details = ", ".join(filter(None, (head, shot)))
    return row.name + (f" ({details})" if details else "")


def _table(rows: Sequence[GeneralizationIntervals], heading: str, form: str) -> list[str]:
    columns = {
        "row": [row.name for row in rows],
        "head": [row.head for row in rows],
        "shot": [str(row.shot) for row in rows],
        heading: [form.format(100 * row.mean) for row in rows],
    }
    if not any(columns["head"]):
        del columns["head"]
    names, questions = [*columns][:-1], answered_questions(rows)
    for question in questions:
        intervals = [row.intervals.get(question) for row in rows]
        columns[question] = [format_ends(interval, form) or EMPTY for interval in intervals]
    fits = max(map(display_width, align_columns(columns, LEFT_COLUMNS))) <= WIDTH
    if len(questions) <= _FEWEST_QUESTIONS or (fits and len(questions) <= _MAX_QUESTIONS):
        return align_columns(columns, LEFT_COLUMNS, WIDTH)
    # more columns of intervals leave the names no room: they follow in a table of their own
    first = [*names, heading, *questions[:_FEWEST_QUESTIONS]]
    lines = []
    for headings in (first, [*names, *questions[_FEWEST_QUESTIONS:]]):
        shown = {h: columns[h] for h in headings}
        lines += ["", *align_columns(shown, LEFT_COLUMNS, WIDTH)]
    return lines[1:]
