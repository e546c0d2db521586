"""The tables of a section: accuracy, calibration, generalization and frame order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import log

from fewshot_i2v.report.analysis.frame_order import CHANGED_ORDERS, LossesByRow
from fewshot_i2v.report.analysis.generalization import THESE_CLIPS, answered_questions
from fewshot_i2v.report.analysis.report_data import LEVEL, ReportRow, ReportSection
from fewshot_i2v.report.analysis.run_analysis import CalibrationMetrics
from fewshot_i2v.report.tables.accuracy_table import (
    ACCURACY_HEADING,
    accuracy_table,
    interval_cell,
)
from fewshot_i2v.report.tables.decision_text import RowPhrases
from fewshot_i2v.report.tables.generalization_text import coverage_note
from fewshot_i2v.report.tables.interval_text import (
    EMPTY,
    format_ends,
    format_signed,
    join_covers,
    join_methods,
)
from fewshot_i2v.report.tables.table import Table, TableCell, number_cell
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import DEFAULT_BINS
from fewshot_i2v.utils.text_table import count_text

_NAME_HEADINGS = ("adapter", "start", "head", "shot")
_EMPTY_CELL = TableCell(EMPTY)
_GAIN_HEADING = "over frozen, other clips"
_BALANCED_NOTE = (
    "balanced %: mean over the classes of the share of their query clips that were right; every "
    "class counts the same, however often it was drawn."
)
_ECE_NOTE = (
    f"ECE %: expected calibration error, which says whether a row is as often right as it is sure. "
    f"Predictions are sorted by their confidence into {DEFAULT_BINS} bins from 0 to 100 %; in each "
    "bin the mean confidence is compared with the share that was right, and these gaps are "
    "averaged over all predictions. 0 means that 8 of 10 predictions made with 80 % confidence are "
    "right."
)
_CHANCE_NOTE = (
    "by chance %: about what ECE would be for a perfectly calibrated row with these confidences. "
    "Chance alone opens gaps, the larger the fewer predictions there are, so ECE is too high with "
    "few of them; near this value it says nothing against a row, and rows with different numbers "
    "of predictions cannot be compared by it."
)
_OVERCONFIDENCE_NOTE = (
    "over-confident: mean confidence less the share of right predictions, in points; above 0 a row "
    "is surer than it is right, below 0 less sure."
)
_SEEDS_NOTE = (
    "Rows of several training seeds: ECE, its interval and by chance are means over the seeds, so "
    "more seeds do not lower them as more episodes do; predictions, and what is said of confidence "
    "and truth below, are of all seeds together."
)
_LOSS_HEADINGS = {
    "shuffled": "lost when shuffled",
    "reversed": "lost when reversed",
    "single": "lost with one frame",
}
_LOSS_NOTE = (
    "lost: accuracy with the frames in their natural order less that of the same row with its "
    "frames in another order, in points, over the episodes that both have; above 0 the row rests "
    "on what was taken from it. Support and query clips are changed alike and rows are tuned on "
    "what they are shown."
)
_ORDER_NOTES = {
    "shuffled": "shuffled: each clip's frames in a random order of its own.",
    "reversed": (
        "reversed: all clips backwards, which a head that compares frames in order need not notice."
    ),
    "single": (
        "one frame: each frame replaced by the middle one of its clip; a head that compares frames "
        "with their mean has nothing left then."
    ),
}


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of a row's reliability curve that is not empty.

    Attributes:
        row: position of the row in its section.
        lower: lower end of the bin, 0..1.
        upper: upper end of the bin, 0..1.
        count: predictions in it.
        confidence: their mean confidence, 0..1.
        accuracy: share of them that is right, 0..1.
    """

    row: int
    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def section_tables(
    section: ReportSection,
    losses: LossesByRow,
    *,
    hidden: Collection[str] = (),
) -> list[Table]:
    """The table of accuracies of a section, and those that follow it where they say anything.

    The columns of names `hidden` are left out.
    """
    table = accuracy_table(section.summaries, way=section.way, chance=section.chance)
    columns = {heading: cells for heading, cells in table.columns.items() if heading not in hidden}
    table = replace(table, columns=columns, notes=[*table.notes, *section.stopping_notes])
    further_tables = (
        _calibration_table(section, table),
        _generalization_table(section, table),
        _frame_order_table(section, table, losses),
    )
    return [table, *filter(None, further_tables)]


def _calibration_table(section: ReportSection, table: Table) -> Table | None:
    """Table of balanced accuracy and calibration of each row; None where no episode succeeded."""
    metrics = [row.metrics for row in section.rows]
    available = [m for m in metrics if m is not None]
    if not available:
        return None
    interval_heading = f"{100 * LEVEL:g} % interval"

    def _column(cell_of: Callable[[CalibrationMetrics], TableCell]) -> list[TableCell]:
        return [_EMPTY_CELL if m is None else cell_of(m) for m in metrics]

    columns = {
        **_name_columns(table, range(len(metrics))),
        "balanced %": _column(lambda m: _number_cell(100 * m.balanced, "{:.2f}")),
        "ECE %": _column(lambda m: _number_cell(100 * m.ece.mean, "{:.2f}")),
        interval_heading: _column(lambda m: _ends_cell(m.ece, "{:.2f}")),
        "by chance %": _column(lambda m: _number_cell(100 * m.by_chance, "{:.2f}")),
        "over-confident": _column(
            lambda m: number_cell(format_signed(m.over_confident), m.over_confident)
        ),
        "log loss": _column(lambda m: _number_cell(m.log_loss, "{:.3f}")),
        "Brier": _column(lambda m: _number_cell(m.brier, "{:.3f}")),
        "predictions": _column(lambda m: _number_cell(m.predictions, "{:,.0f}")),
    }
    caption = "Balanced accuracy and calibration of every row"
    notes = _calibration_notes(section, available, interval_heading)
    return Table(columns, notes, "Beyond accuracy", caption)


