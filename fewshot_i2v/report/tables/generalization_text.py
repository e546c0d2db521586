"""Intervals for other clips, groups, classes and training seeds as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_i2v.report.analysis.generalization import (
    QUESTIONS,
    GeneralizationIntervals,
    coverage_note,
)
from fewshot_i2v.report.tables.interval_text import EMPTY, format_ends
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.utils.text_table import align_columns, wrap_notes


def generalization_text(
    rows: Sequence[GeneralizationIntervals], gains: Sequence[GeneralizationIntervals]
) -> str:
    """Format intervals of accuracies and of gains as aligned plain text, with what each covers.

    Args:
        rows: in the order to show them.
        gains: over the frozen encoder, where there are any.

    Returns:
        The text, without a newline at the end.
    """
    lines = _table(rows, "accuracy %", "{:.2f}")
    if gains:
        lines += ["", *_table(gains, "over frozen", "{:+z.2f}")]
    all_rows = [*rows, *gains]
    notes = ["Intervals are 95 %, in percent; each answers its own question."]
    questions = [key for key in QUESTIONS if any(key in row.intervals for row in all_rows)]
    notes += [coverage_note(question, all_rows) for question in questions]
    return "\n".join([*lines, "", *wrap_notes(notes)])


def _table(rows: Sequence[GeneralizationIntervals], heading: str, form: str) -> list[str]:
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        heading: [form.format(100 * row.mean) for row in rows],
    }
    for question in QUESTIONS:
        if any(question in row.intervals for row in rows):
            intervals = [row.intervals.get(question) for row in rows]
            columns[question] = [format_ends(interval, form) or EMPTY for interval in intervals]
    return align_columns(columns, LEFT_COLUMNS)
