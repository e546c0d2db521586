"""The text output of `fewshot-i2v learning-curve`: answers, two tables, and how to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fewshot_i2v.report.plan.learning_curves import LearningCurves, RowCurve
from fewshot_i2v.report.tables.interval_text import EMPTY
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.statistics.learning_curve import (
    FASTEST,
    MAX_FACTOR,
    WINDOW,
    ExpectedAccuracy,
    NeededShots,
)
from fewshot_i2v.utils.text_table import WIDTH, align_columns, count_text, wrap_notes, wrap_text

_FASTEST = f"{FASTEST:g} times as fast"


def render_learning_curves(curves: LearningCurves) -> str:
    """Formats learning curves as plain text: what was measured, what is expected, the answers."""
    lines = [*wrap_notes([", ".join([curves.title, *curves.legend])]), ""]
    if curves.target is not None:
        lines += [*_bullets([_answer(row, curves) for row in curves.rows]), ""]
    for heading, columns in _tables(curves):
        lines += [*wrap_notes([heading]), "", *align_columns(columns, LEFT_COLUMNS, WIDTH), ""]
    return "\n".join([*lines, *_bullets([*_notes(curves), *curves.remarks])])


def _bullets(sentences: Sequence[str]) -> list[str]:
    return [line for text in sentences for line in wrap_text(text, first="- ", hanging="  ")]


def _answer(row: RowCurve, curves: LearningCurves) -> str:
    """Says how many clips per class reach the target."""
    target, last = f"{100 * (curves.target or 0):g} %", row.last
    if row.reached is not None:
        accuracy = next(point.accuracy for point in row.points if point.shot == row.reached)
        doubt = "" if row.is_shown else ", of which the interval does not make sure"
        return (
            f"{_name(row)}: {count_text(row.reached, 'clip')} of each class reach {target} "
            f"({_percent(accuracy.mean)} %{doubt})."
        )
    start = (
        f"{_name(row)}: {_percent(last.accuracy.mean)} % with {count_text(last.shot, 'clip')} of "
        f"each class; {target}"
    )
    if row.needed is None:
        return f"{start} is not reached."
    return f"{start} {_needed_phrase(row.needed)}."


def _needed_phrase(needed: NeededShots) -> str:
    if needed.least is None:
        return f"takes more than {needed.limit}, even if it grows {_FASTEST} as so far"
    if needed.expected is None:
        return (
            f"takes more than {needed.limit} if it grows as so far, at least {needed.least} if it "
            f"grows {_FASTEST}"
        )
    if needed.expected == needed.least:
        return f"takes about {needed.expected} if it grows as so far"
    return (
        f"takes about {needed.expected} if it grows as so far, at least {needed.least} if it grows "
        f"{_FASTEST}"
    )


def _tables(curves: LearningCurves) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The tables with their headings: measured, then expected."""
    shots = sorted({point.shot for row in curves.rows for point in row.points})
    cells = [
        {point.shot: _percent(point.accuracy.mean) for point in row.points} for row in curves.rows
    ]
    columns = {str(shot): [row.get(shot, EMPTY) for row in cells] for shot in shots}
    yield "Measured accuracy %, by labelled clips of each class", _names(curves.rows) | columns
    grown = [row for row in curves.rows if row.expected]
    expected = _names(grown)
    for i, factor in enumerate((2, MAX_FACTOR)):
        values = [row.expected[i] for row in grown]
        one_shot = len({value.shot for value in values}) == 1
        expected[f"{values[0].shot}" if one_shot else f"{factor} x the most"] = [
            _expected_cell(value, with_shot=not one_shot) for value in values
        ]
    yield "Expected accuracy % [may be], beyond the clips that were measured", expected


def _names(rows: Sequence[RowCurve]) -> dict[str, list[str]]:
    """The first columns of a table: the rows, and their heads where these differ."""
    columns = {"row": [row.adapter for row in rows]}
    return (
        columns | {"head": [row.head for row in rows]} if any(row.head for row in rows) else columns
    )


def _name(row: RowCurve) -> str:
    """Name of a row in a sentence, as in those of the table of results."""
    head = "plain head" if row.head == EMPTY else row.head
    return row.adapter + (f" ({head})" if head else "")


def _expected_cell(value: ExpectedAccuracy, *, with_shot: bool) -> str:
    text = f"{_percent(value.mean)} [{_percent(value.low)}, {_percent(value.high)}]"
    return f"{value.shot}: {text}" if with_shot else text


def _notes(curves: LearningCurves) -> Iterator[str]:
    """How to read the tables, and what is assumed."""
    half_widths = [
        point.accuracy.half_width
        for row in curves.rows
        for point in row.points
        if point.accuracy.half_width is not None
    ]
    if half_widths:
        yield (
            f"Measured: means over episodes, each to ± {100 * max(half_widths):.1f} points or less "
            f"({100 * curves.level:g} %, for these clips)."
        )
    yield (
        f"Expected: the growth over the last {WINDOW} numbers of clips goes on, as a straight line "
        "of the log-odds of the accuracy over the logarithm of the clips."
    )
    yield (
        f"[may be]: from no further growth to growth {_FASTEST}, and what so few episodes "
        "leave open. Growth often slows down: where clips are not what is missing, no number of "
        f"them is enough. Nothing is said of more than {MAX_FACTOR} times the most clips that were "
        "measured."
    )
    if curves.most_shots is not None and curves.most_shots < MAX_FACTOR * curves.measured_shots:
        yield (
            f"The classes of this split have clips for at most {curves.most_shots} beside the "
            "query clips; more have to be labelled first."
        )
    yield "New clips must be like these: other people or places may need more."


def _percent(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.1f}"