def _calibration_notes(
    section: ReportSection, metrics: Sequence[CalibrationMetrics], interval_heading: str
) -> list[str]:
    covers = join_covers(m.ece for m in metrics)
    notes = [
        _BALANCED_NOTE,
        _ECE_NOTE,
        _CHANCE_NOTE,
        f"{interval_heading}: of ECE, {metrics[0].ece.method}. {covers}",
        _OVERCONFIDENCE_NOTE,
    ]
    scores_note = "log loss and Brier score judge confidence and truth together; lower is better."
    if isinstance(section.way, int):
        guess = log(section.way), 1 - 1 / section.way
        scores_note += " Guessing gives {:.3f} and {:.3f}.".format(*guess)
    notes.append(scores_note)
    if any(m.unresolved for m in metrics):
        max_unresolved = max(m.unresolved for m in metrics)
        labels = count_text(max_unresolved, "label")
        have, count = ("has", "it counts") if max_unresolved == 1 else ("have", "they count")
        notes.append(
            f"Records have probabilities to 6 decimals, and up to {labels} of a row {have} one of "
            f"0: {count} as 0.0000005, so its log loss is at least what the table says."
        )
    if any(row.summary.seed_means for row in section.rows):
        notes.append(_SEEDS_NOTE)
    return notes


def reliability_bins(rows: Sequence[ReportRow]) -> list[ReliabilityBin]:
    """Bins of every row's reliability curve that are not empty."""
    bins = []
    for position, row in enumerate(rows):
        if row.metrics is None:
            continue
        curve = row.metrics.curve
        columns = (curve.lower, curve.upper, curve.count, curve.confidence, curve.accuracy)
        lines = zip(*(column.tolist() for column in columns), strict=True)
        bins += [ReliabilityBin(position, *line) for line in lines if line[2]]
    return bins


def _frame_order_table(section: ReportSection, table: Table, losses: LossesByRow) -> Table | None:
    """Table of what each row loses in other frame orders; None where no row was run in another."""
    positions = [i for i, row in enumerate(section.rows) if row in losses]
    if not positions:
        return None
    row_losses = [losses[section.rows[i]] for i in positions]
    orders = [
        order for order in CHANGED_ORDERS if any(order in intervals for intervals in row_losses)
    ]
    columns = {
        **_name_columns(table, positions),
        ACCURACY_HEADING: [table.columns[ACCURACY_HEADING][i] for i in positions],
        **{
            _LOSS_HEADINGS[order]: [
                interval_cell(intervals.get(order), "{:+z.1f}") for intervals in row_losses
            ]
            for order in orders
        },
    }
    intervals = list(chain.from_iterable(intervals.values() for intervals in row_losses))
    notes = [_LOSS_NOTE, *(_ORDER_NOTES[order] for order in orders)]
    notes.append(
        f"±: {100 * LEVEL:g} %, {intervals[0].method} over episodes. "
        f"{join_covers(intervals)} The intervals are not adjusted for the number of rows."
    )
    caption = "What rows lose with their frames in another order, in points"
    return Table(columns, notes, "Order of frames", caption)


def _generalization_table(section: ReportSection, table: Table) -> Table | None:
    """Table of intervals for other clips, classes and seeds; None where there are none."""
    row_intervals = [row.generalization for row in section.rows]
    available = [generalization for generalization in row_intervals if generalization is not None]
    if not available:
        return None
    questions = [
        question
        for question in answered_questions(available)
        if any(format_ends(r.intervals.get(question)) for r in available)
    ]
    gains = [section.verdicts[0].get(i) for i in range(len(row_intervals))]
    gain_cells = [None if gain is None else gain.other_clips for gain in gains]
    gain_intervals = [interval for interval in gain_cells if interval is not None]
    with_gains = any(map(format_ends, gain_intervals))
    if set(questions) <= {THESE_CLIPS} and not with_gains:
        return None  # that is the table of accuracies once more
    columns = {
        **_name_columns(table, range(len(row_intervals))),
        ACCURACY_HEADING: table.columns[ACCURACY_HEADING],
    }
    for question in questions:
        columns[question] = [
            _ends_cell(None if r is None else r.intervals.get(question)) for r in row_intervals
        ]
    phrases = RowPhrases.of(section.summaries)
    named = [
        replace(intervals, name=phrases.join([i]))
        for i, intervals in enumerate(row_intervals)
        if intervals is not None
    ]
    notes = [f"Intervals of the accuracy in percent, {100 * LEVEL:g} %; each has its own question."]
    notes += [coverage_note(question, named) for question in questions]
    if with_gains:
        columns[_GAIN_HEADING] = [_ends_cell(interval, "{:+z.1f}") for interval in gain_cells]
        notes.append(
            f"{_GAIN_HEADING}: of the gain over frozen, in points; {join_methods(gain_intervals)}. "
            f"{join_covers(gain_intervals)}"
        )
    return Table(columns, notes, "How far it reaches", "Accuracy for other clips and classes")


def _name_columns(table: Table, positions: Sequence[int]) -> dict[str, list[TableCell]]:
    headings = [heading for heading in _NAME_HEADINGS if heading in table.columns]
    return {heading: [table.columns[heading][i] for i in positions] for heading in headings}


def _number_cell(value: float, form: str) -> TableCell:
    return number_cell(form.format(value), value)


def _ends_cell(interval: Interval | None, form: str = "{:.1f}") -> TableCell:
    ends = format_ends(interval, form)
    return number_cell(ends, interval.low) if interval is not None and ends else _EMPTY_CELL
