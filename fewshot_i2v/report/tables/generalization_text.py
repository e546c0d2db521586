"""Intervals for other clips, groups, classes and training seeds as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_i2v.report.analysis.generalization import (
    GeneralizationIntervals,
    answered_questions,
)
from fewshot_i2v.report.tables.interval_text import EMPTY, format_ends, join_covers, join_methods
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.utils.text_table import WIDTH, align_columns, wrap_notes

_MAX_QUESTIONS = 3
"""Columns of intervals beside the names of rows."""


def generalization_text(
    rows: Sequence[GeneralizationIntervals], gains: Sequence[GeneralizationIntervals]
) -> str:
    """Format intervals of accuracies and of gains as aligned plain text, with what each covers."""
    lines = _table(rows, "accuracy %", "{:.2f}")
    if gains:
        lines += ["", *_table(gains, "over frozen", "{:+z.2f}")]
    all_rows = [*rows, *gains]
    notes = ["Intervals are 95 %, in percent; each answers its own question."]
    notes += [coverage_note(question, all_rows) for question in answered_questions(all_rows)]
    return "\n".join([*lines, "", *wrap_notes(notes)])


def coverage_note(question: str, rows: Sequence[GeneralizationIntervals]) -> str:
    """Note on how the intervals for a question were computed, and what they cover."""
    intervals = [row.intervals[question] for row in rows if question in row.intervals]
    return f"{question}: {join_methods(intervals)}. {join_covers(intervals)}"


def _table(rows: Sequence[GeneralizationIntervals], heading: str, form: str) -> list[str]:
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        heading: [form.format(100 * row.mean) for row in rows],
    }
    names, questions = ("row", "shot"), answered_questions(rows)
    for question in questions:
        intervals = [row.intervals.get(question) for row in rows]
        columns[question] = [format_ends(interval, form) or EMPTY for interval in intervals]
    if len(questions) <= _MAX_QUESTIONS:
        return align_columns(columns, LEFT_COLUMNS, WIDTH)
    # more columns of intervals leave the names no room: they follow in a table of their own
    first = [*names, heading, *questions[:2]]
    lines = []
    for headings in (first, [*names, *questions[2:]]):
        shown = {h: columns[h] for h in headings}
        lines += ["", *align_columns(shown, LEFT_COLUMNS, WIDTH)]
    return lines[1:]
